"""The use case of reading one reply: what the engine would take from it, so that anyone can judge replies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from terraphim_rlm.core.errors import InputUnreadable, PathNotFound
from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.engine.replies import ParsedReply
from terraphim_rlm.engine.replies import parse as parsed

MAX_BYTES = 16 * 1024 * 1024
"""Of the longest file that is read as one reply."""


def parse(reply: str) -> ParsedReply:
    """The commands of a model's reply, what was dropped and why. Never raises, runs nothing."""
    return parsed(reply)


def parse_file(path: str) -> dict[str, Any]:
    """Reads the reply in the file `path` (`-`: standard input); an empty file is an empty reply.

    Returns:
        what `parsed_to_json` gives; offsets count characters.

    Raises:
        PathNotFound: there is no such file.
        InputUnreadable: it is a folder, longer than `MAX_BYTES`, binary, or may not be read.
    """
    return parsed_to_json(parse(_text(path)))


def parsed_to_json(reply: ParsedReply) -> dict[str, Any]:
    """`{"schema_version", "commands", "dropped", "notice", "transcript"}`; each command with its `kind`."""
    return {
        "schema_version": SCHEMA_VERSION,
        "commands": [{"kind": each.kind, **to_json(each)} for each in reply.commands],
        "dropped": to_json(reply.dropped),
        "notice": reply.notice,
        "transcript": reply.transcript,
    }


def _text(path: str) -> str:
    data = _bytes(path)
    name = "The standard input" if path == "-" else path
    if len(data) > MAX_BYTES:
        raise InputUnreadable(
            f"{name} is longer than {MAX_BYTES:,} bytes, which no reply is.",
            fix="Give a file that holds one reply.",
            path=path,
        )
    if b"\0" in data:
        raise InputUnreadable(
            f"{name} is binary: it holds a zero byte.", fix="Give a UTF-8 text file.", path=path
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{name} is not UTF-8 text: byte {error.start} cannot be read."
        raise InputUnreadable(message, fix="Save it as UTF-8.", path=path) from error


def _bytes(path: str) -> bytes:
    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PathNotFound(f"There is no file {path}.", path=path) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputUnreadable(f"{path} cannot be read: {reason}.", path=path) from error
