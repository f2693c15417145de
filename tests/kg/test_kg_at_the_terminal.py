"""`trlm ask --graph`: a person at the terminal decides, and a configuration says the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from kg_kit import graph_file

from terraphim_rlm.core.errors import ConfigInvalid
from terraphim_rlm.guard.settings import HOOKS, configured_guard, read_guard_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from cli_kit import trlm
from test_cli_terminal import Terminal


def script(folder: Path, *replies: str) -> str:
    path = folder / "script.jsonl"
    path.write_text("".join(json.dumps({"reply": reply}) + "\n" for reply in replies))
    return f"scripted:{path}"


def four_tries(folder: Path) -> str:
    unknown = [f"```python\nprint({number}, 'frobnicator')\n```" for number in range(4)]
    insists = ["```python\nFINAL('over')\n```"] * 3  # an answer from nothing that was read is asked about
    return script(folder, *unknown, *insists)


def question(folder: Path, *more: str) -> list[str]:
    text = folder / "input.txt"
    text.write_text("x" * 200_000)
    return [
        "ask",
        "Why?",
        str(text),
        "--model",
        four_tries(folder),
        "--graph",
        str(graph_file(folder)),
        *more,
    ]


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("key", "ran", "said"), [(b"y\n", True, "yes"), (b"\n", False, "no"), (b"never\n", False, "no")]
)
def test_a_person_at_the_terminal_decides_and_only_yes_is_a_yes(
    tmp_path: Path, key: bytes, ran: bool, said: str
) -> None:
    terminal = Terminal(*question(tmp_path), data=tmp_path, env={"TERM": "dumb"})
    terminal.until(rb"Let it run\? y or N \(no after ")
    assert b"frobnicator: It is no known term." in terminal.said
    terminal.press(key)
    assert terminal.end() == 0
    assert f"? {said}: a person said {said}".encode() in terminal.said
    assert (b"python 4: ok" in terminal.said) is ran


@pytest.mark.sandbox
def test_the_live_tree_stands_still_while_a_person_is_asked(tmp_path: Path) -> None:
    terminal = Terminal(*question(tmp_path), data=tmp_path)
    terminal.until(rb"Let it run\? y or N")
    asked = len(terminal.said)
    terminal._read()
    assert len(terminal.said) == asked, "nothing is drawn over the question"
    terminal.press(b"yes\n")
    assert terminal.end() == 0
    assert b"over" in terminal.said[asked:]


@pytest.mark.sandbox
def test_without_a_terminal_the_command_ends_with_the_error_that_says_who_is_missing(tmp_path: Path) -> None:
    ended = trlm(*question(tmp_path, "--json"), data=tmp_path)
    assert ended.returncode == 10
    [error] = json.loads(ended.stdout)["errors"]
    assert error["code"] == "E504"
    assert error["details"]["unknown"] == ["frobnicator"]
    assert "ask in a terminal" in error["fix"]
    ended = trlm(*question(tmp_path, "--strictness", "permissive", "--json"), data=tmp_path)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["data"]["text"] == "over"


def configured(text: str) -> None:
    from terraphim_rlm.core.paths import config_file

    config_file().write_text(text)


def test_the_configuration_names_graph_strictness_retries_and_hooks(tmp_path: Path) -> None:
    configured(
        f'[guard]\ngraph = "{graph_file(tmp_path)}"\nstrictness = "strict"\nleast_ratio = 0.2\nretries = 1\n'
        'ask_seconds = 5\nhooks = ["output_sanitizer", "dependency_injector"]\n'
    )
    guard = configured_guard()
    assert guard.library is not None
    assert (guard.library.path.name, guard.retries, guard.asking) == ("web.kg.json", 1, None)
    assert guard.hooks.names == ("output_sanitizer", "dependency_injector")
    asking = configured_guard(ask=lambda _: True).asking
    assert asking is not None
    assert asking.seconds == 5.0


def test_each_built_in_hook_is_called_as_it_is_configured() -> None:
    assert {name: make().name for name, make in HOOKS.items()} == {name: name for name in HOOKS}


def test_without_a_configuration_nothing_is_looked_up() -> None:
    guard = configured_guard()
    assert (guard.library, guard.hooks.names, guard.retries) == (None, (), 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guard = 1", "must be a table"),
        ("[guard]\ngrahp = 'x'", "no key 'grahp'"),
        ("[guard]\ngraph = 1", "must be a path"),
        ("[guard]\nhooks = 'x'", "list of names"),
        ("[guard]\nhooks = ['x']", "no built-in hook 'x'"),
        ("[guard]\nretries = -1", "retries must be"),
        ("[guard]\nstrictness = 'harsh'\ngraph = 'x'", "strictness must be"),
        ("[guard]\nask_seconds = 0", "ask_seconds must be"),
        ("[guard", "cannot be read"),
    ],
)
def test_what_a_configuration_cannot_say_is_refused_by_name(text: str, said: str) -> None:
    configured(text)
    with pytest.raises(ConfigInvalid, match=said):
        configured_guard(ask=lambda _: False)
    if "key" in said:
        with pytest.raises(ConfigInvalid):
            read_guard_settings()
