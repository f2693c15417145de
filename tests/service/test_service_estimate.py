"""What a question would cost: the way it would go and a bound that holds, without a model or a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.core.errors import InvalidArgument, KeyMissing, PathNotFound
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.service.ask import AskRequest
from terraphim_rlm.service.estimate import Estimate, estimate
from terraphim_rlm.service.runs import list_runs

pytestmark = pytest.mark.anyio


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "replies.jsonl"
    path.write_text('{"reply": "Paris"}\n')
    return f"scripted:{path}"


async def of(model: str, *paths: Path, **options: Any) -> Estimate:
    return await estimate(AskRequest("Which?", tuple(map(str, paths)), model=model, **options))


async def test_a_small_input_would_be_one_call_whose_prompt_is_known_beforehand(
    tmp_path: Path, script: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The capital is Paris. " * 50)
    found = await of(script, path)
    answer = await Rlm(open_model(script)).ask("Which?", path)

    assert (found.way, found.most_calls, found.input_files, found.input_bytes) == ("direct", 1, 1, 1100)
    assert answer.usage.tokens_in == found.first_prompt_tokens
    assert answer.usage.tokens <= (found.most_tokens or 0)


async def test_a_large_one_would_go_in_turns_up_to_the_limits(tmp_path: Path, script: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 50_000)
    found = await of(script, path, limits=Limits(tokens=70_000, calls=12))

    assert (found.way, found.most_tokens, found.most_calls, found.most_microdollars) == (
        "loop",
        70_000,
        12,
        0,
    )
    assert (await of(script, path, limits=Limits(tokens=None))).most_tokens is None


@pytest.mark.sandbox
async def test_the_first_prompt_of_turns_is_what_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 50_000)
    replies = tmp_path / "r.jsonl"
    replies.write_text('{"reply": "FINAL(x)"}\n' * 2)
    limits = Limits(turns=1)
    found = await of(f"scripted:{replies}", path, limits=limits)
    answer = await Rlm(open_model(f"scripted:{replies}"), limits=limits).ask("Which?", path)

    assert abs(answer.usage.tokens_in - found.first_prompt_tokens) <= 2


@pytest.mark.parametrize(
    ("model", "limits", "most", "known"),
    [
        ("openai/gpt-5", Limits(tokens=100_000), 1_000_000, True),
        ("openai/gpt-5", Limits(tokens=100_000, dollars=0.25), 250_000, True),
        ("openai/gpt-5", Limits(tokens=None, dollars=0.25), 250_000, True),
        ("openai/gpt-5", Limits(tokens=None), None, True),
        ("openai/never-heard-of", Limits(), None, False),
        ("openai/never-heard-of", Limits(dollars=0.5), 500_000, False),
        ("openai/never-heard-of", Limits(tokens=1_000, unpriced="maximum"), 600_000, False),
        ("ollama/llama3.3:70b", Limits(), 0, True),
    ],
)
async def test_money_is_bounded_by_the_dearest_tokens_and_by_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, limits: Limits, most: int | None, known: bool
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.delenv("TRLM_FORBID_NETWORK_MODELS")
    path = tmp_path / "a.txt"
    path.write_text("word " * 50_000)
    found = await of(model, path, limits=limits)
    assert (found.most_microdollars, found.price_known) == (most, known)


async def test_nothing_is_asked_made_or_written_down(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a sandbox was chosen")

    monkeypatch.setattr("terraphim_rlm.sandbox.selection.choose", never)
    path = tmp_path / "a.txt"
    path.write_text("word " * 50_000)
    await of(script, path)
    assert list_runs() == []


async def test_what_ask_would_refuse_is_refused(
    tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRLM_FORBID_NETWORK_MODELS")
    with pytest.raises(PathNotFound, match="nowhere"):
        await of(script, tmp_path / "nowhere")
    with pytest.raises(KeyMissing):
        await of("openai/gpt-5", tmp_path)
    with pytest.raises(InvalidArgument, match="sandbox"):
        await of(script, tmp_path, sandbox="bubblerap")
