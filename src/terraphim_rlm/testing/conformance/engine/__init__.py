"""The cases of `--kind engine`: what an engine that works by code over an input must do, whoever wrote it."""

from __future__ import annotations

from terraphim_rlm.testing.conformance.engine import calls, cells, inputs, replies
from terraphim_rlm.testing.conformance.engine.kit import CASES as _CASES
from terraphim_rlm.testing.conformance.model import Case

_ = (cells, inputs, replies, calls)  # importing them fills the table
CASES: tuple[Case, ...] = tuple(_CASES)
