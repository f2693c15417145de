"""Words of a shell: quotes, escapes, variables, substitutions and braces put together to what the shell would see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

BREAK, UNKNOWN, FETCHED, DECODED = "\ue000", "\ue001", "\ue002", "\ue003"
"""Marks in an expanded word: a field ends here; nobody knows what stands here; what stands here came over the network,
or out of a decoder, and nobody knows more."""
MARKS = re.compile(f"[{UNKNOWN}{FETCHED}{DECODED}]")
MOST = 1 << 20
"""Characters of a word, a variable, or what goes through a pipe; longer ones are cut, and not run unread."""
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8})|0?([0-7]{1,3})|(.))", re.DOTALL
)
_LETTERS = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "E": "\x1b",
    "f": "\f",
    "v": "\v",
}
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9@*#?$!-]")
_BRACES = re.compile(r"\{([^{}\s]*)\}")
_SPECIAL = re.compile(r"[\\\"'$`<>{]")
_EMPTY = frozenset("@*")
_HOME = {
    "$": "self",
    "HOME": "~",
    "IFS": " \t\n",
    "PWD": UNKNOWN,
    "SHELL": "/bin/bash",
    "BASH": "/bin/bash",
    "0": "bash",
    "_": UNKNOWN,
}
_COMMANDS = ("rm", "sh", "bash", "dash", "cat", "curl", "wget", "nc", "python3", "python", "perl", "dd", "mkfs", "chmod", "chown",
             "mv", "cp", "touch", "base64", "xxd", "kill", "mount", "nsenter", "socat", "ssh", "crontab", "shred", "find", "xargs", "env", "tee")  # fmt: skip
_PLACES = ("", "/bin/", "/usr/bin/", "/sbin/", "/usr/sbin/", "/usr/local/bin/")

Variables = Mapping[str, Any]
"""By name: text, or a list of texts for an array; what is not known is a text of `UNKNOWN`."""


def unescaped(text: str) -> str:
    """A text with the escapes of `$'..'` and `printf` done."""

    def one(found: re.Match[str]) -> str:
        for group, base in ((1, 16), (2, 16), (3, 16), (4, 8)):
            if found[group]:
                number = int(found[group], base)
                return chr(number) if number < 0x110000 else "\ufffd"
        return _LETTERS.get(found[5], found[5])

    return _ESCAPE.sub(one, text)


class Expander:
    """Expands words.

    Args:
        variables: read only.
        run: gives the output of a command substitution, with marks.
    """

    def __init__(self, variables: Variables, run: Callable[[str], str]) -> None:
        self._variables = variables
        self._run = run

    def fields(self, raw: str) -> list[str]:
        """The words that one raw word becomes."""
        if _SPECIAL.search(raw) is None:
            return [raw] if raw else []
        found = []
        for each in _braced(raw) if ("{" in raw and "," in raw) or ("{" in raw and ".." in raw) else [raw]:
            text = self.text(each)
            found += [part for part in text.split(BREAK) if part] or ([""] if _is_quoted(each) else [])
        return found[:1024]

    def text(self, raw: str, *, quoted: bool = False) -> str:
        """A raw word expanded, its fields divided by `BREAK`."""
        if _SPECIAL.search(raw) is None:
            return raw
        out: list[str] = []
        at, size, double = 0, len(raw), quoted
        while at < size:
            letter = raw[at]
            if letter == "\\":
                nxt = raw[at + 1 : at + 2]
                if nxt != "\n":
                    out.append(nxt if not double or nxt in '$`"\\' else "\\" + nxt)
                at += 2
            elif letter == '"' and not quoted:
                double = not double
                at += 1
            elif letter == "'" and not double:
                end = raw.find("'", at + 1)
                end = size if end < 0 else end
                out.append(raw[at + 1 : end])
                at = end + 1
            elif letter == "$" and raw[at + 1 : at + 2] == "'" and not double:
                end = _closing_quote(raw, at + 2)
                out.append(unescaped(raw[at + 2 : end]))
                at = end + 1
            elif letter == "$" and raw[at + 1 : at + 2] == '"' and not double:
                at += 1
            elif letter in "$`" or (letter in "<>" and raw[at + 1 : at + 2] == "(" and not double):
                value, at = self._dollar(raw, at)
                out.append(value if double else _split(value))
            else:
                out.append(letter)
                at += 1
        return "".join(out)[:MOST]

    def _dollar(self, raw: str, at: int) -> tuple[str, int]:
        """What stands at a `$`, a backquote or a process substitution, and where it ends."""
        if raw[at] == "`":
            end = raw.find("`", at + 1)
            end = len(raw) if end < 0 else end
            return self._run(raw[at + 1 : end].replace("\\`", "`")), end + 1
        nxt = raw[at + 1 : at + 2]
        if nxt == "(":
            end = closing(raw, at + 1)
            if raw[at] == "$" and raw.startswith("((", at + 1):
                return _number(raw[at + 3 : max(end - 1, at + 3)]), end + 1
            return self._run(raw[at + 2 : end]), end + 1
        if nxt == "{":
            end = closing(raw, at + 1)
            return self._braces(raw[at + 2 : end]), end + 1
        name = _NAME.match(raw, at + 1)
        if name is None:
            return raw[at], at + 1
        return self._value(name[0]), name.end()

    def _value(self, name: str) -> str:
        if name in self._variables:
            value = self._variables[name]
            return value if isinstance(value, str) else (value[0] if value else "")
        if name in _EMPTY:
            return ""
        return _HOME.get(name, UNKNOWN)

    def _braces(self, inner: str) -> str:
        """`${..}`."""
        if inner.startswith("!") and (name := _NAME.match(inner, 1)):
            return self._value(self._value(name[0]))
        if inner.startswith("#"):
            return str(len(self._value(inner[1:])))
        name = _NAME.match(inner)
        if name is None:
            return UNKNOWN
        rest, value = inner[name.end() :], self._variables.get(name[0])
        if rest.startswith("["):
            index, _, rest = rest[1:].partition("]")
            value = _element(value, index)
        else:
            value = self._value(name[0])
        if not rest:
            return value
        if rest[0] == ":" and rest[1:2] in "-=+?" and rest[1:2]:
            rest = rest[1:]
        if rest[0] in "-=":
            known = value and value != UNKNOWN
            return value if known else self.text(rest[1:])
        if rest[0] == "+":
            return self.text(rest[1:])
        if MARKS.search(value):
            return UNKNOWN
        return _changed(value, rest, self.text)


def _changed(value: str, rest: str, text: Callable[[str], str]) -> str:
    """A variable's value with the operator of its `${..}` done."""
    if rest[0] == ":":
        parts = rest[1:].split(":")
        try:
            start = int(_number(parts[0]))
            count = int(_number(parts[1])) if len(parts) > 1 else None
        except ValueError:
            return UNKNOWN
        cut = value[start:]
        return cut if count is None else cut[:count]
    if rest[0] == "#":
        return _without(value, text(rest.lstrip("#")), front=True, most=rest.startswith("##"))
    if rest[0] == "%":
        return _without(value, text(rest.lstrip("%")), front=False, most=rest.startswith("%%"))
    if rest[0] == "/":
        every = rest.startswith("//")
        old, _, new = rest[2 if every else 1 :].partition("/")
        old, new = text(old), text(new)
        return (
            value.replace(old, new, -1 if every else 1) if old and not re.search(r"[*?\[]", old) else UNKNOWN
        )
    if rest[0] in "^,":
        change = str.upper if rest[0] == "^" else str.lower
        return change(value) if rest[:2] in ("^^", ",,") else change(value[:1]) + value[1:]
    if rest.startswith("@"):
        return {"U": value.upper(), "L": value.lower(), "E": unescaped(value), "P": value, "Q": value}.get(
            rest[1:2], UNKNOWN
        )
    return UNKNOWN


