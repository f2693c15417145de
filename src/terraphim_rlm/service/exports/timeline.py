"""The timeline of the page: a lane a node, bars for replies, cells and sub-calls, drawn as SVG by attributes alone."""

from __future__ import annotations

from collections.abc import Iterator

from terraphim_rlm.service.exports.parts import line, plural, seconds, shown
from terraphim_rlm.service.exports.story import Cell, Node, Story

_MOST_LANES = 60
_MOST_BARS = 4_000
_LEFT, _RIGHT, _LANE, _TOP = 210.0, 1090.0, 46.0, 26.0
_ROWS = {"model": 4.0, "cell": 18.0, "call": 32.0}
_STEPS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    20,
    60,
    120,
    300,
    600,
    1800,
    3600,
)

Bar = tuple[str, float, float, bool, str, str]
"""Kind, start, end, failed, id of what it is of, title."""


def draw(story: Story) -> str:
    """The SVG, and a line for what had no room."""
    nodes = list(story.nodes())
    start = min([story.summary.started, *(node.started for node in nodes)])
    scale = (_RIGHT - _LEFT) / max(story.end - start, 1e-3)
    shown_nodes = nodes[:_MOST_LANES]
    height = _TOP + _LANE * len(shown_nodes) + 6
    parts = [
        f'<svg class="time" viewBox="0 0 1100 {height:.0f}" role="img" aria-label="Timeline of the run">',
        *_axis(story.end - start, scale, height),
    ]
    left = _MOST_BARS
    for at, node in enumerate(shown_nodes):
        top = _TOP + _LANE * at
        parts.append(
            f'<rect class="lane" x="{_LEFT}" y="{top:.1f}" width="{_RIGHT - _LEFT}" height="{_LANE - 4}" rx="4"/>'
        )
        parts.append(f'<text class="name" x="0" y="{top + 17:.1f}">{line(node.question or "run", 30)}</text>')
        parts.append(
            f'<text x="0" y="{top + 33:.1f}">depth {node.depth}, {plural(len(node.turns), "turn")}</text>'
        )
        for bar in _bars(node, f"n{at}", story.end):
            left -= 1
            if left >= 0:
                parts.append(_bar(bar, top, start, scale))
    parts.append("</svg>")
    return "".join(parts) + _omitted(len(nodes) - len(shown_nodes), max(-left, 0))


def _omitted(lanes: int, bars: int) -> str:
    said = [plural(lanes, "further node") if lanes > 0 else "", plural(bars, "further bar") if bars else ""]
    told = " and ".join(each for each in said if each)
    return f'<p class="hint">Not drawn: {told}.</p>' if told else ""


def _axis(span: float, scale: float, height: float) -> Iterator[str]:
    step = next((each for each in _STEPS if span / each <= 9), span / 8 or 1)
    at = 0.0
    while at <= span * 1.0001:
        x = _LEFT + at * scale
        yield f'<line x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{height:.0f}"/>'
        yield f'<text x="{x:.1f}" y="{_TOP - 11}" text-anchor="middle">{shown(seconds(at)) if at else "0"}</text>'
        at += step


def _bars(node: Node, name: str, end: float) -> Iterator[Bar]:
    for turn in node.turns:
        until = end if turn.answered is None else turn.answered
        yield (
            "model",
            turn.asked,
            until,
            turn.answered is None,
            f"{name}t{turn.number}",
            f"reply {turn.number}",
        )
        for cell in turn.cells:
            yield from _of_cell(cell, f"{name}t{turn.number}", end)
    for cell in node.loose:
        yield from _of_cell(cell, name, end)
    for call in node.calls:
        until = end if call.finished is None else call.finished
        yield "call", call.started, until, call.ok is not True, name, call.op


def _of_cell(cell: Cell, name: str, end: float) -> Iterator[Bar]:
    until = end if cell.finished is None else cell.finished
    yield "cell", cell.started, until, cell.status != "ok", name, f"{cell.language}: {cell.status}"
    for call in cell.calls:
        done = end if call.finished is None else call.finished
        yield (
            "call",
            call.started,
            done,
            call.ok is not True,
            name,
            f"{call.op}, {plural(call.count, 'prompt')}",
        )


def _bar(bar: Bar, top: float, start: float, scale: float) -> str:
    kind, begun, ended, failed, target, title = bar
    x = _LEFT + max(begun - start, 0) * scale
    width = max((ended - begun) * scale, 1.5)
    told = f"{shown(title)}: {shown(seconds(ended - begun))}"
    return (
        f'<a href="#{target}" aria-label="{told}"><rect class="{kind}{" failed" if failed else ""}" x="{x:.2f}" '
        f'y="{top + _ROWS[kind]:.1f}" width="{width:.2f}" height="10" rx="2"><title>{told}</title></rect></a>'
    )
