"""How a command speaks: data on standard output, all else on standard error, errors the same everywhere."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import typer

from terraphim_rlm import __version__
from terraphim_rlm.core.errors import Cancelled, DiskFull, InternalError, RlmError
from terraphim_rlm.core.values import SCHEMA_VERSION
from terraphim_rlm.faces.cli.words import clean

Mode = Literal["text", "json", "jsonl"]
BROKEN_PIPE = 141
"""What a shell reports of a program that ended because nobody read on: 128 + SIGPIPE."""
_C1 = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class OutputLost(Exception):
    """Standard output cannot be written; `why` is the system's error."""

    def __init__(self, why: OSError) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(slots=True)
class Voice:
    """One command's way to speak."""

    command: str
    mode: Mode = "text"
    debug: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def quiet(self) -> bool:
        """Whether people are not meant to read along."""
        return self.mode != "text"

    def say(self, text: str) -> None:
        """Data for people, on standard output."""
        write_out(text if text.endswith("\n") else text + "\n")

    def note(self, text: str) -> None:
        """A remark on standard error; nothing in the modes for programs."""
        if not self.quiet:
            complain(text)

    def give(self, data: Any, text: str, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        """The command's result, in the form that was asked for."""
        if self.quiet:
            self._envelope(data, errors)
        else:
            self.say(text)

    def fail(self, error: RlmError, *, cause: BaseException | None = None) -> int:
        """Tells of an error; the exit code."""
        if self.quiet:
            self._envelope(None, [error.to_json()])
        else:
            complain(explained(error))
        if self.debug:
            trace = cause or error
            complain("".join(traceback.format_exception(trace)))
        return error.row.exit_code

    def _envelope(self, data: Any, errors: Sequence[Mapping[str, Any]]) -> None:
        response = {
            "schema_version": SCHEMA_VERSION,
            "success": not errors,
            "meta": {
                "command": self.command,
                "elapsed_ms": round((time.monotonic() - self.started) * 1000, 3),
                "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "version": __version__,
            },
            "data": data,
            "errors": list(errors),
        }
        write_out(as_json(response, indent=None if self.mode == "jsonl" else 2) + "\n")


@contextmanager
def speaking(command: str, mode: Mode = "text", debug: bool = False) -> Iterator[Voice]:
    """A command's voice; errors of the block are told and become the exit code."""
    voice = Voice(command, mode, debug)
    try:
        yield voice
    except RlmError as error:
        code = voice.fail(error)
    except KeyboardInterrupt as error:
        code = voice.fail(Cancelled("Interrupted."), cause=error)
    except (typer.Exit, OutputLost, BrokenPipeError):
        raise
    except Exception as error:
        code = voice.fail(bug(error), cause=error)
    else:
        return
    raise typer.Exit(code)


def bug(error: Exception) -> RlmError:
    """What was not foreseen, as an error of ours; full disks are told apart."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"There is no space left: {error}.")
    return InternalError(f"{type(error).__name__}: {error}", fix="")


def explained(error: RlmError) -> str:
    """What happened and why, then the fix."""
    return f"trlm: {clean(error.message)} [{error.row.code}]\n  fix: {clean(error.fix)}"


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON for any terminal: no control characters, not even those that JSON allows."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=str)
    return _C1.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def write_out(text: str) -> None:
    """Writes to standard output at once, as UTF-8.

    Raises:
        OutputLost: it is closed, or nobody reads it, or its disk is full.
    """
    # A lone surrogate becomes \\udcXX, which JSON reads back as the same character.
    write_bytes(text.encode("utf-8", "backslashreplace"))


def write_bytes(data: bytes) -> None:
    """As `write_out`, what is no text."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        _write_all(sys.stdout, data)
    except OSError as error:
        raise OutputLost(error) from error


def _write_all(stream: TextIO, data: bytes) -> None:
    """Writes everything, also where Python was told not to buffer, or the other end does not block."""
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)
    rest = memoryview(data)
    while rest:
        written = raw.write(rest)
        if written is None:
            select.select([], [raw], [], 1.0)
        rest = rest[written or 0 :]


def complain(text: str) -> None:
    """Writes a line, or several, to standard error."""
    write_err(text if text.endswith("\n") else text + "\n")


def write_err(text: str) -> None:
    """Writes to standard error at once, as UTF-8; where that is closed, nobody wants to know."""
    if sys.stderr is None:
        return
    with suppress(OSError, ValueError):
        _write_all(sys.stderr, text.encode("utf-8", "backslashreplace"))


def drop_output() -> None:
    """Makes Python's own flush at its end go nowhere, after output was lost."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def lost(error: OSError) -> int:
    """Tells that standard output cannot be written, unless its reader left; the exit code."""
    drop_output()
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    complain(f"trlm: Standard output cannot be written: {error.strerror}.\n  fix: Send the output elsewhere.")
    return 1
