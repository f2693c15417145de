"""Protections of the embedded sandbox, each with the way to make a sandbox without it. For controls only.

Nothing in the product can be switched off: a control edits what the backend has made (its command line, its filter,
its guest's source) on the way to the keeper, or one name of the host's code for as long as the control runs.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from terraphim_rlm import guest as guest_package
from terraphim_rlm.core.errors import InternalError
from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox import checks
from terraphim_rlm.sandbox.backends.bubblewrap import argv, seccomp
from terraphim_rlm.sandbox.backends.bubblewrap.syscalls import RULES
from terraphim_rlm.sandbox.keeper.client import Keeper, Kept, Launch
from terraphim_rlm.sandbox.languages import python, runners
from terraphim_rlm.sandbox.link import execution
from terraphim_rlm.sandbox.link.channel import ChannelBroken
from terraphim_rlm.sandbox.link.memory import sealed
from terraphim_rlm.testing.attack import protections_egress as egress
from terraphim_rlm.testing.attack.lab import Lab

Edit = Callable[[Launch, Lab], Launch]
Patch = Callable[[Lab], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection, and exactly one of the ways to be without it."""

    what: str
    launch: Edit | None = None
    guest: tuple[str, str, str] | None = None
    """A guest's file, a piece of its source that occurs once, and what stands there instead."""
    host: Patch | None = None
    hides: tuple[str, ...] = ()
    """Globs of what it keeps out of view. A host that has none of it has nothing to show a control."""

    def nothing_to_hide(self) -> str:
        """Why its control cannot be built on this host; empty when it can."""
        if not self.hides or any(glob.glob(pattern) for pattern in self.hides):
            return ""
        return f"this host has nothing that is kept out by {self.what!r}: {', '.join(self.hides)}"


class WeakKeeper(Keeper):
    """Starts sandboxes without the protections whose `edits` it applies."""

    def __init__(self, edits: Sequence[Edit], lab: Lab) -> None:
        super().__init__()
        self._edits = edits
        self._lab = lab

    async def launch(self, launch: Launch) -> Kept:
        given = set(launch.fds.values())
        for edit in self._edits:
            launch = edit(launch, self._lab)
        try:
            return await super().launch(launch)
        finally:
            for added in set(launch.fds.values()) - given:
                os.close(added)


def guest_without(names: Sequence[str]) -> Mapping[str, bytes] | None:
    """The guest's sources without the protections among `names` that lie in it; None when none does."""
    changes = [guest for name in names if (guest := PROTECTIONS[name].guest)]
    if not changes:
        return None
    folder = Path(guest_package.__path__[0])
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    for file, old, new in changes:
        if sources[file].count(old) != 1:
            raise InternalError(f"guest/{file} does not hold {old!r} once; the control needs a new hold.")
        sources[file] = sources[file].replace(old, new)
    return {name: text.encode() for name, text in sources.items()}


def _without(*pieces: str, instead: Sequence[str] = ()) -> Edit:
    """The command line with one run of words taken out, or replaced."""

    def edit(launch: Launch, _lab: Lab) -> Launch:
        return replace(launch, argv=_replaced(list(launch.argv), list(pieces), list(instead)))

    return edit


def _replaced(words: list[str], old: list[str], new: list[str]) -> list[str]:
    places = [i for i in range(len(words)) if words[i : i + len(old)] == old]
    if len(places) != 1:
        raise InternalError(f"The command line does not hold {' '.join(old)!r} once.")
    return [*words[: places[0]], *new, *words[places[0] + len(old) :]]


def _with(*added: str) -> Edit:
    """The command line with further options after those that lay out the file system."""

    def edit(launch: Launch, lab: Lab) -> Launch:
        words = [word.replace("@LAB@", str(lab.root)) for word in added]
        end = launch.argv.index("--chdir") - 4  # before the remounts
        return replace(launch, argv=[*launch.argv[:end], *words, *launch.argv[end:]])

    return edit


