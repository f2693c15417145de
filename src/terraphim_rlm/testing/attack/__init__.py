"""The attack harness: a table of what hostile code tries, run against a backend, each P0 row with its control."""

from terraphim_rlm.testing.attack.table import ROWS
from terraphim_rlm.testing.attack.tiers import Plan, attack

__all__ = ["ROWS", "Plan", "attack"]
