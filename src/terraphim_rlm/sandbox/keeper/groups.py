"""Control groups, version 1, version 2 or none: made for a sandbox, joined before exec, removed after it.

A group's name says who owns it: pid namespace, owner's pid and birth, keeper's pid. A new keeper removes the
groups of its namespace whose owner is dead, so nothing depends on the last keeper having ended well.
"""

from __future__ import annotations

import os

from . import orphans

TYPE_CHECKING = False  # `typing` and `dataclasses` would be most of the keeper's start-up time
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterator, Mapping
else:
    import _signal

CONTROLLERS = ("memory", "pids", "cpu")
CPU_PERIOD_US = 20_000
"""Short, so that a sandbox at its CPU limit stalls for milliseconds; the kernel's default is 100,000."""


def _count(value: float) -> str:
    return str(int(value))


def _quota(cpus: float) -> str:
    return str(max(1000, int(cpus * CPU_PERIOD_US)))


KNOBS: Mapping[int, tuple[tuple[str, str, Callable[[float], str], bool], ...]] = {
    1: (
        ("memory", "memory.limit_in_bytes", _count, True),
        ("memory", "memory.memsw.limit_in_bytes", _count, False),
        ("pids", "pids.max", _count, True),
        ("cpu", "cpu.cfs_period_us", lambda _: str(CPU_PERIOD_US), True),
        ("cpu", "cpu.cfs_quota_us", _quota, True),
    ),
    2: (
        ("memory", "memory.max", _count, True),
        ("memory", "memory.swap.max", lambda _: "0", False),
        ("pids", "pids.max", _count, True),
        ("cpu", "cpu.max", lambda cpus: f"{_quota(cpus)} {CPU_PERIOD_US}", True),
    ),
}
"""By version: controller, file, what to write there for a limit, whether the limit stands or falls with it.

Not `memory.oom.group`: it would kill the supervisor with the process that took too much, and with it all files and the
other languages' state. The limit holds as well when the kernel kills one process after another.
"""
COUNTS: Mapping[str, tuple[str, Mapping[int, str]]] = {
    "oom_kill": ("memory", {1: "memory.oom_control", 2: "memory.events"}),
    "nr_throttled": ("cpu", {1: "cpu.stat", 2: "cpu.stat"}),
    "memory": ("memory", {1: "memory.usage_in_bytes", 2: "memory.current"}),
    "processes": ("pids", {1: "pids.current", 2: "pids.current"}),
}
"""What the kernel counts in a group: name of the count -> controller, file by version."""


class Hierarchy:
    """A folder of the cgroup file system in which this process may make groups."""

    def __init__(self, version: int, controllers: tuple[str, ...], folder: str) -> None:
        self.version = version
        self.controllers = controllers
        self.folder = folder


class Group:
    """The groups of one sandbox, one folder per hierarchy.

    `enforced` are the controllers whose limits are written; `counts` are the files of COUNTS.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.enforced: list[str] = []
        self.counts: dict[str, str] = {}

    def entrances(self) -> list[str]:
        """Files to which a process without further threads writes 0 to join.

        Version 1 moves a thread that names itself so without the lock of all forks and exits, for which the first
        one to come waits 15 ms.
        """
        return [
            f"{folder}/{'tasks' if os.path.exists(f'{folder}/tasks') else 'cgroup.procs'}"
            for folder in self.folders
        ]

    def remove(self) -> bool:
        self.folders = [folder for folder in self.folders if not remove(folder)]
        return not self.folders


def count(counts: Mapping[str, str], name: str) -> int:
    """One of the kernel's own counts in a group; 0 when it cannot be read."""
    for line in _told(counts, name).splitlines():
        key, _, value = line.partition(b" ")
        if key == name.encode():
            return int(value)
    return 0


def gauge(counts: Mapping[str, str], name: str) -> int | None:
    """How much of something a group has now; None when that cannot be read."""
    text = _told(counts, name).strip()
    return int(text) if text.isdigit() else None


