"""How the command line of a sandbox looks without one of its protections; see `weak`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from terraphim_rlm.core.errors import InternalError
from terraphim_rlm.sandbox.backends.bubblewrap import argv, seccomp
from terraphim_rlm.sandbox.backends.bubblewrap.syscalls import RULES
from terraphim_rlm.sandbox.keeper.client import Launch
from terraphim_rlm.sandbox.link.memory import sealed
from terraphim_rlm.testing.attack.weak import Edit, Place


def without_words(*pieces: str, instead: Sequence[str] = ()) -> Edit:
    """The command line with one run of words taken out, or replaced."""

    def edit(launch: Launch, _place: Place) -> Launch:
        return replace(launch, argv=_replaced(list(launch.argv), list(pieces), list(instead)))

    return edit


def _replaced(words: list[str], old: list[str], new: list[str]) -> list[str]:
    places = [i for i in range(len(words)) if words[i : i + len(old)] == old]
    if len(places) != 1:
        raise InternalError(f"The command line does not hold {' '.join(old)!r} once.")
    return [*words[: places[0]], *new, *words[places[0] + len(old) :]]


def with_words(*added: str) -> Edit:
    """The command line with further options after those that lay out the file system."""

    def edit(launch: Launch, place: Place) -> Launch:
        words = [word.replace("@LAB@", str(place.root)) for word in added]
        end = launch.argv.index("--chdir") - 4  # before the remounts
        return replace(launch, argv=[*launch.argv[:end], *words, *launch.argv[end:]])

    return edit


def tmpfs_shared(path: str) -> Edit:
    """A folder of the host in the place of one in memory."""

    def edit(launch: Launch, place: Place) -> Launch:
        words = list(launch.argv)
        at = words.index("--tmpfs", words.index(path) - 1)
        start = at - 4  # --perms MODE --size BYTES --tmpfs PATH
        return replace(launch, argv=[*words[:start], "--bind", str(place.shared), path, *words[at + 2 :]])

    return edit


def own_filter(change: Callable[[], bytes]) -> Edit:
    """Another filter in the place of the one that bubblewrap reads."""

    def edit(launch: Launch, _place: Place) -> Launch:
        return replace(launch, fds={**launch.fds, argv.SECCOMP_FD: sealed("filter", [change()])})

    return edit


def allowed(*numbers: int) -> Edit:
    """The filter without its rules about these system calls."""
    missing = set(numbers) - {rule.number for rule in RULES}
    assert not missing, f"the filter has no rule about {missing}"
    return own_filter(lambda: seccomp.assemble([rule for rule in RULES if rule.number not in numbers]))


def any_architecture() -> bytes:
    """The filter with its first judgement, which kills calls of another architecture, turned round."""
    program = bytearray(seccomp.assemble(RULES))
    third = 2 * 8  # load, compare, return KILL
    program[third : third + 8] = (0x06).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
    return bytes(program)


def leaky_environment(launch: Launch, _place: Place) -> Launch:
    return replace(launch, env={**os.environ, **launch.env})


def no_memory_group(launch: Launch, _place: Place) -> Launch:
    return replace(launch, limits={name: value for name, value in launch.limits.items() if name != "memory"})


def host_processes(launch: Launch, place: Place) -> Launch:
    """No pid namespace; a fresh /proc cannot be mounted then, so it is the host's."""
    others = ["--unshare-ipc", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words = _replaced(list(launch.argv), ["--unshare-all"], others)
    words = _replaced(words, ["--as-pid-1"], [])
    return replace(launch, argv=_replaced(words, ["--proc", "/proc"], ["--bind", "/proc", "/proc"]))


def hand_in_a_folder(launch: Launch, place: Place) -> Launch:
    """A descriptor of a folder of the host among those that the sandbox is started with."""
    folder = os.open(place.canary.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return replace(launch, fds={**launch.fds, 60: folder})


def no_layers() -> str:
    """Why files are not kept in layers here; empty when they are."""
    release = os.uname().release
    version = [int(part) for part in release.split("-")[0].split(".")[:2]]
    return "" if version >= [6, 7] else f"Linux {release} keeps copies of files, into which nobody writes"
