"""A reply becomes commands: one pass over its lines, then the rules that concern the reply as a whole."""

# ruff: noqa: SIM905 - tables read best as words

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from terraphim_rlm.engine.replies import fences, markup, notices, repair, thinking, turns, words
from terraphim_rlm.engine.replies.commands import (
    LANGUAGES,
    Code,
    Command,
    Dropped,
    Final,
    FinalVar,
    ParsedReply,
    Query,
    QueryBatched,
    Reason,
    Shell,
)
from terraphim_rlm.engine.replies.fences import Block, Fence
from terraphim_rlm.engine.replies.text import Line, Lines, indentation
from terraphim_rlm.engine.replies.work import Work

MAX_COMMANDS = 100
MAX_DROPPED = 100
_LIST = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?=[ \t]|$)")
_TEXT_TAGS = frozenset(
    "md markdown json jsonl json5 yaml yml toml xml html csv tsv diff patch math latex tex mermaid ini rst "
    "log traceback error pycon console terminal text txt plaintext plain none".split()
)
_MAX_NESTING = 12


class _Invented(NamedTuple):
    """Here begins what the model made up; it lasts to the next command, or (`final`) to the end."""

    start: int
    final: bool = False


_Item = Command | Dropped | _Invented


def parse(reply: str) -> ParsedReply:
    """Reads a model's reply.

    Pure and total: no string makes it raise, its time grows with the length of the reply, and what it returns
    holds at most `MAX_COMMANDS` commands and `MAX_DROPPED` pieces of dropped text.

    Returns:
        the commands in order, what was dropped and why, a line for the model, and the reply for the transcript.
    """
    work = Work(len(reply))
    items: list[_Item] = _Scan(reply, work).items()
    if not items:
        items = list(markup.bare(reply))
    elif any(isinstance(item, (Final, FinalVar)) for item in items) and words.amid_code(reply, work):
        items = [Dropped(0, len(reply), "unfenced")]
    commands, dropped, removed = _settle(reply, items)
    mended = tuple(_mended(command, work) for command in commands)
    notice = notices.write(reply, mended, dropped, work)
    return ParsedReply(mended, tuple(dropped), notice, _without(reply, removed))


def _mended(command: Command, work: Work) -> Command:
    if not isinstance(command, Code) or command.language != "python":
        return command
    code, repairs = repair.mended(command.code, work)
    return replace(command, code=code, repairs=repairs) if repairs else command