def _told(counts: Mapping[str, str], name: str) -> bytes:
    """A count is read twice for every execution: no file object."""
    if name not in counts:
        return b""
    try:
        fd = os.open(counts[name], os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:
        return b""
    finally:
        os.close(fd)


def hierarchies(mountinfo: str, own: str) -> list[Hierarchy]:
    """Where groups with our controllers could be made: this process's own groups, as its mounts show them.

    Args:
        mountinfo: text of `/proc/self/mountinfo`.
        own: text of `/proc/self/cgroup`.
    """
    paths = {
        line.split(":", 2)[1]: line.split(":", 2)[2] for line in own.splitlines() if line.count(":") >= 2
    }
    found: list[Hierarchy] = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, options = right.split(" ", 1)[0], right.rpartition(" ")[2].split(",")
        root, point = left.split(" ")[3:5]
        if kind == "cgroup":
            names = tuple(name for name in CONTROLLERS if name in options)
            path = next((path for key, path in paths.items() if names and names[0] in key.split(",")), None)
            if names and path is not None:
                found.append(Hierarchy(1, names, _below(point, root, path)))
        elif kind == "cgroup2" and "" in paths:
            found.append(Hierarchy(2, (), _below(point, root, paths[""])))
    return found


def _below(point: str, root: str, path: str) -> str:
    return os.path.normpath(os.path.join(point, os.path.relpath(path, root)))


class Groups:
    """Makes and removes the control groups of one keeper."""

    def __init__(self, candidates: list[Hierarchy], owner: int) -> None:
        self._name = orphans.name(owner)
        self._homes: list[Hierarchy] = []
        self._shared: list[str] = []
        """Folders in which other owners' keepers have their groups too."""
        for candidate in candidates:
            usable = candidate if candidate.version == 1 else _delegated(candidate.folder, owner)
            if usable is not None and os.access(usable.folder, os.W_OK):
                self._shared.append(usable.folder)
                reclaim(usable.folder)
                home = f"{usable.folder}/{self._name}"
                if _prepare(home, usable):
                    self._homes.append(Hierarchy(usable.version, usable.controllers, home))

    @property
    def modes(self) -> dict[str, int]:
        """Controller -> version of the hierarchy that holds it."""
        return {name: home.version for home in self._homes for name in home.controllers}

    def make(self, name: str, limits: Mapping[str, float]) -> Group:
        """A group with `limits` (memory in bytes, pids, cpu in CPUs) set wherever the kernel lets us."""
        group = Group()
        for home in self._homes:
            folder = f"{home.folder}/{name}"
            try:
                os.mkdir(folder)
            except OSError:
                group.remove()
                raise
            group.folders.append(folder)
            for name_of, (controller, files) in COUNTS.items():
                if controller in home.controllers:
                    group.counts[name_of] = f"{folder}/{files[home.version]}"
        self.limit(group, name, limits)
        return group

    def limit(self, group: Group, name: str, limits: Mapping[str, float]) -> None:
        """Sets `limits`, now or later, and keeps in `group.enforced` which of them the kernel took."""
        for home in self._homes:
            for controller in home.controllers:
                if controller in limits and _write(
                    f"{home.folder}/{name}", home.version, controller, limits[controller]
                ):
                    group.enforced.append(controller)

    def reclaimed(self) -> bool:
        """Removes what dead owners left; False while the dying still linger in it."""
        return all([reclaim(folder) for folder in self._shared])

    def close(self) -> None:
        for home in self._homes:
            remove(home.folder)


def _write(folder: str, version: int, controller: str, value: float) -> bool:
    for name, file, text, required in KNOBS[version]:
        if name == controller and not _put(f"{folder}/{file}", text(value)) and required:
            return False
    return True


def _put(path: str, text: str) -> bool:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _get(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _prepare(home: str, hierarchy: Hierarchy) -> bool:
    """The keeper's own folder, with the controllers handed down to the sandboxes' folders in it."""
    try:
        os.mkdir(home)
    except OSError:
        return False
    if hierarchy.version == 2:
        for name in hierarchy.controllers:
            _put(f"{home}/cgroup.subtree_control", f"+{name}")
        if not set(hierarchy.controllers) <= set(_get(f"{home}/cgroup.subtree_control")):
            os.rmdir(home)
            return False
    return True


def _delegated(own: str, owner: int) -> Hierarchy | None:
    """The nearest group, from our own upwards, that is ours to divide: version 2.

    A group that holds processes cannot hand controllers down. Our own may be emptied into a child when nobody
    but the owner and this keeper is in it (`systemd-run --user --scope -p Delegate=yes` makes such a one).
    """
    folder = own
    while os.path.exists(f"{folder}/cgroup.controllers"):
        if os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK):
            wanted = [name for name in CONTROLLERS if name in _get(f"{folder}/cgroup.controllers")]
            if folder == own:
                _step_aside(folder, owner)
            for name in set(wanted) - set(_get(f"{folder}/cgroup.subtree_control")):
                _put(f"{folder}/cgroup.subtree_control", f"+{name}")
            handed = [name for name in wanted if name in _get(f"{folder}/cgroup.subtree_control")]
            if "memory" in handed or "pids" in handed:
                return Hierarchy(2, tuple(handed), folder)
        folder = os.path.dirname(folder)
    return None


def _step_aside(folder: str, owner: int) -> None:
    members = {int(pid) for pid in _get(f"{folder}/cgroup.procs")}
    if not members or not members <= {owner, os.getpid()}:
        return
    leaf = f"{folder}/trlm-owner"
    try:
        os.makedirs(leaf, exist_ok=True)
    except OSError:
        return
    for pid in members:
        _put(f"{leaf}/cgroup.procs", str(pid))


def reclaim(folder: str) -> bool:
    """Kills and removes what dead owners left in `folder`; False while the dying still linger in it."""
    left = [name for name in _folders(folder) if orphans.is_left_behind(name)]
    return all([remove(f"{folder}/{name}") for name in left])


def remove(folder: str) -> bool:
    """Kills all in `folder` and below it, and removes it; False while the dying still linger."""
    for path in _bottom_up(folder):
        for pid in _get(f"{path}/cgroup.procs"):
            if int(pid) > 0:  # 0 is a process of another pid namespace, and kill(0) would mean ourselves
                _kill(int(pid))
        try:
            os.rmdir(path)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, _signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _folders(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _bottom_up(folder: str) -> Iterator[str]:
    for name in _folders(folder):
        yield from _bottom_up(f"{folder}/{name}")
    yield folder
