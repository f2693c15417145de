"""Post-conditions: what must be as it was after every row, whatever the row did. The harness checks, not the row.

I1 (a service's health) and I8 (its history) are checked where a row uses one, see `service`; I10 where it plays among
the sinks of a network, see `network`; I12 where a model's budget is spent.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from terraphim_rlm.core.values import Limits, Status, Usage
from terraphim_rlm.sandbox.keeper import orphans
from terraphim_rlm.testing.attack.lab import Lab
from terraphim_rlm.testing.attack.model import LATE, SETTLE, Seen

MARK = "TRLM_ATTACK_CASE"
RSS_GROWTH = 64 << 20
DESCRIPTORS = 5
STALL = 2.0
"""Longest silence of a neighbour that prints each 100 ms, on backends that share a kernel."""
_SETTLE = SETTLE
_CLOCK = 0.5

_SYSCTLS = (
    "kernel/core_pattern", "kernel/core_uses_pid", "kernel/hostname", "kernel/domainname", "kernel/modprobe",
    "kernel/hotplug", "kernel/sysrq", "kernel/dmesg_restrict", "kernel/kptr_restrict", "kernel/randomize_va_space",
    "kernel/unprivileged_bpf_disabled", "kernel/perf_event_paranoid", "kernel/panic", "kernel/pid_max",
    "kernel/yama/ptrace_scope", "vm/overcommit_memory", "vm/swappiness", "vm/mmap_min_addr", "vm/max_map_count",
    "fs/suid_dumpable", "fs/protected_symlinks", "fs/protected_hardlinks", "fs/file-max",
    "user/max_user_namespaces", "user/max_pid_namespaces", "net/ipv4/ip_forward", "dev/tty/legacy_tiocsti",
)  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    """The host's side as it was. Sets are compared by difference, sizes by growth."""

    processes: frozenset[int]
    traces: frozenset[str]
    """Control groups, mounts, network namespaces and named sockets of ours."""
    files: dict[str, int]
    """Path below the laboratory -> bytes."""
    machine: tuple[str, ...]
    keys: int
    clock: float
    rss: int
    descriptors: int
    taken: float = field(default_factory=time.monotonic)


def baseline(lab: Lab) -> Baseline:
    gc.collect()
    return Baseline(
        processes=frozenset(descendants()),
        traces=frozenset(_traces(lab)),
        files=_files(lab),
        machine=_machine(),
        keys=_keys(),
        clock=_clock(),
        rss=resident(),
        descriptors=_descriptors(),
    )


async def breaches(before: Baseline, lab: Lab, seen: Iterable[Seen], mark: str) -> list[str]:
    """Which conditions do not hold now, each as `I<n>: what`. Gives what is still ending ten seconds."""
    found = [*_answers(seen), *_canaries(lab, seen)]
    deadline = time.monotonic() + _SETTLE
    while True:
        left = list(_leftovers(before, lab, mark))
        if not left or time.monotonic() > deadline:
            return found + left
        gc.collect()
        await asyncio.sleep(0.05)


def _answers(seen: Iterable[Seen]) -> Iterator[str]:
    for number, each in enumerate(seen, 1):
        allowed = each.step.timeout + LATE
        if each.seconds > allowed:
            yield f"I2: step {number} took {each.seconds:.1f} s of at most {allowed:.1f}"
        if each.result is not None and each.result.status not in get_args(Status):
            yield f"I2: step {number} ended as {each.result.status!r}, which is no status"
        if each.status == "internal_error":
            yield f"I2: step {number} ended as an error of ours"


def _canaries(lab: Lab, seen: Iterable[Seen]) -> Iterator[str]:
    for number, each in enumerate(seen, 1):
        if lab.secret in each.text:
            yield f"I5: the canary secret is in what step {number} put out"
    yield from (f"I5: {what}" for what in lab.harm())


def _leftovers(before: Baseline, lab: Lab, mark: str) -> Iterator[str]:
    victim = lab.victim.pid if lab.victim else 0
    if left := descendants() - before.processes - {victim}:
        yield f"I3: {len(left)} processes of ours are left: {_named(left)}"
    if left := marked(mark):
        yield f"I3: {len(left)} processes with the case's mark are left: {_named(left)}"
    if new := sorted(set(_traces(lab)) - before.traces):
        yield f"I4: left on the host: {', '.join(new)[:300]}"
    if (growth := resident() - before.rss) > RSS_GROWTH:
        yield f"I6: the harness grew by {growth >> 20} MB"
    if abs(change := _descriptors() - before.descriptors) > DESCRIPTORS:
        yield f"I6: {change:+d} descriptors"
    files = _files(lab)
    if new := sorted(set(files) - set(before.files)):
        yield f"I4: files are left: {', '.join(new)[:300]}"
    if (grown := sum(files.values()) - sum(before.files.values())) > 0:
        yield f"I7: {grown} bytes more on disk"
    if changed := sorted(set(_machine()) ^ set(before.machine)):
        yield f"I11: the machine is not as it was: {', '.join(changed)[:300]}"
    if (more := _keys() - before.keys) > 0:
        yield f"I11: {more} more keys in the kernel's keyrings"
    if abs(_clock() - before.clock) > _CLOCK:
        yield "I11: the clock was moved"


