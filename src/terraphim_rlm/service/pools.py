"""Pools as faces show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from terraphim_rlm.core.values import SCHEMA_VERSION, to_json
from terraphim_rlm.sandbox.pool.pools import PoolKey
from terraphim_rlm.sandbox.pool.statistics import PoolStatistics


def pools_to_json(found: Mapping[PoolKey, PoolStatistics]) -> dict[str, Any]:
    """`{"pools": [{"backend", "resources", "packages", and the names of `PoolStatistics`}]}`."""
    rows = [{**to_json(key._asdict()), **to_json(stands)} for key, stands in found.items()]
    return {"schema_version": SCHEMA_VERSION, "pools": rows}
