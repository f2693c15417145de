"""A tool call, whatever markup carried it, as the command that it names."""

# ruff: noqa: SIM905 - tables read best as words

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.engine.replies.commands import LANGUAGES, Code, Command, Dropped, Shell

MAX_CALLS = 100
"""Calls in one piece of markup; more are left out."""

_CODE_TOOLS = frozenset(
    "python python3 py ipython repl jupyter code code_interpreter python_interpreter python_repl python_exec "
    "python_tool execute_python run_python exec_python python_execute execute_code run_code code_execution "
    "tool_code interpreter execute_ipython run_ipython".split()
)
_SHELL_TOOLS = frozenset(
    "bash sh shell terminal exec container.exec execute_bash run_bash bash_tool run_shell shell_exec "
    "execute_shell execute_command run_command shell_command exec_command run_terminal_cmd local_shell".split()
)
_CODE_KEYS = ("code", "source", "script", "python", "python_code", "input", "content", "command", "cmd")
_SHELL_KEYS = ("command", "cmd", "commands", "script", "code", "input")
_FENCED = re.compile(r"\s*(`{3,})[\w-]*[ \t]*\n(.*?)\n?\1\s*", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)
_SPACE = re.compile(r"[\s,;]*+")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and what it was given: named arguments, or one text."""

    name: str
    arguments: Mapping[str, Any] | str


def command(call: Call, start: int, end: int) -> Command | Dropped:
    """What `call` asks for."""
    name = call.name.lower().removeprefix("functions.").removeprefix("tools.")
    language = LANGUAGES.get(name) or (
        "python" if name in _CODE_TOOLS else "bash" if name in _SHELL_TOOLS else None
    )
    if language is None:
        return Dropped(start, end, "unknown_tool", call.name[:40])
    arguments = call.arguments
    if isinstance(arguments, Mapping):
        named = arguments.get("language", arguments.get("lang"))
        if isinstance(named, str):
            if named.lower() not in LANGUAGES:
                return Dropped(start, end, "unknown_language", named[:40])
            language = LANGUAGES[named.lower()]
    text = _text(arguments, _SHELL_KEYS if language == "bash" else _CODE_KEYS)
    if not text:
        return Dropped(start, end, "bad_arguments", call.name[:40])
    return Shell(text, start, end) if language == "bash" else Code(language, text, start, end)


def _text(arguments: Mapping[str, Any] | str, keys: tuple[str, ...]) -> str:
    if isinstance(arguments, str):
        return _unfenced(arguments)
    value = next((arguments[key] for key in keys if key in arguments), None)
    if value is None and len(arguments) == 1:
        value = next(iter(arguments.values()))
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return value[2] if len(value) == 3 and value[1] in ("-c", "-lc") else shlex.join(value)
    return _unfenced(value) if isinstance(value, str) else ""


def _unfenced(text: str) -> str:
    """The text of a fence that a model wrote around an argument."""
    found = _FENCED.fullmatch(text)
    return (found[2] if found else text).replace("\r\n", "\n").strip("\n") if text.strip() else ""


def leading_json(text: str, position: int) -> tuple[Any, int] | None:
    """The JSON value at `position` (white space skipped) and the offset after it; None when there is none."""
    start = _SPACE.match(text, position).end()  # type: ignore[union-attr]
    try:
        return _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None


def from_json(text: str) -> list[Call] | str:
    """The calls in `text`: one JSON object, a list, or several in a row; else what is wrong."""
    found: list[Call] = []
    position = 0
    while (position := _SPACE.match(text, position).end()) < len(text):  # type: ignore[union-attr]
        read = leading_json(text, position)
        if read is None:
            return "not JSON"
        made = from_value(read[0])
        if isinstance(made, str):
            return made
        found += made
        position = read[1]
        if len(found) > MAX_CALLS:
            return "too many calls"
    return found or "empty"


def from_value(value: Any) -> list[Call] | str:
    """The calls that a JSON value spells; else what is wrong with it."""
    found: list[Call] = []
    for item in value[: MAX_CALLS + 1] if isinstance(value, list) else [value]:
        if isinstance(item, dict) and isinstance(item.get("function"), dict):
            item = item["function"]  # noqa: PLW2901 - the wire form of OpenAI wraps the same object
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            return "not a call"
        key = next((key for key in ("arguments", "parameters", "input") if key in item), None)
        made = with_arguments(item["name"], item[key] if key else {})
        if isinstance(made, str):
            return made
        found += made
    return found or "empty"


def with_arguments(name: str, arguments: Any) -> list[Call] | str:
    """A call whose arguments are an object, an object written as text, or the code itself."""
    if isinstance(arguments, str):
        read = leading_json(arguments, 0) if arguments.lstrip().startswith("{") else None
        if read is not None and isinstance(read[0], dict) and not arguments[read[1] :].strip():
            return [Call(name, read[0])]
        if arguments.lstrip().startswith('{"'):
            return "not JSON"
        return [Call(name, arguments)]
    return [Call(name, arguments)] if isinstance(arguments, dict) else "arguments are no object"
