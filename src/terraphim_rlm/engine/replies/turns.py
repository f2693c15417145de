"""Where a reply stops being the model's own: the end of its turn, turns it wrote for others, invented output."""

# ruff: noqa: RUF001, S105, SIM905 - templates spell their tokens with these characters; tables read best as words

from __future__ import annotations

import re

END_TOKEN = (
    r"(?:<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|return|end_of_turn)\|>"
    r"|</s>|<end_of_turn>|<｜end▁of▁sentence｜>)"
)
"""Tokens by which chat templates end a model's turn."""
_OTHER_TURN = (
    r"<\|im_start\|>(?!\s*assistant)|<\|start_header_id\|>(?!\s*assistant)|<start_of_turn>(?!\s*model)"
    r"|<\|(?:user|system|observation)\|>|<｜User｜>|\[INST\]|<\|start\|>(?!assistant)"
)
_OWN_TURN = (
    r"<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<start_of_turn>\s*model"
    r"|<\|assistant\|>|<｜Assistant｜>|<\|begin_of_text\|>|<s>|<\|end\|>"
)
_STOP = re.compile(rf"{END_TOKEN}|{_OTHER_TURN}")
_STOP_AT_END = re.compile(rf"{END_TOKEN}[ \t]*+$")
_ONLY_ENDS = re.compile(rf"(?:\s*+{END_TOKEN})*+\s*+\Z")
_OWN = re.compile(rf"(?:{_OWN_TURN})[ \t]*+")

_MARK = re.compile(
    r"""(?:\#{1,6}\ +|\*\*|__)?                          # a heading, or bold
    (?:(?:the|repl|execution|code|console|program|shell|terminal|command|cell|actual|python|tool)\ +){0,2}
    (?:outputs?|results?|stdout|stderr|observation)
    (?:\ +(?:of|from)\ +[^:\n]{1,60}|\ +(?:is|was|would\ be|will\ be)|\ *\([^)\n]{0,60}\))?
    (?:\*\*|__)?\ *:
    |Out\[\d+\]:|\[(?:output|stdout|result|observation)\]|(?:\#{1,6}\ +)?(?:Human|User):
    |<(?:output|stdout|result|results|observation|execution_result|tool_response|tool_result|function_results)>
    """,
    re.IGNORECASE | re.VERBOSE,
)
OUTPUT_TAGS = frozenset(
    "output outputs out stdout stderr result results observation repl_output console_output execution_output "
    "tool_output tool_outputs tool_response".split()
)
"""Tags of a block that claims to be what a block before it printed."""
PLAIN_TAGS = frozenset(("", "text", "txt", "plaintext", "plain", "console", "terminal", "log", "none"))
"""Tags of a block that is invented output when it directly follows code."""


def stops(reply: str, position: int, end: int) -> bool:
    """Whether the model's turn ends at `position`."""
    return _STOP.match(reply, position, end) is not None


def stop_at_line_end(reply: str, position: int, end: int) -> int:
    """Offset of the end-of-turn token that closes a line; -1 when there is none."""
    tail = max(position, end - 80)
    found = _STOP_AT_END.search(reply, tail, end)
    return found.start() if found else -1


def only_ends(reply: str, position: int) -> bool:
    """Whether nothing but end-of-turn tokens follows `position`."""
    return _ONLY_ENDS.match(reply, position) is not None


def own_header(reply: str, position: int, end: int) -> int:
    """Offset after the template tokens that open the model's own turn at `position`; -1 when there are none."""
    found = _OWN.match(reply, position, end)
    return found.end() if found else -1


def claims_output(reply: str, position: int, end: int) -> bool:
    """Whether a line reads as the heading of some output (`REPL output:`)."""
    return _MARK.match(reply, position, end) is not None
