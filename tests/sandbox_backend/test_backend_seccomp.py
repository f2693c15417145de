"""The filter says no where the table says no, and nowhere else."""

from __future__ import annotations

import errno
import struct

import pytest
from backend_kit import ask, opened

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.backends.bubblewrap import seccomp
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.backends.bubblewrap.syscalls import DENIED, LAST_KNOWN, RULES, Rule

ALLOW = "allow"
X86_64, I386 = 0xC000003E, 0x40000003


def decide(number: int, *arguments: int, arch: int = X86_64) -> str:
    """Runs the filter as the kernel would."""
    args = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    seen = struct.pack(
        "=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(value & 0xFFFFFFFFFFFFFFFF for value in args)
    )
    code = list(struct.iter_unpack("=HBBI", seccomp.program()))
    at = accumulator = 0
    while True:
        operation, when_true, when_false, value = code[at]
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", seen, value)[0]
        elif operation == 0x06:
            return _meaning(value)
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x45: bool(accumulator & value)}[
                operation
            ]
            at += when_true if holds else when_false


def _meaning(value: int) -> str:
    if value == 0x7FFF0000:
        return ALLOW
    return "kill" if value == 0x80000000 else errno.errorcode[value & 0xFFFF]


@pytest.mark.parametrize("name", DENIED)
def test_a_call_on_the_deny_list_is_refused_whatever_its_arguments(name: str) -> None:
    assert decide(DENIED[name]) == "EPERM"
    assert decide(DENIED[name], 1, 2, 3, 4, 5, 6) == "EPERM"


@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [
        (62, (1, 9), "EPERM"),  # kill pid 1
        (62, (-1, 9), "EPERM"),  # kill everybody
        (62, (0xFFFFFFFF, 9), "EPERM"),
        (62, (7, 9), ALLOW),
        (62, (0, 9), ALLOW),
        (200, (1, 9), "EPERM"),  # tkill
        (234, (7, 1, 9), "EPERM"),  # tgkill
        (234, (1, 7, 9), "EPERM"),
        (234, (7, 8, 9), ALLOW),
        (302, (1, 0), "EPERM"),  # prlimit64
        (302, (0, 0), ALLOW),
        (434, (1, 0), "EPERM"),  # pidfd_open
        (434, (9, 0), ALLOW),
        (203, (1,), "EPERM"),  # sched_setaffinity
        (203, (0,), ALLOW),
        (141, (0, 1, 5), "EPERM"),  # setpriority(PRIO_PROCESS, 1)
        (141, (2, 0, 5), "EPERM"),  # setpriority(PRIO_USER): pid 1 is of this user
        (141, (0, 0, 5), ALLOW),
        (251, (3, 0, 5), "EPERM"),  # ioprio_set(IOPRIO_WHO_USER)
        (56, (0x10000000 | 17,), "EPERM"),  # clone(CLONE_NEWUSER)
        (56, (0x00020000,), "EPERM"),  # clone(CLONE_NEWNS)
        (56, (0x003D0F00,), ALLOW),  # what pthread_create asks for
        (435, (), "ENOSYS"),  # clone3
        (41, (1, 1, 0), ALLOW),  # AF_UNIX
        (41, (2, 1, 0), ALLOW),  # AF_INET
        (41, (10, 2, 17), ALLOW),  # AF_INET6, UDP
        (41, (2, 1, 132), "EAFNOSUPPORT"),  # SCTP
        (41, (16, 3, 0), ALLOW),  # NETLINK_ROUTE
        (41, (16, 3, 12), "EAFNOSUPPORT"),  # NETLINK_NETFILTER
        (41, (38, 5, 0), "EAFNOSUPPORT"),  # AF_ALG
        (41, (40, 1, 0), "EAFNOSUPPORT"),  # AF_VSOCK
        (41, (17, 3, 0), "EAFNOSUPPORT"),  # AF_PACKET
        (53, (1, 1, 0), ALLOW),  # socketpair
        (53, (30, 1, 0), "EAFNOSUPPORT"),  # AF_TIPC
        (16, (0, 0x5412), "EPERM"),  # TIOCSTI
        (16, (0, 0xFFFFFFFF00005412), "EPERM"),  # the same to the kernel
        (16, (0, 0x5413), ALLOW),  # TIOCGWINSZ
        (135, (0xFFFFFFFF,), ALLOW),  # personality: ask
        (135, (0x0040000,), "EPERM"),  # ADDR_NO_RANDOMIZE
        (0x40000000 | 41, (38,), "EPERM"),  # x32
        (LAST_KNOWN + 1, (), "ENOSYS"),
    ],
)
def test_a_call_is_judged_by_its_arguments(number: int, arguments: tuple[int, ...], expected: str) -> None:
    assert decide(number, *arguments) == expected


@pytest.mark.parametrize("number", [0, 1, 3, 9, 57, 59, 231, 257, 281, 202, 319, 444])
def test_what_every_program_needs_is_allowed(number: int) -> None:
    assert decide(number, 1, 1, 1) == ALLOW


def test_another_architectures_calls_end_the_process() -> None:
    assert decide(102, arch=I386) == "kill"


def test_a_second_rule_for_a_call_would_never_be_reached_and_is_refused() -> None:
    with pytest.raises(AssertionError, match="two rules"):
        seccomp.assemble([*RULES, Rule(62, errno.EPERM)])


def test_a_machine_without_a_table_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seccomp.program.cache_clear()
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "aarch64")
    with pytest.raises(BackendUnavailable, match="aarch64"):
        seccomp.program()


CALL = """do
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(*arguments)
    return answer if answer >= 0 else -ctypes.get_errno()
"""


@pytest.mark.anyio
@pytest.mark.sandbox
async def test_the_kernel_applies_the_filter_in_the_sandbox() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert await ask(link, CALL) == "done"
        for expression, expected in (
            ("call(272, 0x10000000)", -errno.EPERM),  # unshare(CLONE_NEWUSER)
            ("call(435, 0, 0)", -errno.ENOSYS),  # clone3
            ("call(250, 0, 0)", -errno.EPERM),  # keyctl
            ("call(425, 1, 0)", -errno.EPERM),  # io_uring_setup
            ("call(323, 1)", -errno.EPERM),  # userfaultfd
            ("call(41, 38, 5, 0)", -errno.EAFNOSUPPORT),  # AF_ALG
            ("call(302, 1, 0, 0, 0)", -errno.EPERM),  # prlimit64 on pid 1
            ("call(62, -1, 0)", -errno.EPERM),  # kill(-1)
            ("call(165, 0, 0, 0, 0, 0)", -errno.EPERM),  # mount
        ):
            assert await ask(link, expression) == str(expected), expression
        await link.destroy()


@pytest.mark.anyio
@pytest.mark.sandbox
async def test_ordinary_programs_do_not_notice_the_filter() -> None:
    work = """do
import asyncio, subprocess, threading
from concurrent.futures import ProcessPoolExecutor
seen = []
threads = [threading.Thread(target=seen.append, args=(n,)) for n in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
shell = subprocess.run(["/bin/bash", "-c", "sleep 30 & kill $!; wait; echo $((6*7)) | cat"], capture_output=True, text=True)
async def child():
    process = await asyncio.create_subprocess_exec("/bin/echo", "hi", stdout=-1)
    return (await process.communicate())[0]
spoken = asyncio.run(child())
"""
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert await ask(link, work) == "done"
        assert await ask(link, "sorted(seen), shell.stdout, spoken") == "([0, 1, 2, 3], '42\\n', b'hi\\n')"
        await link.destroy()
