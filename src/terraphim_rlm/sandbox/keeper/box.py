"""What the keeper knows of one sandbox."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .groups import Group


class Box:
    """One sandbox from spawn to its last process's end."""

    def __init__(self, number: int, pid: int, info: int, group: Group, zygote: int = 0) -> None:
        self.number = number
        self.zygote = zygote  # the number of what it is forked from, if it is
        self.pid = pid  # of bubblewrap; 0 when it is forked: then its pid 1 is the zygote's child
        self.info = info  # where bubblewrap tells its child's pid; -1 once read to the end
        self.told = b""
        self.group = group
        self.inner = -1  # pidfd of the sandbox's pid 1
        self.inner_pid = 0
        self.doomed = False
        self.deadline = 0.0
        self.status: int | None = None  # bubblewrap's wait status, once reaped
        self.oom = 0
        self.memory = 0  # bytes that its processes may hold together, where we have to watch it
        self.look_at = 0.0
