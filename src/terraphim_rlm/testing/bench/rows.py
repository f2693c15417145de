"""One row of a benchmark: samples in, percentiles and the goal out."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from terraphim_rlm.core.values import SCHEMA_VERSION


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of unsorted samples; `share` from 0 to 1."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def row(
    name: str,
    unit: str,
    samples: Sequence[float],
    goal: float | None,
    *,
    peers: Mapping[str, Any] | None = None,
    why: str = "",
) -> dict[str, Any]:
    """The stable shape of a result. `met` compares the median with the goal; None = it could not run."""
    p50 = percentile(samples, 0.5) if samples else None
    return {
        "schema_version": SCHEMA_VERSION,
        "row": name,
        "unit": unit,
        "p50": _short(p50),
        "p95": _short(percentile(samples, 0.95)) if samples else None,
        "p99": _short(percentile(samples, 0.99)) if samples else None,
        "goal": goal,
        "met": None if p50 is None or goal is None else p50 <= goal,
        "peers": dict(peers or {}),
        "n": len(samples),
        "why": why,
    }


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
