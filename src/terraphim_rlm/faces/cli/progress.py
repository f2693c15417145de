"""Showing a run while it works: a live tree on a terminal, plain lines elsewhere, events as JSON lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from terraphim_rlm.core.events import Event
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.out import Mode, as_json, complain, write_out
from terraphim_rlm.faces.cli.tree import Line, RunTree
from terraphim_rlm.faces.cli.words import one_line, plural, seconds
from terraphim_rlm.faces.cli.writer import Writer

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_STYLES = {"run": "bold", "node": "cyan", "cell": "", "bad": "yellow", "dim": "dim"}
_REFRESHES = 8  # a second
Sink = Callable[[Event], None]


def live_terminal() -> bool:
    """Whether standard error is a terminal that can be drawn on."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "", None)


@contextmanager
def shown(tree: RunTree, mode: Mode, on_lost: Callable[[], None]) -> Iterator[Sink]:
    """A sink that shows events in the way that suits `mode` and the terminal.

    Args:
        tree: folded by the sink.
        on_lost: called, from any thread, when nobody reads the events any more.
    """
    if mode == "json":
        yield tree
    elif mode == "jsonl":
        with Writer[str](write_out, on_lost) as writer:

            def streamed(event: Event) -> None:
                tree(event)
                writer.put(_json_line(event))

            yield streamed
    elif live_terminal():
        with _live(tree):
            yield tree
    else:
        with Writer[str](lambda text: complain(text.rstrip("\n")), on_lost) as writer:
            plain = PlainLines()

            def told(event: Event) -> None:
                tree(event)
                for line in plain(event, tree):
                    writer.put(line + "\n")

            yield told


def _json_line(event: Event) -> str:
    return as_json({"schema_version": SCHEMA_VERSION, **event.to_json()}) + "\n"


class PlainLines:
    """Events as lines for a log: turns, cells with their outcome, child nodes, warnings."""

    def __call__(self, event: Event, tree: RunTree) -> list[str]:
        """The lines for one event; `tree` has taken it already."""
        node = tree.nodes.get(event.node)
        make = _LINES.get(event.type)
        if node is None or make is None:
            return []
        text = make(event, node, tree)
        return [f"{'  ' * node.depth}{text}"] if text else []


def _started_line(event: Event, node: Any, tree: RunTree) -> str:
    about = event.data.get("context")
    files = about.get("files") if isinstance(about, dict) else None
    size = about.get("bytes") if isinstance(about, dict) else None
    over = f" over {size:,} bytes" if isinstance(size, int) else ""
    over += f" in {plural(files, 'file')}" if isinstance(files, int) and files else ""
    left_out = f"; left out: {tree.skipped}" if tree.skipped else ""
    return f"{event.run}: {one_line(tree.model, 80)}{over}{left_out}"


def _resumed_line(event: Event, node: Any, tree: RunTree) -> str:
    return f"{event.run}: taken up again with {one_line(tree.model, 80)}"


def _turn_line(event: Event, node: Any, tree: RunTree) -> str:
    commands = event.data.get("commands")
    kinds = [str(each.get("kind")) for each in commands if isinstance(each, dict)] if commands else []
    return f"turn {node.turn}: {one_line(', '.join(kinds), 80) or 'no command'}"


def _cell_line(event: Event, node: Any, tree: RunTree) -> str:
    cell = node.cells.get(event.data.get("execution_id"))
    if cell is None:
        return ""
    calls = f", {plural(cell.calls, 'sub-call')}" if cell.calls else ""
    return f"  {cell.language} {cell.number}: {cell.status}, {seconds(cell.seconds)}{calls}"


def _child_line(event: Event, node: Any, tree: RunTree) -> str:
    return f"node: {one_line(node.question, 80)}" if node.depth else ""


def _ended_line(event: Event, node: Any, tree: RunTree) -> str:
    calls = f" after {plural(node.loose_calls, 'sub-call')}" if node.loose_calls else ""
    return f"{'node' if node.depth else 'run'} ended: {node.termination}{calls}"


def _asked_line(event: Event, node: Any, tree: RunTree) -> str:
    return f"? {one_line(str(event.data.get('question')), 144)}"


def _decided_line(event: Event, node: Any, tree: RunTree) -> str:
    return f"? {'yes' if event.data.get('approved') is True else 'no'}: {one_line(str(event.data.get('why')), 144)}"


def _warning_line(event: Event, node: Any, tree: RunTree) -> str:
    return f"! {tree.warnings[-1]}" if tree.warnings else ""


def _error_line(event: Event, node: Any, tree: RunTree) -> str:
    shown = one_line(str(event.data.get("message")), 144)
    return f"! {shown}" if tree.warnings[-1:] == [shown] else ""


_LINES: dict[str, Callable[[Event, Any, RunTree], str]] = {
    "run.started": _started_line,
    "run.resumed": _resumed_line,
    "turn.parsed": _turn_line,
    "cell.finished": _cell_line,
    "node.started": _child_line,
    "node.finished": _ended_line,
    "approval.asked": _asked_line,
    "approval.decided": _decided_line,
    "budget.warning": _warning_line,
    "cell.differs": _warning_line,
    "error": _error_line,
}


def cropped(lines: list[Line], height: int) -> list[Line]:
    """As many lines as fit: the first, and the latest."""
    if len(lines) <= height:
        return lines
    if height <= 2:
        return lines[:height]
    hidden = len(lines) - height + 1
    return [lines[0], Line(1, f"… {plural(hidden, 'line')}", "dim"), *lines[2 - height :]]


def drawn(tree: RunTree, height: int, width: int = 80, now: float | None = None) -> Text:
    """The tree as text for rich, in a window of `height` lines and `width` columns."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for line in cropped(tree.lines(), max(height - 2, 1)):
        text.append(f"{'  ' * line.indent}{line.fitted(width)}\n", style=_STYLES[line.style])
    text.append(tree.header(now), style="dim")
    return text


@contextmanager
def _still(live: Live) -> Iterator[None]:
    """Draws nothing until the block ends."""
    live.stop()
    try:
        yield
    finally:
        live.start()


@contextmanager
def _live(tree: RunTree) -> Iterator[None]:
    """Draws the tree on standard error until the block ends, and leaves its last state there."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)

    def now_drawn() -> Text:
        return drawn(tree, console.size.height, console.size.width, None if tree.finished else time.time())

    with Live(
        get_renderable=now_drawn,
        console=console,
        refresh_per_second=_REFRESHES,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as live:
        tree.pause = lambda: _still(live)
        yield
    console.line()
