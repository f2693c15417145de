"""The one line that tells the model what its reply lacked, or what of it was not run."""

from __future__ import annotations

import re
from collections.abc import Sequence

from terraphim_rlm.engine.replies.commands import Command, Dropped, Reason
from terraphim_rlm.engine.replies.work import Work

HOW = "Write a ```python block, or FINAL(answer) on a line of its own."
_NOTHING = "No command found."
_CODE = "This looks like code without a fence: put it between ```python and ```."
_MENTION = "{detail}(..) counts only at the start of a line, outside a block."
_CELL = re.compile(r"^[ \t]*+(?:SUBMIT|print|(?:ll|rl)m_query\w*)\(|^[ \t]*+answer\[", re.MULTILINE)
"""Calls that mean something only inside a cell."""
_WORD = re.compile(r"\b(FINAL_VAR|FINAL|RUN|CODE|SNAPSHOT|ROLLBACK|QUERY_LLM_BATCHED|QUERY_LLM)\(")

_ALWAYS: dict[Reason, str] = {
    "final_held": "FINAL was held, since it follows code: write it again after you have seen the output.",
    "unterminated": "A block that was not closed did not run: send it again, whole and closed.",
    "unbalanced": "{detail}( was not closed and did not count: balance its parentheses.",
    "bad_arguments": "The arguments of {detail} could not be read.",
    "unknown_language": "Blocks tagged {detail} do not run: use python, bash, javascript, rust or go.",
    "unknown_tool": "There is no tool {detail}: write a ```python or ```bash block.",
    "misspelt": "Did you mean {detail}(..)? It was not run.",
    "indented": "An indented block did not run: begin its fence at the start of a line.",
    "empty": "An empty block did not run.",
    "invented_output": "Output that you wrote yourself was removed: the real output follows a block that has run.",
    "too_many": "Only the first commands of this reply were taken.",
}
"""Said whatever else the reply holds, in this order."""
_WITHOUT_COMMAND: dict[Reason, str] = {
    "unfenced": _CODE,
    "untagged": "A block runs only with its language after the fence.",
    "text_tag": "A block tagged {detail} is text and does not run.",
    "quoted": "What is quoted does not run.",
    "prose": "{detail} counts only as a call, {detail}(..), with nothing after it on its line.",
    "thinking": "What stands in your thinking does not run.",
    "end_of_turn": "What follows the end of your turn does not count.",
}
"""Said only when nothing was found to run."""
_SENTENCES = 2
"""Reasons that one notice names."""


def write(reply: str, commands: Sequence[Command], dropped: Sequence[Dropped], work: Work) -> str | None:
    """The notice of a parsed reply; None when the model need not be told anything."""
    details: dict[Reason, str] = {}
    for item in dropped:
        details.setdefault(item.reason, _shown(item.detail))
    if commands or "final_held" in details:
        return " ".join(_said(_ALWAYS, details)) or None
    hints = _said(_ALWAYS | _WITHOUT_COMMAND, details)
    if not hints:
        hints = _guessed(reply, work)
    return " ".join([_NOTHING, *hints, HOW])


def _said(sentences: dict[Reason, str], details: dict[Reason, str]) -> list[str]:
    said = [
        sentence.format(detail=details[reason] or "it")
        for reason, sentence in sentences.items()
        if reason in details
    ]
    return said[:_SENTENCES]


def _shown(detail: str) -> str:
    return re.sub(r"[^\w.:+#-]", "?", detail[:40])


def _guessed(reply: str, work: Work) -> list[str]:
    """What the model may have meant by a reply in which nothing was found."""
    if mention := _WORD.search(reply):
        return [_MENTION.format(detail=mention[1])]
    return [_CODE] if _CELL.search(reply) or _looks_like_code(reply, work) else []


def _looks_like_code(reply: str, work: Work) -> bool:
    """Whether the whole reply is Python that does something.

    Such a reply is not run: a sentence can be valid Python too, and the fence is cheap to ask for.
    """
    return any(mark in reply for mark in ("(", "=", "import ")) and work.python(reply.strip()) is True
