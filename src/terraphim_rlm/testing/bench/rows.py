"""One row of a benchmark: samples in, percentiles and the goal out."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.values import SCHEMA_VERSION


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of unsorted samples; `share` from 0 to 1."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a row must reach."""

    value: float
    at: float = 0.5
    """Which percentile is held to it; share from 0 to 1."""
    least: bool = False
    """The row is a rate or a count: more is better, and the goal is the least there may be."""


def row(
    name: str,
    unit: str,
    samples: Sequence[float],
    goal: float | Goal | None,
    *,
    peers: Mapping[str, Any] | None = None,
    why: str = "",
) -> dict[str, Any]:
    """The stable shape of a result. `met` is None where the row has no goal, or could not run (`why` tells).

    A percentile is always that of the worse side: where more is better, 99 % of the samples are above `p99`.
    """
    held = goal if isinstance(goal, Goal) or goal is None else Goal(goal)
    sign = -1 if held and held.least else 1
    return {
        "schema_version": SCHEMA_VERSION,
        "row": name,
        "unit": unit,
        **{f"p{share}": _short(_worst(samples, share / 100, sign)) for share in (50, 95, 99)},
        "goal": held.value if held else None,
        "met": _met(samples, held, sign),
        "peers": dict(peers or {}),
        "n": len(samples),
        "why": why,
    }


def summary(samples: Sequence[float], *, least: bool = False) -> dict[str, Any]:
    """The figures of a peer, as they stand in a row."""
    sign = -1 if least else 1
    figures = {f"p{share}": _short(_worst(samples, share / 100, sign)) for share in (50, 95, 99)}
    return {**figures, "n": len(samples)}


def _worst(samples: Sequence[float], share: float, sign: int) -> float | None:
    return sign * percentile([sign * sample for sample in samples], share) if samples else None


def _met(samples: Sequence[float], goal: Goal | None, sign: int) -> bool | None:
    if goal is None or (value := _worst(samples, goal.at, sign)) is None:
        return None
    return sign * value <= sign * goal.value


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
