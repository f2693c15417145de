"""What may be asked for: names of packages with versions, in the form of PEP 508, and nothing else of it.

No address, path, marker or option: pip would read each from its command line, and some of them run code. `packaging`
was not taken for this: it takes twice as long to load as a sandbox to start, and pip judges versions itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from terraphim_rlm.core.errors import InvalidArgument

MOST = 64
"""Packages of one sandbox, those not counted that they bring along."""
_LONGEST = 200
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE = r"(?:===?|[<>!~]=|[<>])\s*[A-Za-z0-9][A-Za-z0-9.*+!_-]*"
_REQUIREMENT = re.compile(
    rf"\s*({_NAME})\s*(?:\[\s*({_NAME}(?:\s*,\s*{_NAME})*)?\s*\])?\s*({_CLAUSE}(?:\s*,\s*{_CLAUSE})*)?\s*",
    re.ASCII,
)
_BETWEEN = re.compile(r",(?=\s*[A-Za-z0-9])(?![^\[]*\])")
_FIX = 'Name packages as "numpy", "numpy==2.*" or "pandas[excel]>=2,<3".'


def normalised(packages: Iterable[str]) -> tuple[str, ...]:
    """The same packages in one spelling and order, each once.

    Raises:
        InvalidArgument: one of them is no name with versions, or there are too many.
    """
    if isinstance(packages, (str, bytes)):
        raise InvalidArgument("`packages` is a sequence of texts, one for each package.", fix=_FIX)
    found: set[str] = set()
    for package in packages:
        found.add(_normalised(package))
        if len(found) > MOST:
            raise InvalidArgument(f"A sandbox can be given at most {MOST} packages.", fix="Leave some out.")
    return tuple(sorted(found))


def _normalised(package: str) -> str:
    match = _REQUIREMENT.fullmatch(package) if isinstance(package, str) and len(package) <= _LONGEST else None
    if match is None:
        shown = package[:80] if isinstance(package, str) else type(package).__name__
        raise InvalidArgument(f"{shown!r} is no name of a package with versions.", fix=_FIX)
    name, extras, versions = match.groups(default="")
    chosen = ",".join(sorted(map(name_of, filter(None, re.split(r"[\s,]+", extras)))))
    clauses = ",".join(sorted("".join(versions.split()).split(",")))
    return name_of(name) + (f"[{chosen}]" if chosen else "") + clauses


def name_of(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(text: str) -> list[str]:
    """`numpy>=2,<3,pyyaml` as its packages: a comma before a name divides them, unless it stands in brackets."""
    return [part.strip() for part in _BETWEEN.split(text) if part.strip()]
