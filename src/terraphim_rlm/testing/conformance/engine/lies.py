"""Engines that do one thing wrong: each must fail a case. Wrapped around ours."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from terraphim_rlm.core.values import Resources
from terraphim_rlm.testing.conformance.lies.wrapped import Fault
from terraphim_rlm.testing.conformance.model import Target

FAULTS: list[Fault] = []
_STANDARD = Resources()
Script = dict[str, Any]
Told = dict[str, Any]


class Wrapped:
    """Forwards all; itself the control that wrapping as such breaks no case."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.capabilities = engine.capabilities

    async def ask(self, script: Script) -> Told:
        """Plays a script."""
        told: Told = await self._engine.ask(self.asked(json.loads(json.dumps(script))))
        return self.told(told)

    def asked(self, script: Script) -> Script:
        """What is played in place of a script."""
        return script

    def told(self, told: Told) -> Told:
        """What is said of it."""
        return told


def wrapped(target: Target, kind: Callable[[Any], Any] = Wrapped) -> Target:
    """The target with its engine wrapped."""

    @asynccontextmanager
    async def open_engine(*, resources: Resources = _STANDARD) -> AsyncIterator[Any]:
        async with target.open(resources=resources) as engine:
            yield kind(engine)

    return Target(target.name, open_engine)


def _fault(name: str, *groups: str) -> Callable[[type[Wrapped]], type[Wrapped]]:
    def enter(kind: type[Wrapped]) -> type[Wrapped]:
        FAULTS.append(Fault(name, groups, lambda target: wrapped(target, kind)))
        return kind

    return enter


def _asks(name: str, *groups: str) -> Callable[[Callable[[Script], Any]], None]:
    """A fault that changes what is played, in place."""

    def enter(change: Callable[[Script], Any]) -> None:
        class Lie(Wrapped):
            def asked(self, script: Script) -> Script:
                change(script)
                return script

        _fault(name, *groups)(Lie)

    return enter


def _tells(name: str, *groups: str) -> Callable[[Callable[[Told], Any]], None]:
    """A fault that changes what is said of a script, in place."""

    def enter(change: Callable[[Told], Any]) -> None:
        class Lie(Wrapped):
            def told(self, told: Told) -> Told:
                change(told)
                return told

        _fault(name, *groups)(Lie)

    return enter


def _cells(script: Script, change: Callable[[str], str]) -> None:
    """Changes the code of every cell, and of every block of a written reply."""
    for _, steps in script["turns"]:
        for step in steps:
            if "code" in step:
                step["code"] = change(step["code"])


def _texts(script: Script, change: Callable[[str], str]) -> None:
    for _, steps in script["turns"]:
        for step in steps:
            if "text" in step:
                step["text"] = change(step["text"])


def _messages(told: Told, change: Callable[[str, str], str]) -> None:
    """Changes the text of every message that was sent; gets its role, too."""
    for request in told["requests"]:
        request["messages"] = [[role, change(role, text)] for role, text in request["messages"]]


@_asks("makes every line end the same", "input")
def _(script: Script) -> None:
    text = script["context"].get("text")
    if isinstance(text, str):
        script["context"]["text"] = text.replace("\r\n", "\n").replace("\r", "\n")


@_asks("drops what is no character from the input", "input")
def _(script: Script) -> None:
    text = script["context"].get("text")
    if isinstance(text, str):
        script["context"]["text"] = re.sub(r"[\ud800-\udfff]", "?", text)


@_asks("ends a text at its first NUL", "input")
def _(script: Script) -> None:
    text = script["context"].get("text")
    if isinstance(text, str) and "\0" in text:
        script["context"]["text"] = text.partition("\0")[0] or "x"


@_asks("gives a list or dict as its text", "input")
def _(script: Script) -> None:
    if "json" in script["context"]:
        script["context"] = {"text": json.dumps(script["context"]["json"])}


@_asks("cuts a large input", "input")
def _(script: Script) -> None:
    if "repeat" in script["context"]:
        script["context"]["repeat"][1] //= 2


@_asks("begins each cell with an empty namespace", "state")
def _(script: Script) -> None:
    clear = (
        "for _n in [n for n in globals() if not n.startswith('_') and n not in ('context', 'FINAL', 'answer')"
        " and not callable(globals()[n])]: del globals()[_n]\n"
    )
    _cells(script, lambda code: clear + code)


@_asks("takes back the variables of a cell that failed", "state")
def _(script: Script) -> None:
    _cells(
        script,
        lambda code: (
            f"_kept = dict(globals())\ntry:\n    exec({code!r}, globals())\nexcept BaseException:\n"
            "    [globals().pop(_n) for _n in set(globals()) - set(_kept) - {'_kept'}]\n    raise"
        ),
    )


@_asks("gives functions a namespace of their own cell", "state")
def _(script: Script) -> None:
    _cells(
        script,
        lambda code: f"_cell = dict(globals())\nexec({code!r}, _cell)\nglobals().update(_cell)",
    )


@_asks("runs only what a restricted grammar allows", "state")
def _(script: Script) -> None:
    refused = re.compile(r"^\w+: \w+ =|\] \+=", re.MULTILINE)
    _cells(script, lambda code: "raise SyntaxError('refused')" if refused.search(code) else code)


@_asks("does not show the value of a last expression", "output")
def _(script: Script) -> None:
    _cells(script, lambda code: f"{code}\nNone")


