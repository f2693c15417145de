"""What the kernel counts per user of the host, sandboxes included: none of it can be used up from inside."""

from __future__ import annotations

import pytest
from backend_kit import ask, opened

from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

USUAL_LIMIT = (
    1024  # soft limit of open files of a user's programs; the kernel compares descriptors in flight with it
)
MOST_TIMERS = 1024

SETUP = """do
sys.path += [f"{sys.prefix}/lib/python{sys.version_info[0]}.{sys.version_info[1]}{more}" for more in ("", "/lib-dynload")]
import array, ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def in_flight():
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 253))]
    pairs, sent = [], 0
    try:
        while sent < 5000:
            pairs.append(socket.socketpair())
            for _ in range(5):
                pairs[-1][0].sendmsg([b"x"], rights)
                sent += 253
    except OSError:
        return sent
    return sent

def timers():
    made, timer = 0, ctypes.c_void_p()
    while made < 5000 and libc.timer_create(0, None, ctypes.byref(timer)) == 0:
        made += 1
    return made

def in_child(work):
    told, tell = os.pipe()
    if os.fork() == 0:
        os.write(tell, str(work()).encode())
        os._exit(0)
    os.close(tell)
    return int(os.read(told, 100))
"""


async def test_a_sandbox_leaves_its_user_what_the_kernel_counts_per_user() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert await ask(link, SETUP) == "done"
        assert await ask(link, "libc.inotify_init1(0)") == "-1"
        assert await ask(link, "libc.syscall(240, b'queue', 0o102, 0o600, None)") == "-1"  # mq_open
        assert 0 < int(await ask(link, "in_child(timers)")) <= MOST_TIMERS
        assert 0 < int(await ask(link, "in_child(in_flight)")) <= USUAL_LIMIT
        await link.destroy()
