"""Why packages could not be had, from what pip said, each with its fix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from terraphim_rlm.core.errors import (
    Cancelled,
    DiskFull,
    InvalidArgument,
    NotSupported,
    PackageNotFound,
    PackagesUnavailable,
    RlmError,
)
from terraphim_rlm.core.pip import Fault, PipEnd

_NONE_FOR = re.compile(r"No matching distribution found for ([^\s(]+)")
_VERSIONS = re.compile(r"\(from versions: (?!none\))([^)]*)\)")
_OTHERS = re.compile(r"Skipping link: (No sources permitted|none of the wheel's tags|.*requires? a different Python)|"
                     r"Link requires a different Python")  # fmt: skip
_CONFLICT = re.compile(r"^The conflict is caused by:\n((?: +\S.*\n)+)", re.MULTILINE)


def failure(packages: tuple[str, ...], end: PipEnd, others: Callable[[str], str], python: str) -> RlmError:
    """The error that an end of pip comes to.

    Args:
        others: the log of a look for what the index has of a requirement for other Pythons, or as source.
        python: for which Python there was nothing, such as `Python 3.11.2`.
    """
    named = ", ".join(packages)[:200]
    if end.fault == "not_found":
        return _not_found(end, others, python)
    if end.fault == "conflict":
        found = _CONFLICT.search(end.said)
        why = "; ".join(line.strip() for line in found[1].splitlines())[:600] if found else end.reason
        return InvalidArgument(f"These packages do not go together: {why}.", fix="Loosen their versions.")
    make = _SIMPLE.get(end.fault or "other", _SIMPLE["other"])
    return make(named, end.reason)


def _not_found(end: PipEnd, others: Callable[[str], str], python: str) -> RlmError:
    match = _NONE_FOR.search(end.said)
    wanted = match[1][:100] if match else "one of them"
    if versions := _VERSIONS.search(end.said):
        some = ", ".join(versions[1].split(", ")[-5:])[:200]
        return PackageNotFound(
            f"There is no wheel of {wanted} for {python}; the newest versions that have one: {some}.",
            fix="Name one of these versions, or none.",
            package=wanted,
        )
    if match and _OTHERS.search(others(wanted)):
        return PackageNotFound(
            f"{wanted} has no wheel for {python} on this machine, only other files.",
            fix="Name another version, or another package; sources are not built, since that would run their code here.",
            package=wanted,
        )
    return PackageNotFound(
        f"The package index has no package {wanted}.",
        fix="Check its name, and which index pip uses (`pip config list`).",
        package=wanted,
    )


_SIMPLE: Mapping[Fault, Callable[[str, str], RlmError]] = {
    "no_pip": lambda named, reason: NotSupported(
        "Packages are fetched with pip, and pip is not installed beside this Python.",
        fix="Run `python -m ensurepip`, or install the extra: 'terraphim-rlm[local]'.",
    ),
    "disk_full": lambda named, reason: DiskFull(f"The disk became full while {named} was fetched."),
    "stopped": lambda named, reason: Cancelled(f"Stopped before {named} was fetched; nothing of it is kept."),
    "time": lambda named, reason: PackagesUnavailable(f"To fetch {named} took too long, and was ended."),
    "unreachable": lambda named, reason: PackagesUnavailable(
        f"The package index cannot be reached, and {named} was not fetched before."
    ),
    "invalid": lambda named, reason: InvalidArgument(f"pip does not understand it: {reason}."),
    "builds": lambda named, reason: PackageNotFound(
        f"Of what {named} needs, something comes only as source, whose code would have to run on this machine.",
        fix="Name versions whose dependencies are all wheels of an index.",
    ),
    "other": lambda named, reason: PackagesUnavailable(f"pip could not fetch {named}: {reason}"),
}  # fmt: skip