class _Scan:
    """One pass over a reply, from line to line, jumping over whatever a line opens."""

    def __init__(self, reply: str, work: Work) -> None:
        self._reply = reply
        self._work = work
        self._lines = Lines(reply)
        self._items: list[_Item] = []
        self._commands = 0
        self._bases: list[int] = []
        """Columns at which the content of the open list items begins."""
        self._ran = False
        """Whether a block or call that prints something was found."""
        self._fresh = False
        """Whether nothing but blank lines has come since."""

    def items(self) -> list[_Item]:
        if position := thinking.leading(self._reply):
            self._items.append(Dropped(0, position, "thinking"))
        elif self._reply.startswith("\ufeff"):
            position = 1
        while position < len(self._reply):
            if self._commands >= MAX_COMMANDS or len(self._items) >= 3 * MAX_COMMANDS:
                self._items.append(Dropped(position, len(self._reply), "too_many"))
                break
            position = self._step(position)
        return self._items

    def _step(self, position: int) -> int:
        """Reads what stands at `position`, the beginning of a line or of its rest; returns where to go on."""
        line = self._lines.at(position)
        column, offset = indentation(self._reply, line)
        if offset == line.end:
            return line.next
        column, offset, listed = self._containers(line, column, offset)
        if offset == line.end:
            return line.next
        base = self._bases[-1] if self._bases else 0
        if self._reply[offset] == ">" and column - base <= 3:
            return self._quotation(line)
        fence = fences.opening(self._reply, line, column, offset, base)
        if fence is not None:
            return self._indented(line) if column - base > 3 else self._block(fence)
        if column <= 3 and not listed:
            after = self._at_line_start(line, offset)
            if after is not None:
                return after
        self._fresh = False
        return self._rest(line, offset)

    def _containers(self, line: Line, column: int, offset: int) -> tuple[int, int, bool]:
        """Enters and leaves list items; the column and offset of what stands in the innermost one."""
        while self._bases and column < self._bases[-1]:
            self._bases.pop()
        listed = False
        for _ in range(_MAX_NESTING):
            base = self._bases[-1] if self._bases else 0
            marker = _LIST.match(self._reply, offset, line.end)
            if not marker or column - base > 3:
                break
            width = column + marker.end() - offset
            inside, offset = indentation(self._reply, line._replace(start=marker.end()), width)
            # An item whose text begins with indented code has its content one column after the marker.
            self._bases.append(width + 1 if offset == line.end or inside - width > 4 else inside)
            column, listed = inside, True
        return column, offset, listed

    def _at_line_start(self, line: Line, offset: int) -> int | None:
        """What counts only at the start of a line: thinking, turns, markup, words; None when it is none of them."""
        reply = self._reply
        if found := thinking.at(reply, offset):
            end, _ = found
            self._items.append(Dropped(offset, end, "thinking"))
            return end
        if turns.stops(reply, offset, line.end):
            return self._stop(offset)
        header = turns.own_header(reply, offset, line.end)
        if header >= 0:
            return header
        if self._ran and turns.claims_output(reply, offset, line.end):
            return self._invented(line.start, line.next)
        reading = markup.at(reply, offset) or words.at(self._lines, line, offset, self._work)
        if reading is None:
            return None
        found_items, after = reading
        for item in found_items:
            self._add(item)
        return after

    def _rest(self, line: Line, offset: int) -> int:
        """An ordinary line: only special tokens, and thinking that is closed, can still stand in it."""
        token = markup.special_token(self._reply, offset, line.end)
        if token > offset:
            return token
        opened = thinking.within(self._reply, offset, line.end)
        if opened >= 0 and self._work.may_look and (found := thinking.at(self._reply, opened)):
            end, closed = found
            if closed:
                self._items.append(Dropped(opened, end, "thinking"))
                return end
            self._work.looked(end - opened)
        stop = turns.stop_at_line_end(self._reply, offset, line.end)
        return self._stop(stop) if stop >= 0 else line.next

    def _stop(self, offset: int) -> int:
        end = len(self._reply)
        if not turns.only_ends(self._reply, offset):
            self._items.append(Dropped(offset, end, "end_of_turn"))
            self._items.append(_Invented(offset, final=True))
        return end

    def _invented(self, start: int, after: int) -> int:
        self._items.append(_Invented(start))
        self._fresh = False
        return after

    def _add(self, item: Command | Dropped) -> None:
        self._items.append(item)
        self._fresh = isinstance(item, (Code, Shell))
        if not isinstance(item, Dropped):
            self._commands += 1
            self._ran = self._ran or isinstance(item, (Code, Shell, Query, QueryBatched))

    def _quotation(self, line: Line) -> int:
        """Consecutive lines that begin with `>`: dropped, and said so when a command could be meant."""
        start, matters = line.start, False
        while True:
            inner = self._reply[line.start : min(line.end, line.start + 200)].lstrip(" \t>-+*0123456789.)")
            matters = matters or inner.startswith(("```", "~~~", *words.STARTS))
            end = line.end
            if line.next >= len(self._reply):
                break
            following = self._lines.at(line.next)
            _, offset = indentation(self._reply, following)
            if offset == following.end or self._reply[offset] != ">":
                break
            line = following
        if matters:
            self._items.append(Dropped(start, end, "quoted"))
        self._fresh = False
        return line.next

    def _indented(self, line: Line) -> int:
        """A fence at four columns or more: CommonMark's indented code, which is text."""
        start, end = line.start, line.end
        base = self._bases[-1] if self._bases else 0
        while line.next < len(self._reply):
            line = self._lines.at(line.next)
            column, offset = indentation(self._reply, line)
            if offset < line.end and column - base <= 3:
                self._items.append(Dropped(start, end, "indented"))
                return line.start
            end = line.end
        self._items.append(Dropped(start, end, "indented"))
        return line.next

    def _block(self, fence: Fence) -> int:
        block = fences.read(self._lines, fence, self._work)
        start, end, tag = fence.start, block.end, fence.tag
        claimed = tag in turns.OUTPUT_TAGS or (self._fresh and tag in turns.PLAIN_TAGS)
        if self._ran and claimed:
            return self._invented(self._line_start(start), block.next)
        self._add(_from_block(block, start, end))
        return block.next

    def _line_start(self, offset: int) -> int:
        return self._reply.rfind("\n", 0, offset) + 1


