"""The table of protections of the embedded sandbox, each with the way to make a sandbox without it; see `weak`."""

from __future__ import annotations

from collections.abc import Mapping

from terraphim_rlm.guest import frames
from terraphim_rlm.sandbox import checks
from terraphim_rlm.sandbox.link import channel
from terraphim_rlm.testing.attack import mistakes
from terraphim_rlm.testing.attack import protections_egress as egress
from terraphim_rlm.testing.attack.edits import (
    allowed,
    any_architecture,
    hand_in_a_folder,
    host_processes,
    leaky_environment,
    no_layers,
    no_memory_group,
    own_filter,
    tmpfs_shared,
    with_words,
    without_words,
)
from terraphim_rlm.testing.attack.weak import Protection, attribute

_SOCKET, _SETPRIORITY, _PRLIMIT, _IOCTL = 41, 141, 302, 16
_KEYS, _CLOCKS, _OTHERS, _GETFD = (248, 249, 250), (159, 305), (101, 310, 311), 438

PROTECTIONS: Mapping[str, Protection] = {
    "own-files": Protection(
        "the sandbox's own view of files", with_words("--ro-bind", "@LAB@/canary", "@LAB@/canary")
    ),
    "read-only-input": Protection(
        "what is handed in is bound read-only",
        lambda launch, place: without_words(
            "--ro-bind", str(place.canary.parent), str(place.canary.parent),
            instead=("--bind", str(place.canary.parent), str(place.canary.parent)),
        )(launch, place),
    ),
    "own-environment": Protection("an environment written out in full", leaky_environment),
    "hidden-proc-files": Protection(
        "files of /proc about the machine are covered", without_words("--ro-bind", "/dev/null", "/proc/cmdline")
    ),
    "no-control-groups": Protection(
        "the control groups' file system is not in view", with_words("--ro-bind", "/sys/fs/cgroup", "/sys/fs/cgroup"),
        hides=("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/*/cgroup.procs"),
    ),
    "own-processes": Protection("a pid namespace of its own", host_processes),
    "own-network": Protection("a network namespace of its own", with_words("--share-net")),
    "own-devices": Protection(
        "a device folder of its own", without_words("--dev", "/dev", instead=("--dev-bind", "/dev", "/dev")),
        hides=("/dev/kvm", "/dev/mem", "/dev/kmsg", "/dev/loop*", "/dev/fuse", "/dev/vd*", "/dev/sd*"),
    ),
    "no-capabilities": Protection(
        "no capabilities", without_words("--cap-drop", "ALL", instead=("--cap-add", "ALL"))
    ),
    "own-work-folder": Protection("a work folder of its own", tmpfs_shared("/work")),
    "own-tmp-folder": Protection("a folder for temporary files of its own", tmpfs_shared("/tmp")),  # noqa: S108
    "memory-of-the-group": Protection("a memory limit for all processes together", no_memory_group),
    "no-user-namespaces": Protection("no further user namespaces", without_words("--disable-userns")),
    "filter:namespaces": Protection("the filter's rules about making namespaces", allowed(272, 56)),
    "filter:keyrings": Protection("the filter's rules about keyrings", allowed(*_KEYS)),
    "filter:sockets": Protection("the filter's rule about socket families", allowed(_SOCKET)),
    "filter:architecture": Protection("the filter's look at the architecture", own_filter(any_architecture)),
    "filter:terminals": Protection("the filter's rule about terminals", allowed(_IOCTL)),
    "filter:clocks": Protection("the filter's rules about the clock", allowed(*_CLOCKS)),
    "filter:other-memory": Protection("the filter's rules about other processes' memory", allowed(*_OTHERS)),
    "filter:other-descriptors": Protection("the filter's rule about other processes' descriptors", allowed(_GETFD)),
    "filter:limits-of-pid-1": Protection("the filter's rule about limits of pid 1", allowed(_PRLIMIT)),
    "filter:priority-of-pid-1": Protection("the filter's rule about priorities", allowed(_SETPRIORITY)),
    "closed-descriptors": Protection(
        "a cell gets its own descriptors and no others",
        guest=("supervisor.py", "    posix.closerange(len(high), 1024)\n", ""),
    ),
    "no-line-to-the-host": Protection(
        "no cell has the supervisor's line to the host",
        guest=("supervisor.py", "    host.close()\n    _signal", "    posix.dup(host.fileno())\n    host.close()\n    _signal"),
    ),
    "undumpable-supervisor": Protection(
        "the supervisor is not dumpable", guest=("supervisor.py", "    set_dumpable(0)\n", "")
    ),
    "output-apart-from-results": Protection(
        "results have a descriptor of their own",
        guest=("supervisor.py", "        Cell(3, request", "        posix.dup2(3, 1)\n        Cell(3, request"),
    ),
    "no-loader-variables": Protection(
        "variables that steer the loader are refused", host=lambda _place: attribute(checks, "_DENIED_ENV", ())
    ),
    "public-addresses": Protection("only public addresses are dialled", host=egress.any_address),
    "gateway-inside": Protection(
        "the gateway listens in the sandbox's own network; there is none to listen in without that", host=egress.no_gateway
    ),
    "allowed-names": Protection("only allowed names are dialled", host=egress.any_name),
    "names-answered-here": Protection("questions for names are answered here", host=egress.names_looked_up),
    "label-match": Protection("names are compared label by label", host=egress.loose_match),
    "strict-names": Protection("a host has one spelling", host=egress.two_parsers),
    "sealed-input": Protection("input is a sealed memory file", host=mistakes.input_from_a_file),
    "bounded-frames": Protection(
        "a message's length is bounded", host=lambda _place: attribute(frames, "MAX_BODY", 1 << 33)
    ),
    "numbered-frames": Protection("a message counts for its own execution only", host=mistakes.any_number),
    "plain-data": Protection(
        "what a cell sends is read as plain data",
        host=mistakes.unpickling,
    ),
    "files-from-inside": Protection(
        "a sandbox's files are opened by a process inside, never by the host", host=mistakes.opening_paths
    ),
    "names-end-with-nul": Protection("names in a listing end with a NUL", host=mistakes.names_in_lines),
    "one-after-another": Protection("a rollback waits for what runs", host=mistakes.all_at_once),
    "output-is-not-a-reply": Protection(
        "what a cell puts out is never read as the model's reply", host=mistakes.output_as_reply
    ),
    "used-once": Protection("a sandbox that was handed out never comes back", host=mistakes.taken_back),
    "bounded-answers": Protection(
        "what waits for a cell that does not read is bounded",
        host=lambda _place: attribute(channel, "_MOST_UNSENT", 1 << 40),
    ),
    "no-folder-descriptors": Protection(
        "no folder of the host is handed to a sandbox", hand_in_a_folder,
    ),
    "no-devices-passed": Protection(
        "no device is passed in", with_words("--dev-bind", "/dev/null", "/dev/nvidia0", "--dev-bind", "/dev/null", "/dev/dri/card0"),
    ),
    "keeper-ends-with-owner": Protection(
        "the keeper ends everything when its owner is gone",
        keeper=("process.py", "            self._step()\n        self._end_all()\n",
                "            self._step()\n        import time\n        time.sleep(3600)\n"),
    ),
    "guest-ends-with-host": Protection(
        "a sandbox ends when the host's line to it closes",
        guest=("supervisor.py", "children, paused):\n                posix._exit(0)\n", "children, paused):\n                poller.unregister(host.fileno())\n"),
    ),
    "frozen-layers": Protection(
        "files are made read-only before they are kept",
        keeper=("layers.py", "        self.set_read_only(current)\n", ""),
        lacking=no_layers,
    ),
}  # fmt: skip
