"""Checks a GBNF grammar before llama.cpp sees it.

llama.cpp prints the faults of a grammar straight to the process's stderr, whatever its log level, so
a fault must be found here. Checked: syntax, a `root` rule, every name defined. Left recursion is left to
llama.cpp, which refuses it without printing.

Grammar of the notation: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

import re

from terraphim_rlm.core.errors import InvalidArgument

MAX_CHARACTERS = 200_000

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t]+ | \#[^\n]*)
    | (?P<newline>\r?\n)
    | (?P<define>::=)
    | (?P<name>[A-Za-z0-9-]+)
    | (?P<text>"(?:[^"\\\n]|\\.)*")
    | (?P<set>\[\^?(?:[^\]\\]|\\.)+\])
    | (?P<repeat>[*+?] | \{\ *\d{1,4}\ *(?:,\ *(?:\d{1,4})?\ *)?\})
    | (?P<any>\.)
    | (?P<bar>\|)
    | (?P<open>\()
    | (?P<close>\))
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[tnr\\\"\[\]])")
_ITEMS = {"name", "text", "set", "any", "close"}

Token = tuple[str, str, int]


def check(grammar: str) -> None:
    """Accepts a grammar that llama.cpp will parse.

    Raises:
        InvalidArgument: the grammar is malformed; the message names the line.
    """
    if len(grammar) > MAX_CHARACTERS:
        raise InvalidArgument(
            f"The grammar has {len(grammar)} characters; at most {MAX_CHARACTERS} are taken."
        )
    defined: set[str] = set()
    used: dict[str, int] = {}
    for rule in _rules(_tokens(grammar)):
        defined.add(rule[0][1])
        _check_body(rule[2:], rule[0][2])
        used.update({value: line for kind, value, line in rule[2:] if kind == "name"})
    if "root" not in defined:
        raise _fault(1, "there is no rule called root")
    for name, line in used.items():
        if name not in defined:
            raise _fault(line, f"the rule {name} is not defined")


def _tokens(grammar: str) -> list[Token]:
    tokens: list[Token] = []
    position, line = 0, 1
    while position < len(grammar):
        found = _TOKEN.match(grammar, position)
        if found is None:
            raise _fault(line, f"{grammar[position : position + 20]!r} is not understood")
        kind, value = str(found.lastgroup), found.group()
        if kind in ("text", "set") and "\\" in _ESCAPE.sub("", value):
            raise _fault(line, f"unknown escape in {value[:40]}")
        if kind != "blank":
            tokens.append((kind, value, line))
        line += value.count("\n")
        position = found.end()
    return tokens


def _rules(tokens: list[Token]) -> list[list[Token]]:
    """Splits at each `name ::=`; newlines then only separate, since a body may span lines."""
    solid = [token for token in tokens if token[0] != "newline"]
    starts = [at - 1 for at, token in enumerate(solid) if token[0] == "define"]
    if not starts or starts[0] != 0:
        raise _fault(1, "a grammar starts with a rule, as in: root ::= ..")
    for at in starts[1:]:
        if solid[at][0] != "name":
            raise _fault(solid[at][2], "::= must follow the name of a rule")
    if solid[0][0] != "name":
        raise _fault(1, "::= must follow the name of a rule")
    ends = [*starts[1:], len(solid)]
    return [solid[start:end] for start, end in zip(starts, ends, strict=True)]


def _check_body(body: list[Token], line: int) -> None:
    depth, before = 0, "bar"
    for kind, value, at in body:
        if kind == "repeat" and before not in _ITEMS:
            raise _fault(at, f"{value} has nothing to repeat")
        depth += {"open": 1, "close": -1}.get(kind, 0)
        if depth < 0:
            raise _fault(at, "a ) without its (")
        before = kind
    if depth:
        raise _fault(line, "a ( without its )")


def _fault(line: int, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"The grammar is malformed in line {line}: {what}.", fix="Mend the GBNF grammar.", line=line
    )
