"""What a soak measures between its rounds, and how it judges what it saw."""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from terraphim_rlm.testing.attack.conditions import Baseline, baseline
from terraphim_rlm.testing.attack.lab import Lab

MOST_GROWTH = 1024.0
"""Bytes for each execution that the owner's or the keeper's memory may grow by."""
LEAST_EXECUTIONS = 1_000
"""Of fewer no growth can be told: first uses of everything go on that long."""
_MOST_POINTS = 400
"""A regression takes all pairs of points: of more samples every n-th."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment between two rounds, with nothing but the living session open."""

    executions: int
    memory: Mapping[str, int]
    """`owner` and `keeper` -> bytes resident or swapped out."""
    counts: Mapping[str, int]
    """`owner's descriptors`, `keeper's descriptors`, `processes`, `groups and mounts`, `files`."""
    disk: int
    """Bytes in the data and temporary folders."""


def sample(executions: int, lab: Lab, keeper: int) -> Sample:
    """What there is now. `keeper` is its pid."""
    gc.collect()
    now = baseline(lab)
    return Sample(
        executions,
        {"owner": _memory(os.getpid()), "keeper": _memory(keeper)},
        {**_counts(now), "owner's descriptors": _open(os.getpid()), "keeper's descriptors": _open(keeper)},
        sum(now.files.values()),
    )


def _counts(now: Baseline) -> dict[str, int]:
    return {"processes": len(now.processes), "groups and mounts": len(now.traces), "files": len(now.files)}


def _open(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _memory(pid: int) -> int:
    """Resident and swapped bytes: forks share pages with the keeper, so its proportional size goes up and down."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Rss:", "Swap:")))


def growth(samples: Sequence[Sample], whose: str) -> float:
    """Bytes for each execution, by Theil and Sen: the median of the slopes between all pairs of samples.

    One round that happened to be sampled late does not move it.
    """
    points = samples[:: max(1, -(-len(samples) // _MOST_POINTS))]
    slopes = [
        (later.memory[whose] - sooner.memory[whose]) / (later.executions - sooner.executions)
        for sooner, later in combinations(points, 2)
        if later.executions > sooner.executions
    ]
    return median(slopes) if slopes else 0.0


def is_long(samples: Sequence[Sample]) -> bool:
    """Whether growth can be judged."""
    return len(samples) > 1 and samples[-1].executions >= LEAST_EXECUTIONS


def verdicts(samples: Sequence[Sample]) -> dict[str, str]:
    """What was judged -> what is wrong about it; empty when nothing is."""
    found: dict[str, str] = {}
    for whose in ("owner", "keeper") if is_long(samples) else ():
        grew = growth(samples, whose)
        found[f"memory of the {whose}"] = (
            f"{grew:,.0f} bytes more with each execution, and {MOST_GROWTH:,.0f} are allowed"
            if grew > MOST_GROWTH
            else ""
        )
    if len(samples) > 1:
        for name, at_first in samples[0].counts.items():
            found[name] = _flat(name, at_first, samples[-1].counts[name])
        found["disk"] = _flat("bytes on disk", samples[0].disk, samples[-1].disk)
    return found


def _flat(name: str, at_first: int, at_last: int) -> str:
    return f"{at_first} {name} after the warm-up, {at_last} at the end" if at_last > at_first else ""


def told(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """As the report shows them: about ten, the first and the last among them."""
    if not samples:
        return []
    few = [*samples[:: max(1, len(samples) // 9)]]
    shown = few if few[-1] is samples[-1] else [*few, samples[-1]]
    return [
        {"executions": each.executions, **{f"{whose}_kb": size >> 10 for whose, size in each.memory.items()}}
        | {name.replace(" ", "_").replace("'", ""): number for name, number in each.counts.items()}
        | {"disk_kb": each.disk >> 10}
        for each in shown
    ]
