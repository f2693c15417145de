"""The attack harness: a table of what hostile code tries, run against a backend, each P0 row with its control."""

from terraphim_rlm.testing.attack.harness import attack
from terraphim_rlm.testing.attack.table import ROWS

__all__ = ["ROWS", "attack"]
