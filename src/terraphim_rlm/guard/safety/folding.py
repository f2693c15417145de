"""Constants that code puts together, put together: bounded operations on plain values, none of the code's own.

Only methods and functions of the table below are applied, to values whose size is bounded before and after. What is
not known is `UNKNOWN`.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import codecs
import html
import json
import lzma
import re
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Any

MOST = 1 << 16
"""Characters, bytes or elements of a folded value."""


class _Unknown:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = _Unknown()
_PLAIN = (str, bytes, int, float, bool, type(None))
_SEQUENCES = (list, tuple)


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is known to its last element."""
    if isinstance(value, _PLAIN):
        return True
    if isinstance(value, _SEQUENCES) and depth < 4:
        return all(is_plain(each, depth + 1) for each in value)
    if type(value) is dict and depth < 4:
        return all(is_plain(each, depth + 1) for each in value.values())
    return False


def bounded(value: Any) -> Any:
    """The value, or `UNKNOWN` when it is too large."""
    if isinstance(value, (str, bytes, list, tuple, dict)) and len(value) > MOST:
        return UNKNOWN
    if type(value) is int and value.bit_length() > 256:
        return UNKNOWN
    return value


_STRING_METHODS = frozenset(
    [
        "lower",
        "upper",
        "swapcase",
        "title",
        "capitalize",
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "removeprefix",
        "removesuffix",
        "casefold",
        "splitlines",
        "partition",
        "rpartition",
        "startswith",
        "find",
        "index",
        "count",
        "isdigit",
        "hex",
    ]
)


def method(value: Any, name: str, args: list[Any]) -> Any:
    """`value.name(*args)`, where that is known and harmless."""
    if not all(is_plain(each) for each in args):
        return UNKNOWN
    try:
        return bounded(_method(value, name, args))
    except Exception:  # what the code would run into itself
        return UNKNOWN


def _method(value: Any, name: str, args: list[Any]) -> Any:
    if isinstance(value, (str, bytes)):
        if name in _STRING_METHODS:
            return getattr(value, name)(*args)
        known = _TEXT_METHODS.get(name)
        return UNKNOWN if known is None else known(value, *args)
    if isinstance(value, list) and name in ("copy", "index", "count"):
        return getattr(value, name)(*args)
    if isinstance(value, int) and name == "to_bytes" and args and args[0] < 4096:
        return value.to_bytes(*args)
    return value.get(*args) if type(value) is dict and name == "get" else UNKNOWN


def _join(value: Any, parts: Any) -> Any:
    parts = list(parts)
    return value.join(parts) if sum(map(len, parts)) + len(value) * len(parts) <= MOST else UNKNOWN


def _replace(value: Any, old: Any, new: Any, *count: int) -> Any:
    return value.replace(old, new, *count) if value.count(old) * len(new) <= MOST else UNKNOWN


def _translate(value: Any, table: Any) -> Any:
    if not isinstance(value, str) or not isinstance(table, dict):
        return UNKNOWN
    return value.translate({int(key): each for key, each in table.items()})


def _format(value: Any, *args: Any) -> Any:
    known = isinstance(value, str) and ":" not in value and "!" not in value
    return _formatted(value, list(args)) if known else UNKNOWN


_TEXT_METHODS: dict[str, Callable[..., Any]] = {
    "join": _join,
    "replace": _replace,
    "translate": _translate,
    "format": _format,
    "encode": lambda value, *args: value.encode(*_encoding(list(args))),
    "decode": lambda value, *args: value.decode(*_encoding(list(args))),
    "__add__": lambda value, other: value + other,
    "__getitem__": lambda value, key: value[key],
    "maketrans": lambda value, *args: str.maketrans(*args),
}


def _formatted(text: str, args: list[Any]) -> Any:
    pieces = re.split(r"\{(\d*)\}", text)
    if "{" in "".join(pieces[::2]) or any(not isinstance(each, (str, int)) for each in args):
        return UNKNOWN
    said = [args[int(each or number)] for number, each in enumerate(pieces[1::2])]
    return "".join(str(each) for pair in zip(pieces[::2], [*said, ""], strict=True) for each in pair)


_CODECS = ("rot13", "rot_13", "hex", "hex_codec", "base64", "base_64", "zip", "zlib", "utf-8", "utf8", "ascii",
           "latin-1", "latin1", "unicode_escape", "unicode-escape", "raw_unicode_escape", "utf-16", "utf-7", "utf_7")  # fmt: skip


def _encoding(args: list[Any]) -> list[Any]:
    if args and str(args[0]).lower() not in _CODECS:
        raise LookupError(args[0])
    return args[:1]


def _decoded(data: Any, encoding: str = "utf-8") -> Any:
    name = str(encoding).lower()
    if name in ("zip", "zlib"):
        return _inflated(data)
    if name not in _CODECS:
        return UNKNOWN
    return codecs.decode(data, name)


def _inflated(data: bytes, *_: Any) -> bytes:
    return zlib.decompressobj(47).decompress(data, MOST)


def _chars(number: Any, *_: Any) -> Any:
    return chr(number)


def _range(*args: int) -> Any:
    found = range(*args)
    return list(found) if len(found) <= 4096 else UNKNOWN


def _literal(text: str) -> Any:
    import ast

    return ast.literal_eval(text) if len(text) < 4096 else UNKNOWN