@_asks("knows no await at the top of a cell", "output")
def _(script: Script) -> None:
    _cells(script, lambda code: f"exec({code!r}, globals())")


@_tells("keeps only the head of a long output", "output")
def _(told: Told) -> None:
    _messages(
        told, lambda role, text: re.sub(r"\[\.\. [\d,]+ characters left out.*", "..", text, flags=re.DOTALL)
    )


@_tells("shows an error without its line", "errors")
def _(told: Told) -> None:
    _messages(told, lambda role, text: re.sub(r"line \d+", "", text) if role == "user" else text)


@_tells("sends templates' tokens as they stand", "output")
def _(told: Told) -> None:
    _messages(told, lambda role, text: text + " <|im_start|>")


@_tells("ends the run when a cell leaves the interpreter", "errors")
def _(told: Told) -> None:
    if any("SystemExit" in text for request in told["requests"] for _, text in request["messages"]):
        told["answer"], told["error"] = None, "SystemExit: 3"


@_tells("looks at the clock only between two turns", "time")
def _(told: Told) -> None:
    if told["error"]:
        told["seconds"] += 6


@_asks("runs only blocks with a tag of its own", "replies")
def _(script: Script) -> None:
    _texts(script, lambda text: text.replace("```python", "```text"))


@_asks("ends a block at the first fence that it meets", "replies")
def _(script: Script) -> None:
    _texts(
        script,
        lambda text: text.lstrip("`").partition("```")[0].join(("```", "```")) if "````" in text else text,
    )


@_asks("runs the first block of a reply only", "replies")
def _(script: Script) -> None:
    def first(text: str) -> str:
        end = [found.end() for found in re.finditer(r"^```$", text, re.MULTILINE)]
        return text[: end[0]] if len(end) > 1 else text

    _texts(script, first)


@_asks("runs quoted blocks", "replies")
def _(script: Script) -> None:
    _texts(script, lambda text: re.sub(r"^> ", "", text, flags=re.MULTILINE))


@_asks("runs a block that was cut off", "replies")
def _(script: Script) -> None:
    cut = "```python\nkept = 'half'\nmore = (1,"
    _texts(script, lambda text: f"{cut})\n```" if text == cut else text)


@_asks("takes the word FINAL of a sentence for an answer", "replies")
def _(script: Script) -> None:
    _texts(script, lambda text: re.sub(r"I will call (FINAL\(done\)).*", r"\1", text))


@_tells("keeps what the model invented", "replies")
def _(told: Told) -> None:
    _messages(
        told, lambda role, text: f"{text}\nREPL output:\nINVENTED-OUTPUT" if role == "assistant" else text
    )


@_tells("edits what it has sent before", "transcript")
def _(told: Told) -> None:
    for number, request in enumerate(told["requests"]):
        request["messages"][0][1] += f" (turn {number})"


@_tells("forgets the question", "transcript")
def _(told: Told) -> None:
    _messages(told, lambda role, text: text.replace("what is asked", ".."))


@_tells("gives what it has at its limit as an answer", "transcript")
def _(told: Told) -> None:
    told["error"] = None


@_tells("puts the whole input into its first message", "input")
def _(told: Told) -> None:
    for request in told["requests"]:
        request["messages"][0][1] += "SECRET-IN-THE-MIDDLE"


@_asks("gives the text of a failed call as its answer", "calls")
def _(script: Script) -> None:
    script["subs"] = [
        [text, "Error: 400" if isinstance(reply, dict) else reply] for text, reply in script.get("subs", [])
    ]


@_asks("makes the calls of a batch one after another", "calls")
def _(script: Script) -> None:
    serial = "llm_query_batched = lambda prompts: [llm_query(p) for p in prompts]\n"
    _cells(script, lambda code: serial + code)


@_asks("mixes up the answers of a batch", "calls")
def _(script: Script) -> None:
    mixed = "_b = llm_query_batched\nllm_query_batched = lambda prompts: list(reversed(_b(prompts)))\n"
    _cells(script, lambda code: mixed + code)


@_tells("counts calls after they were made", "calls")
def _(told: Told) -> None:
    told["calls"] += 8


@_asks("sends a prompt of any length", "calls")
def _(script: Script) -> None:
    _cells(script, lambda code: "_q = llm_query\nllm_query = lambda p, **k: _q(p[:1000], **k)\n" + code)


@_asks("lets code choose the model", "calls")
def _(script: Script) -> None:
    _cells(script, lambda code: "_q = llm_query\nllm_query = lambda p, model=None: _q(p)\n" + code)


@_asks("lets a child work in its parent's namespace", "children")
def _(script: Script) -> None:
    for marker, steps in script["turns"][1:]:
        for step in steps:
            step["code"] = "x = 'root'\n" + step.get("code", "") if marker else ""


@_asks("lets an isolated child work in its parent's sandbox", "children")
def _(script: Script) -> None:
    _cells(script, lambda code: code.replace(", isolate=True", ""))


@_tells("lets children print into one stream", "children")
def _(told: Told) -> None:
    sent = [each["messages"][-1] for each in told["requests"] if each["who"] == "CHILD-7f"]
    lines = [line for _, text in sent for line in text.splitlines() if line.startswith("tag")]
    for message in sent:
        if "tag" in message[1]:
            message[1] = "\n".join(lines[::6])
