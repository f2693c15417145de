"""The tree of the page: nodes that hold turns, turns that hold cells, cells that hold sub-calls and child nodes."""

from __future__ import annotations

import json

from terraphim_rlm.service.exports.parts import (
    Room,
    badge,
    joined,
    line,
    money,
    plural,
    seconds,
    shown,
    tokens,
)
from terraphim_rlm.service.exports.story import Call, Cell, Data, Node, Story, Turn, children_of, text

_MOST_CALLS = 50
_MOST_VALUE = 4_000


class Branches:
    """Draws the nodes of a run; their names are `n0`, `n1` .. in the order of the timeline."""

    def __init__(self, story: Story, room: Room) -> None:
        self._story = story
        self._room = room
        self._names = {id(node): f"n{at}" for at, node in enumerate(story.nodes())}

    def html(self) -> str:
        return "".join(self._node(root, open_=True) for root in self._story.roots) or "<p>Nothing yet.</p>"

    def _node(self, node: Node, *, open_: bool = False) -> str:
        placed: set[int] = set()
        inner = [self._cell(cell, node, placed) for cell in node.loose]
        inner += [self._turn(turn, node, placed) for turn in node.turns]
        inner.append(self._calls(node.calls))
        inner += [self._node(child) for child in node.children if id(child) not in placed]
        inner += [_complaint(error) for error in node.errors]
        about = joined(
            f"depth {node.depth}",
            plural(len(node.turns), "turn"),
            plural(len(node.all_calls), "sub-call") if node.all_calls else "",
            f"{tokens(node.usage)}",
            money(node.usage.microdollars) if node.usage.microdollars else "",
            seconds(node.finished - node.started) if node.finished is not None else "",
        )
        end = badge(node.termination.replace("_", " ") or "no end", "" if node.termination else "warn")
        return (
            f'<details class="node" id="{self._names[id(node)]}"{" open" if open_ else ""}><summary>'
            f'<span class="what">{line(node.question or self._story.summary.question or "run")}</span>'
            f'<span class="about">{shown(about)}</span>{end}</summary><div class="in">{"".join(inner)}</div></details>'
        )

    def _turn(self, turn: Turn, node: Node, placed: set[int]) -> str:
        room = self._room
        inner = [
            _folded(
                "Told",
                room.pre("system", text(turn.request, "system"))
                + room.pre("message", text(turn.request, "told")),
            ),
            room.pre("reply", turn.reply or "")
            if turn.reply is not None
            else '<p class="said warn">No reply came.</p>',
            *(f'<p class="said warn">{shown(each)}</p>' for each in _remarks(turn)),
            *(self._cell(cell, node, placed) for cell in turn.cells),
        ]
        took = "" if turn.answered is None else seconds(turn.answered - turn.asked)
        about = joined(
            took, tokens(turn.usage), money(turn.usage.microdollars) if turn.usage.microdollars else ""
        )
        bad = [cell.status for cell in turn.cells if cell.status != "ok"]
        marks = "".join(badge(status.replace("_", " "), "bad") for status in bad[:3])
        return (
            f'<details id="{self._names[id(node)]}t{turn.number}"><summary><span class="what turn">Turn {turn.number}</span>'
            f'<span class="what code">{line(_gist(turn), 90)}</span><span class="about">{shown(about)}</span>{marks}</summary>'
            f'<div class="in">{"".join(inner)}</div></details>'
        )

    def _cell(self, cell: Cell, node: Node, placed: set[int]) -> str:
        room = self._room
        took = "" if cell.finished is None else seconds(cell.finished - cell.started)
        error = cell.result.get("error")
        trace = (text(error, "traceback") or text(error, "message")) if isinstance(error, dict) else ""
        inside = []
        for child in node.children:
            if id(child) not in placed and cell.started <= child.started <= (cell.finished or child.started):
                placed.add(id(child))
                inside.append(self._node(child))
        return "".join(
            [
                room.pre(joined(cell.language, cell.status.replace("_", " "), took), cell.code),
                *(f'<p class="said bad">{shown(_verdict(each))}</p>' for each in cell.verdicts),
                room.pre("printed", cell.output("stdout")),
                room.pre("on standard error", cell.output("stderr") if not trace else "", "err"),
                room.pre("raised", trace, "err"),
                self._calls(cell.calls),
                *inside,
            ]
        )

    def _calls(self, calls: list[Call]) -> str:
        if not calls:
            return ""
        rows = "".join(self._call(call) for call in calls[:_MOST_CALLS])
        more = (
            f'<p class="hint">{len(calls) - _MOST_CALLS:,} more sub-calls in the jsonl export.</p>'
            if len(calls) > _MOST_CALLS
            else ""
        )
        table = (
            '<div class="scroll"><table><thead><tr><th>sub-call</th><th class="n">prompts</th><th class="n">took</th>'
            f'<th class="n">tokens</th><th class="n">cost</th><th>came</th></tr></thead><tbody>{rows}</tbody></table></div>{more}'
        )
        return _folded(plural(len(calls), "sub-call"), table)

    def _call(self, call: Call) -> str:
        took = call.seconds
        if took is None and call.finished is not None:
            took = call.finished - call.started
        came = (
            call.value
            if isinstance(call.value, str)
            else json.dumps(call.value, ensure_ascii=False, default=str)
        )
        if call.ok is None:
            came = "under way"
        elif call.error:
            came = joined(text(call.error, "type"), text(call.error, "message"))
        state = "" if call.ok else badge("failed" if call.ok is False else "no end", "bad") + " "
        figures = (
            f"{call.count:,}",
            seconds(took) if took is not None else "",
            f"{call.usage.tokens:,}",
            money(call.usage.microdollars),
        )
        cells = "".join(f'<td class="n">{shown(each)}</td>' for each in figures)
        return f'<tr><td class="op">{shown(call.op)}</td>{cells}<td>{state}{self._room.cut(came[:_MOST_VALUE])}</td></tr>'


def _folded(title: str, inner: str) -> str:
    if not inner:
        return ""
    return f'<details><summary><span class="about">{shown(title)}</span></summary><div class="in">{inner}</div></details>'


def _gist(turn: Turn) -> str:
    """What a turn did, on one line: its first cell's last line that says something, or its reply."""
    if turn.cells:
        return next((each for each in turn.cells[0].code.splitlines() if each.strip()), "")
    return turn.reply or ""


def _remarks(turn: Turn) -> list[str]:
    notice = text(turn.parsed, "notice")
    dropped = children_of(turn.parsed, "dropped")
    reasons = sorted({text(each, "reason").replace("_", " ") for each in dropped})
    told = [f"Not run or not kept: {', '.join(reasons)}."] if reasons else []
    if turn.finish_reason not in ("", "stop"):
        told.append(f"The reply ended with {turn.finish_reason}.")
    return [*told, *([notice] if notice else [])]


def _verdict(verdict: Data) -> str:
    findings = "; ".join(
        joined(text(each, "rule"), text(each, "message")) for each in children_of(verdict, "findings")
    )
    return f"The guard said {text(verdict, 'decision')}: {findings}"


def _complaint(error: Data) -> str:
    return (
        f'<p class="said bad">{shown(" ".join(text(error, name) for name in ("code", "message", "fix")))}</p>'
    )
