"""What the host's kernel counts for a container: read from its control group, where the engine runs on this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from terraphim_rlm.sandbox.contract import Consumption

_MOUNT = Path("/sys/fs/cgroup")


class Group:
    """The control group of a container, by a process in it. Where it cannot be found, everything is unknown."""

    def __init__(self, pid: int) -> None:
        self._memory: Path | None = None
        self._pids: Path | None = None
        self._cpu: Path | None = None
        self._events = ""
        self._last = 0
        with suppress(OSError):
            self._find(Path(f"/proc/{pid}/cgroup").read_text())

    def _find(self, text: str) -> None:
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            relative = path.lstrip("/")
            if not controllers:
                if (_MOUNT / relative / "memory.events").exists():
                    self._memory = self._pids = self._cpu = _MOUNT / relative
                    self._events = "memory.events"
                    return
                continue
            for name in controllers.split(","):
                folder = _MOUNT / name / relative
                if name == "memory" and folder.is_dir():
                    self._memory, self._events = folder, "memory.oom_control"
                elif name == "pids" and folder.is_dir():
                    self._pids = folder
                elif name == "cpu" and folder.is_dir():
                    self._cpu = folder

    def oom_kills(self) -> int:
        """How often the kernel has killed in it for memory; what was last seen once it is gone."""
        self._last = max(self._last, _field(self._memory, self._events, "oom_kill"))
        return self._last

    def throttled(self) -> int:
        """How often the kernel has stopped it for having used up its share of the CPU."""
        return _field(self._cpu, "cpu.stat", "nr_throttled")

    def consumption(self) -> Consumption:
        old = self._events == "memory.oom_control"
        memory = _number(self._memory, "memory.usage_in_bytes" if old else "memory.current")
        return Consumption(memory, _number(self._pids, "pids.current"))


def _field(folder: Path | None, name: str, field: str) -> int:
    """A number of a file with a name and a number a line; 0 where there is none."""
    if folder is not None:
        with suppress(OSError, ValueError):
            for line in (folder / name).read_text().splitlines():
                if line.startswith(f"{field} "):
                    return int(line.split()[1])
    return 0


def _number(folder: Path | None, name: str) -> int | None:
    if folder is None:
        return None
    try:
        return int((folder / name).read_text())
    except (OSError, ValueError):
        return None
