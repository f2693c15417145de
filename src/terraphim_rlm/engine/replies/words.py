"""Command words: `FINAL(..)`, `RUN ..` and the rest, at the start of a line outside a fence.

A word is a command when its argument is balanced and nothing follows it on its line. `RUN` and `FINAL`
may also stand without parentheses: RUN takes the rest of its line, FINAL the rest of its paragraph.
Then a sentence is the danger (`RUN the tests first`, `FINAL answer: 42`), so a rest that reads on as
prose is none: the model is told, and can write the parentheses.
"""

# ruff: noqa: SIM905 - tables read best as words

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from terraphim_rlm.engine.replies import arguments
from terraphim_rlm.engine.replies.commands import (
    Code,
    Command,
    Dropped,
    Final,
    FinalVar,
    Query,
    QueryBatched,
    Reason,
    Rollback,
    Shell,
    Snapshot,
)
from terraphim_rlm.engine.replies.text import Line, Lines
from terraphim_rlm.engine.replies.turns import END_TOKEN, stop_at_line_end
from terraphim_rlm.engine.replies.work import Work

Found = tuple[Command | Dropped, ...]
_Made = Command | str
"""A command, or what is wrong with its argument."""

STARTS = ("FINAL", "RUN", "CODE", "SNAPSHOT", "ROLLBACK", "QUERY_LLM")
"""How every command word begins."""
_WORD = re.compile(
    r"(FINAL_VAR|FINAL|RUN|CODE|SNAPSHOT|ROLLBACK|QUERY_LLM_BATCHED|QUERY_LLM)(?![A-Za-z0-9_])[ \t]*+(\(?)"
)
_CALL = re.compile(r"([A-Za-z_]{2,24}) ?\(")
_AFTER = re.compile(rf"[ \t]*+[.;]?[ \t]*+(?:({END_TOKEN})[ \t]*+)?$")
_CLOSE = re.compile(r"\s*+\)")
_NAME = re.compile(r"[\w.-]{1,100}")
_FENCE_LINE = re.compile(r"[ \t]*(?:`{3}|~{3}|>)")
_PROSE_END = re.compile(r"[A-Za-z][.!?:]$")
_SHELL_MARKS = frozenset("|&;<>$\"'=/-*`\\")

_ARTICLES = frozenset(
    "the a an this that these those it them all my your our some each every any and or to in on of with is "
    "was will can should must may when once after before again code commands command".split()
)
_FINAL_PROSE = _ARTICLES - {"the", "a", "an", "all", "some", "it", "code", "my", "your", "our"} | frozenset(
    "are were would could has have had does do did ends means returns if only call called".split()
)
_HEADINGS = frozenset(
    "answer answers step steps thought thoughts plan note notes report result results check summary output "
    "word words version".split()
)


def at(lines: Lines, line: Line, position: int, work: Work) -> tuple[Found, int] | None:
    """What the command word at `position` says, and the offset to go on from; None when no word is there."""
    found = _WORD.match(lines.text, position, line.end)
    if not found:
        return _near_miss(lines.text, position, line)
    word = found[1]
    if found[2]:
        reading = _called(lines, found, work)
        if reading is not None and not isinstance(reading[0][0], Dropped):
            return reading
        if word != "RUN" or not lines.text[found.end(1)].isspace():
            return reading or _drop(line, position, "unbalanced", word)
    if word not in ("RUN", "FINAL"):
        return _drop(line, position, "prose", word)
    return _spaced(lines, line, found)


def _drop(line: Line, start: int, reason: Reason, detail: str) -> tuple[Found, int]:
    return (Dropped(start, line.end, reason, detail),), line.next


def _called(lines: Lines, found: re.Match[str], work: Work) -> tuple[Found, int] | None:
    """The form with parentheses; None when they do not balance."""
    text, word, opened = lines.text, found[1], found.end() - 1
    ends = _closings(lines, opened, work)
    if not ends:
        return None
    for end in ends:
        line = lines.at(end)
        if after := _AFTER.match(text, end + 1, line.end):
            goes_on = after.start(1) if after[1] else line.next
            made = _MAKERS[word](text[opened + 1 : end], found.start(), end + 1)
            if isinstance(made, str):
                return (Dropped(found.start(), end + 1, "bad_arguments", word),), goes_on
            return (made,), goes_on
    return _drop(lines.at(found.start()), found.start(), "prose", word)


def _closings(lines: Lines, opened: int, work: Work) -> list[int]:
    """Where the argument could end: its literal's end, by quotes, by parentheses alone; the likeliest first."""
    text, stop, ends = lines.text, len(lines.text), []
    literal = arguments.literal_end(text, opened + 1, stop)
    if literal > 0 and (rest := _CLOSE.match(text, literal)):
        return [rest.end() - 1]
    for quotes in (True, False):
        if not work.may_look:
            break
        end = arguments.closing(lines, opened, stop, quotes=quotes)
        work.looked((end if end >= 0 else stop) - opened)
        if end >= 0 and end not in ends:
            ends.append(end)
    return ends


