"""What a reply asked for, read again from the places that the journal kept, and what a node's model was told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.engine.replies import (
    Final,
    FinalVar,
    Query,
    QueryBatched,
    Rollback,
    Shell,
    Snapshot,
    parse,
)
from terraphim_rlm.service.exports.story import Node, Turn, children_of, text

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A command of a reply."""

    kind: str
    """code, shell, final, final_var, snapshot, rollback, query, query_batched."""
    body: str = ""
    """Code, command line, answer, or name."""
    prompts: tuple[str, ...] = ()
    language: str = "python"


def commands_of(turn: Turn) -> list[Asked]:
    """In the order of the reply."""
    return [_asked(turn.reply or "", command) for command in children_of(turn.parsed, "commands")]


def _asked(reply: str, command: Mapping[str, Any]) -> Asked:
    start, end = command.get("start"), command.get("end")
    kind = text(command, "kind")
    said = reply[start:end] if isinstance(start, int) and isinstance(end, int) else ""
    found = next((each for each in parse(said).commands if each.kind == kind), None)
    if isinstance(found, Shell):
        return Asked(kind, found.command, language="bash")
    if isinstance(found, Final):
        return Asked(kind, found.text)
    if isinstance(found, (FinalVar, Snapshot, Rollback)):
        return Asked(kind, found.name)
    if isinstance(found, Query):
        return Asked(kind, found.prompt, (found.prompt,))
    if isinstance(found, QueryBatched):
        return Asked(kind, "", found.prompts)
    return Asked(kind, said) if found is None else Asked(kind, found.code, language=found.language)


@dataclass(slots=True)
class Stretch:
    """A conversation that was only appended to; compaction begins another one."""

    messages: list[Message]
    turns: list[Turn]
    whole: bool = True
    """False when the journal lacks some of what was told: it was written by an earlier version."""


def stretches(node: Node) -> Iterator[Stretch]:
    """What the node's model saw and said, in order; each ends with a reply, or with what nobody answered."""
    system = next((said for turn in node.turns if (said := text(turn.request, "system"))), "")
    first: list[Message] = [{"role": "system", "content": system}] if system else []
    current = Stretch(list(first), [])
    for turn in node.turns:
        if turn.request.get("compacted") is True and current.turns:
            yield current
            current = Stretch(list(first), [])
        told = text(turn.request, "told")
        current.whole = current.whole and bool(told)
        if told:
            current.messages.append({"role": "user", "content": told})
        current.turns.append(turn)
        if turn.reply is not None:
            current.messages.append({"role": "assistant", "content": heard(turn)})
    if current.turns:
        yield current


def heard(turn: Turn) -> str:
    """A reply as it stands in the transcript: without what the model invented after its code."""
    return text(turn.parsed, "kept") or turn.reply or ""
