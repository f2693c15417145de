"""What the keeper is asked to start: a program in a sandbox of its own, or a fork of one that stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """A program to start in a sandbox of its own."""

    argv: Sequence[str]
    env: Mapping[str, str]
    fds: Mapping[int, int]
    """Number in the child -> our descriptor."""
    info_fd: int
    """Number in the child on which it tells the pid of its sandbox's pid 1."""
    rlimits: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    """Of its control group: memory (bytes), pids, cpu (CPUs)."""
    uid: int | None = None
    """User and group to become before exec; None stays who we are."""
    watch: int = 0
    """Bytes that its processes may hold together, for the keeper to watch where no group holds them; 0: it need not."""
    line: int = 0
    """Number in the child of the line on which it takes orders to fork sandboxes; 0: it takes none."""

    def descriptors(self) -> list[int]:
        """Those of ours that go along."""
        return list(self.fds.values())

    def message(self) -> dict[str, Any]:
        """What the keeper is asked."""
        return {
            "op": "spawn",
            "argv": list(self.argv),
            "env": dict(self.env),
            "fds": list(self.fds),
            "info_fd": self.info_fd,
            "line": self.line,
            "rlimits": dict(self.rlimits),
            "limits": dict(self.limits),
            "watch": self.watch,
            "uid": self.uid,
        }


@dataclass(frozen=True, slots=True)
class Fork:
    """A sandbox to be forked from a zygote, see `guest/zygote.py`."""

    zygote: int
    """Number of the zygote, which the keeper started as well."""
    fds: Sequence[int]
    """The supervisor's socket, standard input, standard output and error."""
    order: Mapping[str, Any]
    """What the zygote is told."""
    limits: Mapping[str, float] = field(default_factory=dict)
    watch: int = 0
    """Both as in `Launch`."""

    def descriptors(self) -> list[int]:
        """Those of ours that go along."""
        return list(self.fds)

    def message(self) -> dict[str, Any]:
        """What the keeper is asked."""
        return {
            "op": "fork",
            "zygote": self.zygote,
            "order": dict(self.order),
            "limits": dict(self.limits),
            "watch": self.watch,
        }
