"""The attack table: every row by its id, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from terraphim_rlm.testing.attack import (
    rows_channel,
    rows_compiled,
    rows_egress,
    rows_exhaustion,
    rows_faults,
    rows_files,
    rows_guard,
    rows_inside,
    rows_kernel,
    rows_network,
    rows_paths,
    rows_pool,
    rows_processes,
    rows_resources,
    rows_results,
    rows_service,
    rows_states,
    rows_transfers,
)
from terraphim_rlm.testing.attack.model import Row

_ALL = (
    *rows_egress.ROWS, *rows_resources.ROWS, *rows_exhaustion.ROWS, *rows_files.ROWS, *rows_inside.ROWS, *rows_processes.ROWS,
    *rows_kernel.ROWS, *rows_network.ROWS, *rows_results.ROWS, *rows_paths.ROWS, *rows_transfers.ROWS, *rows_channel.ROWS, *rows_service.ROWS,
    *rows_compiled.ROWS, *rows_faults.ROWS, *rows_states.ROWS, *rows_pool.ROWS, *rows_guard.ROWS,
)  # fmt: skip
ROWS: Mapping[str, Row] = {row.id: row for row in sorted(_ALL, key=lambda row: row.id)}
"""Every row of every group, sorted by id."""