def _tmpfs_shared(path: str) -> Edit:
    """A folder of the host in the place of one in memory."""

    def edit(launch: Launch, lab: Lab) -> Launch:
        words = list(launch.argv)
        at = words.index("--tmpfs", words.index(path) - 1)
        start = at - 4  # --perms MODE --size BYTES --tmpfs PATH
        return replace(launch, argv=[*words[:start], "--bind", str(lab.shared), path, *words[at + 2 :]])

    return edit


def _filter(change: Callable[[], bytes]) -> Edit:
    """Another filter in the place of the one that bubblewrap reads."""

    def edit(launch: Launch, _lab: Lab) -> Launch:
        return replace(launch, fds={**launch.fds, argv.SECCOMP_FD: sealed("filter", [change()])})

    return edit


def _allowed(*numbers: int) -> Edit:
    """The filter without its rules about these system calls."""
    missing = set(numbers) - {rule.number for rule in RULES}
    assert not missing, f"the filter has no rule about {missing}"
    return _filter(lambda: seccomp.assemble([rule for rule in RULES if rule.number not in numbers]))


def _any_architecture() -> bytes:
    """The filter with its first judgement, which kills calls of another architecture, turned round."""
    program = bytearray(seccomp.assemble(RULES))
    third = 2 * 8  # load, compare, return KILL
    program[third : third + 8] = (0x06).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
    return bytes(program)


def _leaky_environment(launch: Launch, _lab: Lab) -> Launch:
    return replace(launch, env={**os.environ, **launch.env})


def _no_memory_group(launch: Launch, _lab: Lab) -> Launch:
    return replace(launch, limits={name: value for name, value in launch.limits.items() if name != "memory"})