def _without(value: str, pattern: str, *, front: bool, most: bool) -> str:
    places = range(len(value) + 1)
    order = sorted(places, reverse=most) if front else sorted(places, reverse=not most)
    for place in order[:4096]:
        piece = value[:place] if front else value[place:]
        if fnmatchcase(piece, pattern):
            return value[place:] if front else value[:place]
    return value


def _element(value: Any, index: str) -> str:
    if isinstance(value, list):
        if index in _EMPTY:
            return " ".join(value)
        try:
            return str(value[int(index)])
        except (ValueError, IndexError):
            return UNKNOWN
    return value if isinstance(value, str) and index in ("0", "@", "*") else UNKNOWN


def _number(text: str) -> str:
    """A sum of plain numbers, as arithmetic gives it."""
    plain = text.strip().strip("()")
    if re.fullmatch(r"-?\d{1,9}", plain):
        return plain
    found = re.fullmatch(r"(\d{1,9})\s*([-+*])\s*(\d{1,9})", plain)
    if found is None:
        return UNKNOWN
    left, right = int(found[1]), int(found[3])
    return str({"+": left + right, "-": left - right, "*": left * right}[found[2]])


def _split(value: str) -> str:
    return re.sub(r"[ \t\n]+", BREAK, value)


def _closing_quote(raw: str, at: int) -> int:
    while at < len(raw):
        if raw[at] == "\\":
            at += 1
        elif raw[at] == "'":
            return at
        at += 1
    return len(raw)


