"""The evasion corpus: programs that do harm behind other words, each of which really runs.

A sample's harm is a stand-in: it leaves a file `canary` in the folder that it runs in, or takes the folder `precious`
away. They run in a sandbox only (`running.py`). `held_out.toml` was written when the rules were done, and no rule was
changed for it: what it measures is whether rules carry over to samples that they were not written for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

FILES = {"python": "python.toml", "shell": "shell.toml", "others": "others.toml", "held-out": "held_out.toml"}
_LANGUAGES = {"python": "python", "shell": "bash"}
_OPEN, _CLOSE = "\u27e6", "\u27e7"


@dataclass(frozen=True, slots=True)
class Sample:
    """One program."""

    id: str
    family: str
    """What it hides behind."""
    harm: str
    """The class that a rule must name."""
    language: str
    code: str
    start: int
    """Of its payload, in characters."""
    end: int
    deed: Literal["canary", "gone"]
    """What shows that it ran: a file is there, or a folder is not."""

    @property
    def is_held_out(self) -> bool:
        return self.id.startswith("held-out")


@cache
def samples() -> tuple[Sample, ...]:
    """All of them, those held out last."""
    found: list[Sample] = []
    for group, name in FILES.items():
        text = (resources.files(__package__ or "") / name).read_text(encoding="utf-8")
        rows: Sequence[Mapping[str, Any]] = tomllib.loads(text)["sample"]
        found += [_sample(f"{group}-{number}", row, group) for number, row in enumerate(rows, 1)]
    return tuple(found)


def _sample(identity: str, row: Mapping[str, Any], group: str) -> Sample:
    marked = row["code"]
    start, end = marked.index(_OPEN), marked.index(_CLOSE) - 1
    code = marked.replace(_OPEN, "", 1).replace(_CLOSE, "", 1)
    language = row.get("language", _LANGUAGES.get(group, ""))
    return Sample(
        identity, row["family"], row["class"], language, code, start, end, row.get("deed", "canary")
    )
