"""What a sandbox has done so far, and what it takes up now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from terraphim_rlm.core.network import NetworkStatistics
from terraphim_rlm.core.values import Status
from terraphim_rlm.sandbox.contract import Consumption
from terraphim_rlm.sandbox.queue import QueueStatistics


@dataclass(frozen=True, slots=True)
class SandboxStatistics:
    """Of one sandbox, since it was opened."""

    executions: int
    by_status: Mapping[Status, int]
    by_language: Mapping[str, int]
    """`sh` for commands from start to end."""
    seconds: float
    """That executions ran, together."""
    output_bytes: int
    """Returned of stdout and stderr; what was cut off does not count."""
    files_read_bytes: int
    files_written_bytes: int
    """Sent, whether or not they came to stand in a file."""
    queue: QueueStatistics
    """Of all branches together: they work in turns."""
    consumption: Consumption
    network: NetworkStatistics | None = None
    """Of all branches together; None where none is allowed."""


class Tally:
    """Counts, at next to no cost: each round trip passes here."""

    __slots__ = ("_read", "_written", "languages", "output_bytes", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[Status] = Counter()
        self.languages: Counter[str] = Counter()
        self.seconds = 0.0
        self.output_bytes = 0
        self._read = self._written = 0

    def executed(self, status: Status, language: str, seconds: float, output_bytes: int) -> None:
        self.statuses[status] += 1
        self.languages[language] += 1
        self.seconds += seconds
        self.output_bytes += output_bytes

    def read(self, count: int) -> None:
        self._read += count

    def written(self, count: int) -> None:
        self._written += count

    def statistics(
        self, queue: QueueStatistics, consumption: Consumption, network: NetworkStatistics | None
    ) -> SandboxStatistics:
        return SandboxStatistics(
            executions=self.statuses.total(),
            by_status=dict(self.statuses),
            by_language=dict(self.languages),
            seconds=self.seconds,
            output_bytes=self.output_bytes,
            files_read_bytes=self._read,
            files_written_bytes=self._written,
            queue=queue,
            consumption=consumption,
            network=network,
        )
