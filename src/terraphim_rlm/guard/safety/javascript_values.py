"""Constants that JavaScript code puts together: methods of strings and lists, and the decoders of its library."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from typing import Any

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN


def method(value: Any, name: str, args: list[Any]) -> Any:  # noqa: PLR0911 - a method a line
    if value is None or name == "":
        return UNKNOWN
    known = {"toLowerCase": "lower", "toUpperCase": "upper", "trim": "strip"}.get(name)
    if known is not None and isinstance(value, str):
        return folding.method(value, known, [])
    if name == "join" and isinstance(value, list):
        sign = args[0] if args else ","
        return (
            sign.join(map(str, value))
            if isinstance(sign, str)
            and all(isinstance(each, (str, int)) for each in value)
            and len(value) < 4096
            else UNKNOWN
        )
    if name == "reverse" and isinstance(value, list):
        return value[::-1]
    if name == "split" and isinstance(value, str) and args and isinstance(args[0], str):
        return list(value) if not args[0] else value.split(args[0])
    if name in ("concat",):
        if isinstance(value, str):
            return (
                folding.bounded(value + "".join(map(str, args)))
                if all(isinstance(each, (str, int)) for each in args)
                else UNKNOWN
            )
        return [*value, *(inner for each in args for inner in (each if isinstance(each, list) else [each]))][
            :4096
        ]
    if name in ("replace", "replaceAll") and len(args) == 2 and all(isinstance(each, str) for each in args):
        return folding.bounded(value.replace(args[0], args[1], -1 if name == "replaceAll" else 1))
    if name in ("slice", "substring", "substr") and all(type(each) is int for each in args) and args:
        low = args[0]
        high = args[1] if len(args) > 1 else None
        return value[low : low + high] if name == "substr" and high is not None else value[low:high]
    if name in ("charAt", "at") and args and type(args[0]) is int:
        return value[args[0]] if -len(value) <= args[0] < len(value) else UNKNOWN
    if name in ("toString", "valueOf"):
        return value
    return UNKNOWN


def function_value(path: str, args: list[Any]) -> Any:
    first = args[0] if args else UNKNOWN
    try:
        if path == "String.fromCharCode" and all(type(each) is int for each in args):
            return "".join(chr(each & 0xFFFF) for each in args)
        if path in ("String", "String.raw"):
            return first
        if path == "atob" and isinstance(first, str):
            return base64.b64decode(first + "==").decode("latin-1")
        if path in ("unescape", "decodeURIComponent") and isinstance(first, str):
            return urllib.parse.unquote(first)
        if path == "Buffer.from" and isinstance(first, str):
            kind = args[1] if len(args) > 1 else "utf8"
            if kind in ("base64", "base64url"):
                return base64.b64decode(first + "==").decode("utf-8", "replace")
            return binascii.unhexlify(first).decode("utf-8", "replace") if kind == "hex" else first
        if path == "Buffer.from" and isinstance(first, list) and all(type(each) is int for each in first):
            return bytes(each & 255 for each in first).decode("utf-8", "replace")
        if path == "parseInt" and isinstance(first, str):
            return int(first, args[1] if len(args) > 1 and type(args[1]) is int else 10)
    except (ValueError, binascii.Error, TypeError):
        return UNKNOWN
    return UNKNOWN
