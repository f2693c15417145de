"""The attack table: every row by its id, in the order of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from terraphim_rlm.testing.attack import (
    rows_egress,
    rows_files,
    rows_kernel,
    rows_network,
    rows_processes,
    rows_resources,
    rows_results,
)
from terraphim_rlm.testing.attack.model import Row

_ALL = (
    *rows_egress.ROWS, *rows_resources.ROWS, *rows_files.ROWS, *rows_processes.ROWS,
    *rows_kernel.ROWS, *rows_network.ROWS, *rows_results.ROWS,
)  # fmt: skip
ROWS: Mapping[str, Row] = {row.id: row for row in sorted(_ALL, key=lambda row: row.id)}
"""Every row of every group, sorted by id."""
