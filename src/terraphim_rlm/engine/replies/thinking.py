"""Thinking that a model left in its reply: nothing in it is a command."""

from __future__ import annotations

import re

_NAMES = "think|thinking|thought|thoughts|reasoning|reflection|scratchpad|seed:think"
_OPEN = re.compile(rf"<({_NAMES})>|(\[THINK\])|(◁think▷)", re.IGNORECASE)
_LEFT = rf"(?:</(?:{_NAMES})>|\[/THINK\]|◁/think▷)"
_LEFTOVER = re.compile(rf"^[ \t]*+{_LEFT}|{_LEFT}(?=[ \t]*+\r?$)", re.IGNORECASE | re.MULTILINE)


def leading(reply: str) -> int:
    """Length of the thinking that a reply begins with when its opening tag stood in the prompt; else 0."""
    closed = _LEFTOVER.search(reply)
    if not closed:
        return 0
    return 0 if _OPEN.search(reply, 0, closed.start()) else closed.end()


def within(reply: str, position: int, end: int) -> int:
    """Offset of an opening tag later in a line; -1 when none, or when a quotation precedes it."""
    opened = _OPEN.search(reply, position, end)
    if not opened or any(mark in reply[position : opened.start()] for mark in "`\"'“"):
        return -1
    return opened.start()


def at(reply: str, position: int) -> tuple[int, bool] | None:
    """End of the thinking that opens at `position`, and whether it is closed; None when none opens there.

    Thinking that is never closed lasts to the end of the reply.
    """
    opened = _OPEN.match(reply, position)
    if not opened:
        return None
    name = opened[1]
    tag = rf"</{re.escape(name)}>" if name else (r"\[/THINK\]" if opened[2] else "◁/think▷")
    closed = re.compile(tag, re.IGNORECASE).search(reply, opened.end())
    return (closed.end(), True) if closed else (len(reply), False)