def _host_processes(launch: Launch, lab: Lab) -> Launch:
    """No pid namespace; a fresh /proc cannot be mounted then, so it is the host's."""
    others = ["--unshare-ipc", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words = _replaced(list(launch.argv), ["--unshare-all"], others)
    words = _replaced(words, ["--as-pid-1"], [])
    return replace(launch, argv=_replaced(words, ["--proc", "/proc"], ["--bind", "/proc", "/proc"]))


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _any_number(_lab: Lab) -> AbstractContextManager[None]:
    """Whatever execution a cell names, it is taken for the one that runs."""
    checked = python.Interpreter._frame

    def frame(self: Any, body: python.Body, kind: int, number: int, data: bytes) -> None:
        own = self._running.number if self._running and kind in (frames.DONE, frames.FINAL) else number
        checked(self, body, kind, own, data)

    return _attribute(python.Interpreter, "_frame", frame)


def _input_from_a_file(lab: Lab) -> AbstractContextManager[None]:
    """Standard input is a descriptor of a host file instead of a sealed memory file."""
    return _attribute(
        runners, "sealed", lambda _name, _pieces: os.open(lab.canary, os.O_RDONLY | os.O_CLOEXEC)
    )


def _unpickled(body: bytes) -> dict[str, Any]:
    try:
        value = pickle.loads(body)  # noqa: S301 - the mistake that this control makes
    except Exception as error:
        raise ChannelBroken("no pickle") from error
    return value if isinstance(value, dict) else {}


@contextlib.contextmanager
def _unpickling(_lab: Lab) -> Iterator[None]:
    """Wherever the host reads what a cell sends, it unpickles."""
    with contextlib.ExitStack() as stack:
        for module in (python, execution):
            stack.enter_context(_attribute(module, "decode", _unpickled))
        yield


_SOCKET, _SETPRIORITY, _PRLIMIT, _IOCTL = 41, 141, 302, 16
_KEYS, _CLOCKS, _OTHERS, _GETFD = (248, 249, 250), (159, 305), (101, 310, 311), 438

PROTECTIONS: Mapping[str, Protection] = {
    "own-files": Protection(
        "the sandbox's own view of files", _with("--ro-bind", "@LAB@/canary", "@LAB@/canary")
    ),
    "read-only-input": Protection(
        "what is handed in is bound read-only",
        lambda launch, lab: _without(
            "--ro-bind", str(lab.canary.parent), str(lab.canary.parent),
            instead=("--bind", str(lab.canary.parent), str(lab.canary.parent)),
        )(launch, lab),
    ),
    "own-environment": Protection("an environment written out in full", _leaky_environment),
    "hidden-proc-files": Protection(
        "files of /proc about the machine are covered", _without("--ro-bind", "/dev/null", "/proc/cmdline")
    ),
    "no-control-groups": Protection(
        "the control groups' file system is not in view", _with("--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup"),
        hides=("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs"),
    ),
    "own-processes": Protection("a pid namespace of its own", _host_processes),
    "own-network": Protection("a network namespace of its own", _with("--share-net")),
    "own-devices": Protection(
        "a device folder of its own", _without("--dev", "/dev", instead=("--dev-bind", "/dev", "/dev")),
        hides=("/dev/kvm", "/dev/mem", "/dev/kmsg", "/dev/loop*", "/dev/fuse", "/dev/vd*", "/dev/sd*"),
    ),
    "no-capabilities": Protection(
        "no capabilities", _without("--cap-drop", "ALL", instead=("--cap-add", "ALL"))
    ),
    "own-work-folder": Protection("a work folder of its own", _tmpfs_shared("/work")),
    "own-tmp-folder": Protection("a folder for temporary files of its own", _tmpfs_shared("/tmp")),  # noqa: S108
    "memory-of-the-group": Protection("a memory limit for all processes together", _no_memory_group),
    "no-user-namespaces": Protection("no further user namespaces", _without("--disable-userns")),
    "filter:namespaces": Protection("the filter's rules about making namespaces", _allowed(272, 56)),
    "filter:keyrings": Protection("the filter's rules about keyrings", _allowed(*_KEYS)),
    "filter:sockets": Protection("the filter's rule about socket families", _allowed(_SOCKET)),
    "filter:architecture": Protection("the filter's look at the architecture", _filter(_any_architecture)),
    "filter:terminals": Protection("the filter's rule about terminals", _allowed(_IOCTL)),
    "filter:clocks": Protection("the filter's rules about the clock", _allowed(*_CLOCKS)),
    "filter:other-memory": Protection("the filter's rules about other processes' memory", _allowed(*_OTHERS)),
    "filter:other-descriptors": Protection("the filter's rule about other processes' descriptors", _allowed(_GETFD)),
    "filter:limits-of-pid-1": Protection("the filter's rule about limits of pid 1", _allowed(_PRLIMIT)),
    "filter:priority-of-pid-1": Protection("the filter's rule about priorities", _allowed(_SETPRIORITY)),
    "closed-descriptors": Protection(
        "a cell gets its own descriptors and no others",
        guest=("supervisor.py", "    posix.closerange(len(high), 1024)\n", ""),
    ),
    "undumpable-supervisor": Protection(
        "the supervisor is not dumpable", guest=("supervisor.py", "    set_dumpable(0)\n", "")
    ),
    "output-apart-from-results": Protection(
        "results have a descriptor of their own",
        guest=("supervisor.py", "        Cell(3, request", "        posix.dup2(3, 1)\n        Cell(3, request"),
    ),
    "no-loader-variables": Protection(
        "variables that steer the loader are refused", host=lambda _lab: _attribute(checks, "_DENIED_ENV", ())
    ),
    "public-addresses": Protection("only public addresses are dialled", host=egress.any_address),
    "gateway-inside": Protection(
        "the gateway listens in the sandbox's own network; there is none to listen in without that", host=egress.no_gateway
    ),
    "allowed-names": Protection("only allowed names are dialled", host=egress.any_name),
    "names-answered-here": Protection("questions for names are answered here", host=egress.names_looked_up),
    "label-match": Protection("names are compared label by label", host=egress.loose_match),
    "strict-names": Protection("a host has one spelling", host=egress.two_parsers),
    "sealed-input": Protection("input is a sealed memory file", host=_input_from_a_file),
    "bounded-frames": Protection(
        "a message's length is bounded", host=lambda _lab: _attribute(frames, "MAX_BODY", 1 << 33)
    ),
    "numbered-frames": Protection("a message counts for its own execution only", host=_any_number),
    "plain-data": Protection(
        "what a cell sends is read as plain data",
        host=_unpickling,
    ),
}  # fmt: skip
