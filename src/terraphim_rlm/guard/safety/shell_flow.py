"""What goes through pipes, and what harmless commands make of it: text that is known stays known."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence

from terraphim_rlm.guard.safety.shell_words import DECODED, FETCHED, MOST, UNKNOWN, unescaped

DECODERS = frozenset(
    ["base64", "base32", "xxd", "openssl", "uudecode", "gunzip", "zcat", "gzip", "gpg", "bunzip2", "xz"]
)
"""Commands whose output nobody can tell from their input by looking."""


class Flow:
    """What goes through a pipe: its text, or where it came from."""

    __slots__ = ("origin", "text")

    def __init__(self, text: str | None = None, origin: str = "") -> None:
        self.text = text
        self.origin = origin
        """`fetched`, `decoded`, `copy` (of a command), or empty."""

    @staticmethod
    def of(text: str) -> Flow:
        """A text that may have marks in it."""
        if FETCHED in text:
            return Flow(None, "fetched")
        if DECODED in text:
            return Flow(None, "decoded")
        return Flow(text[:MOST]) if text.strip() != UNKNOWN else Flow()

    @staticmethod
    def joined(flows: Sequence[Flow]) -> Flow:
        """Several, one after the other."""
        origin = next((each.origin for each in flows if each.origin), "")
        if origin:
            return Flow(None, origin)
        texts = [each.text for each in flows if each.text]
        return Flow("".join(texts)[:MOST]) if texts else Flow()

    def marked(self) -> str:
        """As text with marks, for a substitution."""
        if self.text is not None:
            return self.text
        return {"fetched": FETCHED, "decoded": DECODED}.get(self.origin, UNKNOWN)


def _echo(args: list[str], text: str | None) -> str:
    escapes = newline = True
    escapes = False
    rest = list(args)
    while rest and re.fullmatch(r"-[neE]+", rest[0]):
        option = rest.pop(0)
        escapes = escapes or "e" in option
        newline = newline and "n" not in option
    said = " ".join(rest)
    return (unescaped(said) if escapes or "\\x" in said or "\\0" in said else said) + (
        "\n" if newline else ""
    )


def printf(args: list[str], text: str | None) -> str | None:
    if args[:1] == ["--"]:
        args = args[1:]
    if not args or args[0] == "-v":
        return None
    form, rest = unescaped(args[0]), list(args[1:])
    if "%" not in form:
        return form
    out = []
    while True:
        text, taken = _filled(form, rest)
        out.append(text)
        rest = rest[taken:]
        if not rest or not taken:
            return "".join(out)


def _filled(form: str, values: list[str]) -> tuple[str, int]:
    """A format with its values, and how many it took."""
    taken = 0

    def one(found: re.Match[str]) -> str:
        nonlocal taken
        if found[0] == "%%":
            return "%"
        value = values[taken] if taken < len(values) else ""
        taken += 1
        if found[1] == "b":
            return unescaped(value)
        if found[1] in "xo" and value.isdigit():
            return format(int(value), found[1])
        return value[:1] if found[1] == "c" else value

    return re.sub(r"%(?:%|([sbcdxoq]))", one, form), taken


def _base64(args: list[str], text: str | None) -> str | None:
    if not any(each.startswith("-") and ("d" in each.lower()) for each in args) or text is None:
        return None
    return base64.b64decode("".join(text.split()) + "==").decode("utf-8", "replace")


def _base32(args: list[str], text: str | None) -> str | None:
    return None if text is None else base64.b32decode("".join(text.split())).decode("utf-8", "replace")


def _xxd(args: list[str], text: str | None) -> str | None:
    if text is None or not any("r" in each for each in args):
        return None
    return binascii.unhexlify("".join(text.split())).decode("utf-8", "replace")


def _openssl(args: list[str], text: str | None) -> str | None:
    return _base64(["-d"], text) if "base64" in args or "-base64" in args or "-a" in args else None


def _tr(args: list[str], text: str | None) -> str | None:
    if text is None:
        return None
    rest = [each for each in args if not each.startswith("-") or len(each) == 1]
    if any(each.startswith("-") and "d" in each for each in args):
        drop = set(_ranges(rest[0]))
        return "".join(each for each in text if each not in drop)
    old, new = _ranges(rest[0]), _ranges(rest[1])
    new += new[-1] * (len(old) - len(new))
    return text.translate(dict(zip(map(ord, old), new, strict=False)))


def _ranges(text: str) -> str:
    named = {"[:lower:]": "a-z", "[:upper:]": "A-Z", "[:digit:]": "0-9", "[:space:]": " \t\n"}
    for name, span in named.items():
        text = text.replace(name, span)
    return re.sub(
        r"(.)-(.)",
        lambda m: "".join(map(chr, range(ord(m[1]), min(ord(m[2]), ord(m[1]) + 200) + 1))),
        unescaped(text),
    )


def _sed(args: list[str], text: str | None) -> str | None:
    scripts = [each for each in args if not each.startswith("-")]
    if text is None or len(scripts) != 1:
        return None
    for script in scripts[0].split(";"):
        found = re.fullmatch(r"s(.)((?:(?!\1).)*)\1((?:(?!\1).)*)\1(g?)", script.strip())
        if found is None or re.search(r"[*+?\[\]().^$\\]", found[2]) or "&" in found[3]:
            return None
        text = text.replace(found[2], found[3], -1 if found[4] else 1)
    return text


def _cut(args: list[str], text: str | None) -> str | None:
    joined = " ".join(args)
    chars = re.search(r"-c\s*(\d+)(-)?(\d+)?", joined)
    if text is None or chars is None:
        return None
    low = int(chars[1]) - 1
    high = int(chars[3]) if chars[3] else (len(text) if chars[2] else low + 1)
    return "\n".join(line[low:high] for line in text.split("\n"))


def _through(args: list[str], text: str | None) -> str | None:
    return text if not [each for each in args if not each.startswith("-")] else None


OUTPUTS: dict[str, Callable[[list[str], str | None], str | None]] = {
    "echo": _echo,
    "printf": printf,
    "base64": _base64,
    "base32": _base32,
    "xxd": _xxd,
    "openssl": _openssl,
    "tr": _tr,
    "sed": _sed,
    "cut": _cut,
    "cat": _through,
    "tee": lambda args, text: text,
    "rev": lambda args, text: None if text is None else "\n".join(line[::-1] for line in text.split("\n")),
    "tac": lambda args, text: (
        None if text is None else "\n".join(reversed(text.rstrip("\n").split("\n"))) + "\n"
    ),
    "head": lambda args, text: text,
    "tail": lambda args, text: text,
    "seq": lambda args, text: None,
    "which": lambda args, text: f"/usr/bin/{args[-1]}\n",
    "type": lambda args, text: f"/usr/bin/{args[-1]}\n" if "-p" in args or "-P" in args else None,
    "pwd": lambda args, text: UNKNOWN,
}