def _spaced(lines: Lines, line: Line, found: re.Match[str]) -> tuple[Found, int]:
    """`RUN ls -la`, `FINAL Paris`: the form without parentheses."""
    text, word, start = lines.text, found[1], found.start()
    after = found.end(1)
    end = line.end if word == "RUN" else _paragraph_end(lines, line)
    token = stop_at_line_end(text, after, end)
    rest = text[after : token if token >= 0 else end]
    argument = rest.strip()
    if not argument or rest[0] not in " \t" or _is_prose(word, argument):
        return _drop(line, start, "prose", word)
    made = _MAKERS[word](argument, start, after + len(rest.rstrip()))
    assert not isinstance(made, str)  # RUN and FINAL take any text but the empty one
    return (made,), token if token >= 0 else lines.at(end).next


def _paragraph_end(lines: Lines, line: Line) -> int:
    while line.next < len(lines.text):
        following = lines.at(line.next)
        head = lines.text[following.start : min(following.end, following.start + 120)]
        if not head.strip() or _FENCE_LINE.match(head) or _WORD.match(head.lstrip()):
            break
        line = following
    return line.end


def _is_prose(word: str, rest: str) -> bool:
    first = re.split(r"[\s,:.;]", rest, maxsplit=1)[0]
    if word == "FINAL":
        return first in _FINAL_PROSE or first.lower() in _HEADINGS
    sentence = len(rest.split()) >= 3 and _PROSE_END.search(rest) and not _SHELL_MARKS & set(rest)
    return first in _ARTICLES or bool(sentence)


def amid_code(reply: str, work: Work) -> bool:
    """Whether a reply is a program without a fence, in which FINAL is a call like its other statements.

    `x = 6 * 7` and then `FINAL(x)`: taken as a command word it would end the run with the text "x".
    """
    tree = work.tree(reply.strip())
    return tree is not None and any(not _harmless(statement) for statement in tree.body)


def _harmless(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in _MAKERS
    return isinstance(value, (ast.Name, ast.Constant, ast.Tuple, ast.Attribute))


def _near_miss(text: str, position: int, line: Line) -> tuple[Found, int] | None:
    found = _CALL.match(text, position, line.end)
    meant = suggestion(found[1]) if found else None
    return _drop(line, position, "misspelt", meant) if meant else None


def suggestion(token: str) -> str | None:
    """The command word at edit distance 2 or less from `token` (case left aside), the nearest first.

    A token in lower case may be an ordinary name (`len`), so RUN asks it for distance 1.
    """
    ranked = [(distance(token.upper(), word), word) for word in _MAKERS]
    near, word = min(ranked)
    return word if near <= (2 if token.isupper() else min(2, len(word) - 2)) else None


def distance(a: str, b: str) -> int:
    """Edit distance with swaps of neighbours as one edit (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, char in enumerate(a, 1):
        oldest, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            cost = min(row[-1] + 1, before[j] + 1, before[j - 1] + (char != other))
            if i > 1 and j > 1 and char == b[j - 2] and a[i - 2] == other:
                cost = min(cost, oldest[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _final(argument: str, start: int, end: int) -> _Made:
    argument = argument.strip()
    if not argument:
        return "no answer"
    if re.match(r"[rR]?[fF][rR]?[\"']", argument):
        return "an f-string is evaluated only in a code block"
    value = arguments.value(argument)
    return Final(value if isinstance(value, str) else argument, value, start, end)


def _final_var(argument: str, start: int, end: int) -> _Made:
    name = _unquoted(argument)
    return FinalVar(name, start, end) if name.isidentifier() and len(name) <= 200 else "not a variable's name"


def _run(argument: str, start: int, end: int) -> _Made:
    command = _unquoted(argument)
    return Shell(command, start, end) if command else "no command"


def _code(argument: str, start: int, end: int) -> _Made:
    code = _unquoted(argument)
    return Code("python", code, start, end) if code else "no code"


def _snapshot(argument: str, start: int, end: int) -> _Made:
    name = _unquoted(argument)
    return Snapshot(name, start, end) if _NAME.fullmatch(name) else "not a name"


def _rollback(argument: str, start: int, end: int) -> _Made:
    name = _unquoted(argument)
    return Rollback(name, start, end) if _NAME.fullmatch(name) else "not a name"


def _query(argument: str, start: int, end: int) -> _Made:
    prompt = _unquoted(argument)
    return Query(prompt, start, end) if prompt else "no prompt"


def _query_batched(argument: str, start: int, end: int) -> _Made:
    prompts = arguments.structure(argument.strip())
    if (
        not isinstance(prompts, list)
        or not prompts
        or not all(isinstance(p, str) and p.strip() for p in prompts)
    ):
        return "not a list of prompts"
    return QueryBatched(tuple(prompts), start, end)


def _unquoted(argument: str) -> str:
    found = arguments.literal(argument)
    return found[0].strip("\n") if found else argument.strip()


_MAKERS: dict[str, Callable[[str, int, int], _Made]] = {
    "FINAL": _final,
    "FINAL_VAR": _final_var,
    "RUN": _run,
    "CODE": _code,
    "SNAPSHOT": _snapshot,
    "ROLLBACK": _rollback,
    "QUERY_LLM": _query,
    "QUERY_LLM_BATCHED": _query_batched,
}