_PAIRS = {"(": ")", "{": "}"}


def closing(raw: str, at: int) -> int:
    """Where the bracket at `at` closes; the end when it does not."""
    opened, closed = raw[at], _PAIRS[raw[at]]
    depth, size = 0, len(raw)
    while at < size:
        letter = raw[at]
        if letter == "\\":
            at += 1
        elif letter == "'":
            end = raw.find("'", at + 1)
            at = size if end < 0 else end
        elif letter == opened:
            depth += 1
        elif letter == closed:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return size


def _braced(raw: str) -> list[str]:
    """Brace expansion of a raw word, bounded."""
    done: list[str] = []
    todo = [raw]
    while todo and len(done) + len(todo) < 512:
        word = todo.pop(0)
        found = next(
            (
                each
                for each in _BRACES.finditer(word)
                if not word[: each.start()].endswith("$") and ("," in each[1] or ".." in each[1])
            ),
            None,
        )
        if found is None:
            done.append(word)
            continue
        before, after = word[: found.start()], word[found.end() :]
        if "," in found[1]:
            todo = [f"{before}{each}{after}" for each in found[1].split(",")] + todo
        else:
            parts = re.fullmatch(r"(\w)\.\.(\w)", found[1])
            if parts is None or abs(ord(parts[1]) - ord(parts[2])) > 100:
                done.append(word)
                continue
            low, high = ord(parts[1]), ord(parts[2])
            step = 1 if low <= high else -1
            todo = [f"{before}{chr(each)}{after}" for each in range(low, high + step, step)] + todo
    return done + todo


def _is_quoted(raw: str) -> bool:
    return raw.startswith(("'", '"')) and len(raw) >= 2


def globbed(word: str) -> str | None:
    """A command of note that a pattern such as `/b?n/r[m]` means; None when it means none."""
    if not re.search(r"[*?\[]", word) or word in ("[", "[["):
        return None
    for place in _PLACES:
        for name in _COMMANDS:
            if fnmatchcase(place + name, word):
                return name
    return None


def divided(text: str) -> Iterator[tuple[list[str], str, int, int]]:
    """Simple commands of a text: raw words, the sign before them, and their place."""
    words: list[str] = []
    sign, at, size, begin, start = "", 0, len(text), 0, -1
    while at <= size:
        letter = text[at] if at < size else "\n"
        if letter in " \t\n;|&" or (letter in "(){}" and start < 0 and letter in "()"):
            if start >= 0:
                words.append(text[start:at])
                start = -1
            if letter not in " \t":
                if words:
                    yield words, sign, begin, at
                sign = "|" if letter == "|" and text[at + 1 : at + 2] != "|" else letter
                if text[at + 1 : at + 2] in ("|", "&") and letter in "|&":
                    at += 1
                words, begin = [], at + 1
            at += 1
            continue
        if start < 0:
            start = at
            if not words:
                begin = at
        at = _past(text, at)


def _past(text: str, at: int) -> int:
    """The place behind a letter, a quote or a bracket."""
    letter = text[at]
    if letter == "\\":
        return at + 2
    if letter == "'":
        end = text.find("'", at + 1)
        return len(text) if end < 0 else end + 1
    if letter == '"':
        at += 1
        while at < len(text) and text[at] != '"':
            at += 2 if text[at] == "\\" else 1
        return at + 1
    if letter == "$" and text[at + 1 : at + 2] in ("(", "{"):
        return closing(text, at + 1) + 1
    return at + 1
