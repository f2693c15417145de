"""From what a caller asks for to a request that a machine can take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.sandbox.contract import Request
from terraphim_rlm.sandbox.languages.table import SHELL, STANDARD_SECONDS, Language
from terraphim_rlm.sandbox.link.streams import OnOutput

_MOST_COMMAND = 128 * 1024 - 1
"""Bytes of one argument of a program (MAX_ARG_STRLEN of Linux)."""
_MOST_ENV = 16_384
_MOST_SECONDS = 31_536_000
_DENIED_ENV = ("LD_", "BASH_ENV", "ENV", "PYTHONHOME", "GIT_")
_IN_SHELLS = ("sh", "bash")


class Options(TypedDict, total=False):
    """What every execution takes besides its code."""

    timeout: float | None
    """Seconds; at its end the code is interrupted where it can be, and after one more second killed. None = as long
    as it takes. Left out: 30 times the language's multiplier."""
    stdin: str | bytes | None
    """For this execution only, like `env` and `cwd`. None = empty."""
    env: Mapping[str, str] | None
    cwd: str | None
    on_output: OnOutput | None
    """Gets (`stdout` or `stderr`, text) as it comes."""
    wait: float | None
    """Seconds that it may stand in the queue; None = as long as it takes, 0 = refuse when busy (`SandboxBusy`)."""
    changes: bool
    """True names in `files_changed` what it made, changed or removed in the work folder. Costs two listings of it."""


def request(code: str, spoken: Language, options: Options) -> Request:
    """A checked request.

    Raises:
        InvalidArgument: what is asked for cannot be; the message says which part.
        TypeError: there is no such option.
    """
    unknown = set(options) - Options.__optional_keys__
    if unknown:
        raise TypeError(
            f"There is no option {', '.join(sorted(unknown))}; there are {', '.join(sorted(Options.__optional_keys__))}."
        )
    timeout = options.get("timeout", STANDARD_SECONDS * spoken.timeout_multiplier)
    env, cwd = options.get("env") or {}, options.get("cwd")
    _check_code(code, spoken)
    _check_seconds("time-out", timeout, least=0.0, zero=False)
    _check_seconds("time to wait", options.get("wait"), least=0.0, zero=True)
    if cwd is not None and not is_plain(cwd):
        raise InvalidArgument(f"The folder {cwd!r} is no path.")
    for name, value in env.items():
        _check_variable(name, value)
    stdin = options.get("stdin")
    data = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
    if data is not None and not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidArgument(f"Standard input must be text or bytes, not {type(stdin).__name__}.")
    return Request(
        code, spoken.name, timeout, None if data is None else bytes(data), env, cwd, options.get("on_output")
    )


def _check_code(code: str, spoken: Language) -> None:
    if not isinstance(code, str):
        raise InvalidArgument(f"Code must be text, not {type(code).__name__}.")
    if spoken.name in _IN_SHELLS and not is_plain(code):
        raise InvalidArgument("A shell command cannot hold NUL bytes or halves of surrogate pairs.")
    if spoken is SHELL and len(code.encode("utf-8", "surrogateescape")) > _MOST_COMMAND:
        raise InvalidArgument(
            f"A shell command of {len(code):,} characters is longer than a system takes.",
            fix='Use `run(.., language="bash")`, or give the long part as `stdin`.',
        )


def _check_seconds(what: str, value: object, *, least: float, zero: bool) -> None:
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not (least < value <= _MOST_SECONDS or (zero and value == 0)):  # type: ignore[operator]
        bound = "0 or more" if zero else "more than 0"
        raise InvalidArgument(
            f"A {what} must be {bound} and at most {_MOST_SECONDS:,.0f} seconds, not {value!r}.",
            value=str(value)[:40],
        )


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str) or not (is_plain(name) and is_plain(value)):
        raise InvalidArgument(f"The environment variable {name!r} is no text that a program can take.")
    if "=" in name or name.startswith(_DENIED_ENV):
        raise InvalidArgument(f"The environment variable {name!r} may not be set for code in a sandbox.")
    if not name or len(name) + len(value) > _MOST_ENV:
        raise InvalidArgument(f"The environment variable {name!r} is empty or too long.")


def is_plain(text: object) -> bool:
    """Whether it is text that a system call takes."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
