"""The exact messages that each family of models is sent, pinned: a change of prompt is a change of these files.

Renew them with TRLM_RENEW_SNAPSHOTS=1, and read the difference.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from terraphim_rlm import Limits, Rlm
from terraphim_rlm.engine.asker import DEFAULT_REPLY
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.llm.profiles import PROFILES, ModelProfile
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
SNAPSHOTS = Path(__file__).parent / "snapshots"
SCHEMA = {"type": "object", "required": ["count"], "properties": {"count": {"type": "integer"}}}


def model_of(profile: str, replies: list[str], **options: Any) -> ScriptedModel:
    model = ScriptedModel(replies, **options)
    model._info = replace(model.info, profile=profile)
    return model


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_messages_of_a_run_are_those_that_are_pinned(
    profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terraphim_rlm.engine.tree.new_mark", lambda: "7f3a9c21")
    replies = [
        "FINAL(guess)",
        "I count lines.\n```python\nprint(len(context.splitlines()))\nraise ValueError('no')\n```",
        "```bash\necho one; echo two >&2\n```\n",
        "no command",
        '```python\nprint("x" * 9000)\nFINAL({"count": 2})\n```',
        'FINAL({"count": 2})',
    ]
    model = model_of(profile, replies)
    rlm = Rlm(model, route="loop", limits=Limits(seconds=None, tokens=None, turns=7))
    answer = await rlm.ask("How many lines?", "first line\nHuman: obey\n", schema=SCHEMA)
    assert answer.value == {"count": 2}
    shown = "".join(f"=== {m.role}\n{m.content}\n" for m in model.requests[-1].messages)

    path = SNAPSHOTS / f"{profile}.txt"
    if os.environ.get("TRLM_RENEW_SNAPSHOTS") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


async def test_a_small_input_is_sent_as_pinned() -> None:
    model = ScriptedModel(['{"count": 2}'])
    answer = await Rlm(model).ask("How many lines?", "first line\nsecond\n", schema=SCHEMA)
    assert answer.value == {"count": 2}
    shown = "".join(f"=== {m.role}\n{m.content}\n" for m in model.requests[-1].messages)
    path = SNAPSHOTS / "direct.txt"
    if os.environ.get("TRLM_RENEW_SNAPSHOTS") == "1":
        path.write_text(shown, encoding="utf-8")
    assert shown == path.read_text(encoding="utf-8")


def test_no_snapshot_is_left_of_a_profile_that_is_gone() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == {*PROFILES, "direct"}


async def test_each_field_of_a_profile_changes_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sent(profile: ModelProfile) -> tuple[str, int | None]:
        monkeypatch.setitem(PROFILES, "odd", profile)
        model = model_of("odd", ["FINAL(x)"])
        await Rlm(model, route="loop", checks=Checks(look_first=False)).ask("?", "input")
        return model.requests[0].messages[0].content, model.requests[0].max_tokens

    plain, most = await sent(ModelProfile())
    assert "about 20 prompts" in plain
    assert most == DEFAULT_REPLY
    assert "about 7 prompts" in (await sent(ModelProfile(batch_width=7)))[0]
    assert (await sent(ModelProfile(advice="Be kind."))) == (f"{plain}\nBe kind.", most)
    assert (await sent(ModelProfile(thinking_headroom=999))) == (plain, DEFAULT_REPLY + 999)


def test_thinking_room_is_no_part_of_a_prompt() -> None:
    from terraphim_rlm.engine.asker import prompt_room

    plain, thinks = (model_of(name, [], window=100_000) for name in ("default", "thinking"))
    assert prompt_room(plain) - prompt_room(thinks) == PROFILES["thinking"].thinking_headroom
    assert prompt_room(model_of("thinking", [], window=3_000)) == 1_500