def _from_block(block: Block, start: int, end: int) -> Command | Dropped:
    tag = block.fence.tag
    language = LANGUAGES.get(tag)
    if not block.closed:
        return Dropped(start, end, "unterminated", tag[:40])
    if language is None:
        return Dropped(start, end, *_why_not(block))
    if not block.code.strip():
        return Dropped(start, end, "empty", tag[:40])
    return Shell(block.code, start, end) if language == "bash" else Code(language, block.code, start, end)


def _why_not(block: Block) -> tuple[Reason, str]:
    tag = block.fence.tag
    if fences.opens_code(block.code):
        return "quoted", tag[:40]
    if not tag:
        return "untagged", ""
    known = tag in _TEXT_TAGS or tag in turns.OUTPUT_TAGS
    return ("text_tag" if known else "unknown_language"), tag[:40]


def _settle(reply: str, items: list[_Item]) -> tuple[list[Command], list[Dropped], list[tuple[int, int]]]:
    """Applies the rules between items: held and later commands, invented output, bounds.

    Returns:
        commands, dropped, and the spans that leave the transcript.
    """
    commands: list[Command] = []
    dropped: list[Dropped] = []
    removed: list[tuple[int, int]] = []
    invented: _Invented | None = None
    ran = ended = False
    for item in [*items, None]:
        if invented is not None and (item is None or (not invented.final and _ends_invention(item))):
            end = len(reply) if item is None else max(invented.start, reply.rfind("\n", 0, _start(item)) + 1)
            removed.append((invented.start, end))
            if not invented.final:
                dropped.append(Dropped(invented.start, end, "invented_output"))
            invented = None
        if item is None or (invented is not None and not isinstance(item, _Invented)):
            continue
        if isinstance(item, _Invented):
            invented = item if invented is None or item.final else invented
        elif isinstance(item, Dropped):
            dropped.append(item)
        elif ended:
            dropped.append(Dropped(item.start, item.end, "after_final", item.kind))
        elif isinstance(item, (Final, FinalVar)) and ran:
            ended = True
            dropped.append(Dropped(item.start, item.end, "final_held", item.kind))
        else:
            commands.append(item)
            ended = isinstance(item, (Final, FinalVar))
            ran = ran or isinstance(item, (Code, Shell, Query, QueryBatched))
    dropped.sort(key=lambda item: item.start)
    if len(dropped) > MAX_DROPPED:
        dropped[MAX_DROPPED - 1 :] = [Dropped(dropped[MAX_DROPPED - 1].start, len(reply), "too_many")]
    return commands, dropped, removed


def _ends_invention(item: _Item) -> bool:
    return not isinstance(item, (Dropped, _Invented)) or (
        isinstance(item, Dropped) and item.reason == "unterminated"
    )


def _start(item: Command | Dropped | _Invented) -> int:
    return item.start


def _without(reply: str, removed: list[tuple[int, int]]) -> str:
    parts, position = [], 0
    for start, end in removed:
        parts.append(reply[position:start])
        position = end
    return "".join([*parts, reply[position:]])