def overspent(usage: Usage, limits: Limits) -> list[str]:
    """Whether more was spent than might be (I12)."""
    pairs = (("tokens", usage.tokens, limits.tokens), ("calls", usage.calls, limits.calls))
    return [
        f"I12: {used} of {most} {name} were spent"
        for name, used, most in pairs
        if most is not None and used > most
    ]


def descendants() -> set[int]:
    """Pids below this process, the keeper's sandboxes included."""
    parents = {pid: orphans.parent(pid) for pid in _pids()}
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def marked(mark: str) -> set[int]:
    """Pids whose first environment carries the mark, wherever they have moved; our own aside."""
    wanted = f"{MARK}={mark}".encode()
    return {pid for pid in _pids() if pid != os.getpid() and wanted in _bytes(f"/proc/{pid}/environ")}


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _named(pids: set[int]) -> str:
    words = (
        f"{pid} {_bytes(f'/proc/{pid}/cmdline').replace(bytes(1), b' ')[:60].decode('utf-8', 'replace')}"
        for pid in sorted(pids)[:5]
    )
    return "; ".join(words)


def _traces(lab: Lab) -> Iterator[str]:
    own = f".{os.getpid()}."
    for folder, names, _files_there in os.walk("/sys/fs/cgroup"):
        for name in [name for name in names if name.startswith("trlm-") and own in name]:
            yield from (f"cgroup {folder}/{name}/{inner}" for inner in _subfolders(f"{folder}/{name}"))
    for line in _bytes("/proc/self/mountinfo").decode("utf-8", "replace").splitlines():
        yield "mount " + " ".join(line.split(" ")[3:5])
    for folder in ("/run/netns", "/var/run/netns"):
        yield from (f"netns {folder}/{name}" for name in _subfolders(folder, files=True))
    for line in _bytes("/proc/net/unix", 1 << 22).decode("utf-8", "replace").splitlines():
        if lab.root.name in (path := line.rpartition(" ")[2]):
            yield f"socket {path}"


def _subfolders(folder: str, *, files: bool = False) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if files or entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _files(lab: Lab) -> dict[str, int]:
    """What the product keeps or forgets in its data and temporary folders; its caches are bounded, and meant to be kept."""
    found = {}
    for top in ("tmp", "data"):
        for path in (lab.root / top).rglob("*"):
            if path.is_relative_to(lab.root / "data" / "cache"):
                continue
            try:
                found[str(path.relative_to(lab.root))] = 0 if path.is_dir() else path.lstat().st_blocks * 512
            except FileNotFoundError:
                continue
    return found


def _machine() -> tuple[str, ...]:
    values = [f"{name} = {_bytes(f'/proc/sys/{name}').strip().decode()}" for name in _SYSCTLS]
    modules = [
        f"module {line.split(' ', 1)[0]}" for line in _bytes("/proc/modules", 1 << 20).decode().splitlines()
    ]
    return (*values, *modules)


def _keys() -> int:
    """Kernel keys of this user and of the sandboxes' uids; fewer may be left later, as the kernel collects them."""
    uids = {f"{uid}:" for uid in (os.geteuid(), 64321, 65534)}
    rows = [line.split() for line in _bytes("/proc/key-users").decode().splitlines()]
    return sum(int(row[2].split("/")[0]) for row in rows if len(row) > 2 and row[0] in uids)


def _clock() -> float:
    return time.time() - time.monotonic()


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(_bytes("/proc/self/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descriptors() -> int:
    """Of this process and of its keepers, which are its children in Python."""
    own = len(os.listdir("/proc/self/fd"))
    return own + sum(
        _open_in(pid) for pid in orphans.children() if b"keeper/start.py" in _bytes(f"/proc/{pid}/cmdline")
    )


def _open_in(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _bytes(path: str, most: int = 1 << 16) -> bytes:
    try:
        with Path(path).open("rb") as file:  # buffered: one call of the system gives less of a long table
            return file.read(most)
    except OSError:
        return b""
