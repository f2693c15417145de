"""A reply that ended because it was too long: what stands last in it may only be the beginning of something."""

from __future__ import annotations

import re
from dataclasses import replace

from terraphim_rlm.engine.replies.commands import Dropped, ParsedReply
from terraphim_rlm.engine.replies.parser import parse

CUT = "Your reply was cut at its longest length, and what was cut off did not run: write shorter replies."
_OPEN = re.compile(r"(?:FINAL_VAR|FINAL|RUN)(?![A-Za-z0-9_])(?![ \t]*\()")
"""A word without parentheses, which lasts as long as the text does."""


def parse_cut(reply: str) -> ParsedReply:
    """`parse`, but a last command is dropped that has no end of its own, and may have gone on.

    `RUN rm -rf build/old` cut after `build` is another command, and half an answer is another answer.
    """
    parsed = parse(reply)
    notice = " ".join(part for part in (CUT, parsed.notice) if part)
    last = parsed.commands[-1] if parsed.commands else None
    if last is None or last.end < len(reply.rstrip()) or not _OPEN.match(reply, last.start):
        return replace(parsed, notice=notice)
    dropped = (*parsed.dropped, Dropped(last.start, last.end, "unterminated", last.kind))
    return replace(parsed, commands=parsed.commands[:-1], dropped=dropped, notice=notice)