def _sub(pattern: str, new: str, text: str, *_: Any) -> Any:
    """`re.sub` for patterns that cannot take long: no repetition but of one class."""
    if len(pattern) > 40 or len(text) > 4096 or re.search(r"[*+?{].*[*+?{]|\(", pattern):
        return UNKNOWN
    return re.sub(pattern, new, text)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "builtins.chr": _chars,
    "builtins.ord": ord,
    "builtins.str": lambda value="", *rest: value.decode(*rest[:1]) if rest else str(value),
    "builtins.int": int,
    "builtins.hex": hex,
    "builtins.oct": oct,
    "builtins.bin": bin,
    "builtins.len": len,
    "builtins.abs": abs,
    "builtins.sum": lambda values, start=0: sum(values, start),
    "builtins.bytes": lambda value=b"", *rest: UNKNOWN if isinstance(value, int) else bytes(value, *rest),
    "builtins.bytearray": lambda value=b"", *rest: UNKNOWN if isinstance(value, int) else bytes(value, *rest),
    "builtins.list": lambda value=(): list(value),
    "builtins.tuple": lambda value=(): tuple(value),
    "builtins.reversed": lambda value: list(reversed(value)),
    "builtins.sorted": sorted,
    "builtins.dict": lambda value=(): dict(value),
    "builtins.zip": lambda *values: list(zip(*values, strict=False)),
    "builtins.enumerate": lambda value, start=0: list(enumerate(value, start)),
    "builtins.range": _range,
    "builtins.min": min,
    "builtins.max": max,
    "builtins.repr": repr,
    "builtins.ascii": ascii,
    "builtins.iter": lambda value: value,
    "builtins.next": lambda value, *_: value[0],
    "builtins.bytes.fromhex": bytes.fromhex,
    "builtins.bytearray.fromhex": bytes.fromhex,
    "builtins.str.maketrans": str.maketrans,
    "builtins.str.join": lambda value, parts: method(value, "join", [parts]),
    "builtins.int.to_bytes": lambda value, *rest: method(value, "to_bytes", list(rest)),
    "base64.b64decode": lambda data, *_: base64.b64decode(data),
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.standard_b64decode": base64.standard_b64decode,
    "base64.decodebytes": base64.decodebytes,
    "base64.b32decode": lambda data, *_: base64.b32decode(data),
    "base64.b16decode": lambda data, *_: base64.b16decode(data, casefold=True),
    "base64.b85decode": base64.b85decode,
    "base64.a85decode": lambda data, *_: base64.a85decode(data),
    "binascii.unhexlify": binascii.unhexlify,
    "binascii.a2b_hex": binascii.unhexlify,
    "binascii.a2b_base64": binascii.a2b_base64,
    "codecs.decode": _decoded,
    "codecs.encode": lambda text, encoding="utf-8": _decoded(text, encoding) if str(encoding).lower().startswith("rot") else UNKNOWN,
    "zlib.decompress": _inflated,
    "gzip.decompress": _inflated,
    "bz2.decompress": lambda data: bz2.BZ2Decompressor().decompress(data, MOST),
    "lzma.decompress": lambda data, *_: lzma.LZMADecompressor(memlimit=32 << 20).decompress(data, MOST),
    "urllib.parse.unquote": urllib.parse.unquote,
    "urllib.parse.unquote_plus": urllib.parse.unquote_plus,
    "html.unescape": html.unescape,
    "json.loads": json.loads,
    "ast.literal_eval": _literal,
    "re.sub": _sub,
    "os.path.join": lambda *parts: "/".join(parts) if not any(p.startswith("/") for p in parts[1:]) else UNKNOWN,
    "os.path.expanduser": lambda path: path,
    "textwrap.dedent": lambda text: __import__("textwrap").dedent(text),
    "shlex.split": lambda text, *_: __import__("shlex").split(text),
    "shlex.join": " ".join,
    "sys.intern": lambda text: text,
}  # fmt: skip
"""What is known of functions, applied to plain values."""


def function(name: str, args: list[Any]) -> Any:
    """`name(*args)`, where that is known and harmless."""
    known = FUNCTIONS.get(name)
    if known is None or not all(is_plain(each) for each in args):
        return UNKNOWN
    try:
        return bounded(known(*args))
    except Exception:  # what the code would run into itself
        return UNKNOWN


def operation(kind: str, left: Any, right: Any) -> Any:
    """A binary operator on plain values."""
    try:
        return bounded(_operation(kind, left, right))
    except Exception:  # what the code would run into itself
        return UNKNOWN


def _operation(kind: str, left: Any, right: Any) -> Any:
    if kind == "Add":
        return left + right if _size(left) + _size(right) <= MOST else UNKNOWN
    if kind == "Mod" and isinstance(left, (str, bytes)):
        if re.search(rb"%[^%scdrx]" if isinstance(left, bytes) else r"%[^%scdrx]", left):  # type: ignore[arg-type]
            return UNKNOWN
        return left % (tuple(right) if isinstance(right, tuple) else right)
    if kind == "Mult":
        if isinstance(left, int) and isinstance(right, int):
            return left * right if left.bit_length() + right.bit_length() < 256 else UNKNOWN
        many, times = (right, left) if isinstance(left, int) else (left, right)
        return many * times if _size(many) * times <= MOST else UNKNOWN
    if not isinstance(left, int) or not isinstance(right, int):
        return UNKNOWN
    if kind == "Pow":
        return left**right if left.bit_length() * max(right, 1) < 256 and right >= 0 else UNKNOWN
    if kind == "LShift":
        return left << right if right < 128 else UNKNOWN
    return _NUMBERS[kind](left, right)


_NUMBERS: dict[str, Callable[[int, int], Any]] = {
    "Sub": lambda a, b: a - b,
    "Mod": lambda a, b: a % b,
    "FloorDiv": lambda a, b: a // b,
    "RShift": lambda a, b: a >> b,
    "BitXor": lambda a, b: a ^ b,
    "BitOr": lambda a, b: a | b,
    "BitAnd": lambda a, b: a & b,
}


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple)) else 1
