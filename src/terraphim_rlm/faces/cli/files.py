"""What a command reads itself: small files and standard input, with a bound on their size."""

from __future__ import annotations

import sys
from pathlib import Path

from terraphim_rlm.core.errors import InputUnreadable, InvalidArgument, PathNotFound


def read(name: str, most: int) -> bytes:
    """A file's bytes; `-` is standard input.

    Raises:
        PathNotFound, InputUnreadable: there is no such file, or it cannot be read.
        InvalidArgument: it has more than `most` bytes.
    """
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputUnreadable("Standard input is closed.", fix="Name a file.")
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(most + 1)
    except FileNotFoundError:
        raise PathNotFound(f"There is no file {name}.", path=name) from None
    except (OSError, ValueError) as error:
        raise InputUnreadable(
            f"{name} cannot be read: {getattr(error, 'strerror', error)}.", path=name
        ) from error
    if len(data) > most:
        raise InvalidArgument(f"{name} has more than {most:,} bytes.", fix="Give a smaller file.", path=name)
    return data


def text(name: str, most: int) -> str:
    """A file's text.

    Raises:
        InputUnreadable: it is not UTF-8.
    """
    try:
        return read(name, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputUnreadable(
            f"{name} is not text: byte {error.start} is not UTF-8.",
            fix="Give a text file in UTF-8.",
            path=name,
        ) from None
