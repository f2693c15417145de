"""Fields of an event's data, as far as they have the type that they should have; what has another counts as absent."""

from __future__ import annotations

from typing import Any

Data = dict[str, Any]
SHOWN = 2000
"""Characters of a text kept in a table; the events have all."""
MOST = 2**62


def text(data: Data, name: str) -> str:
    """The first 2,000 characters; empty when there is none."""
    value = data.get(name)
    return value[:SHOWN].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def count(data: Data, name: str) -> int:
    """A whole number; 0 when there is none, or a negative one."""
    value = data.get(name)
    return min(int(value), MOST) if isinstance(value, int) and value > 0 else 0


def number(data: Data, name: str) -> float | None:
    """A number of at least 0."""
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= MOST else None
