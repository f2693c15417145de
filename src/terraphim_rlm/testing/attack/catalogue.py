"""The catalogue: every case of the groups that bear on sandboxes, whether or not this build has a row for it.

`catalogue.tsv` has id, severity, what it needs, and what it tries. A case without a row is told as not run, with the
reason of what it needs: it never counts as passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import cast

from terraphim_rlm.testing.attack.model import Severity

LACKING: Mapping[str, str] = {
    "admission": "needs a service that admits sandboxes by the memory that is left, which is not built",
    "cloud": "needs the backend of a cloud provider, which is not built",
    "docker": "is a matter of a container engine, whose backend this table does not try",
    "egress": "must reach a host to be tried, and none may be: `tests/egress` tries it over plain sockets",
    "firecracker": "needs the backend of virtual machines, which is not built",
    "rich-output": "needs outputs that are shown as pages and pictures, which are not built",
    "soak": "is a matter of hours: `--tier soak`",
    "statement": "no test shows its absence; the threat model says that it is not held back",
}
"""What a case may need that stands in for its row, and why that keeps it from running."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the catalogue."""

    id: str
    severity: Severity
    needs: str
    """`sandbox`, `bottle`, `service`, `toolchain`, or a name of `LACKING`."""
    what: str


@cache
def cases() -> Mapping[str, Case]:
    """All cases, by id, in order."""
    text = (resources.files(__package__ or "") / "catalogue.tsv").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines()[1:]:
        identity, severity, needs, what = line.split("\t")
        found[identity] = Case(identity, cast(Severity, severity), needs, what)
    return MappingProxyType(found)


def without_row(rows: Mapping[str, object]) -> dict[str, str]:
    """Why each case that has no row has none."""
    return {
        case.id: LACKING.get(case.needs, f"has no row yet, though nothing is lacking but that ({case.needs})")
        for case in cases().values()
        if case.id not in rows
    }
