"""Groups C, D and K by way of the daemon of sessions: leaving, cancelling, its clock, its socket, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
import time

from terraphim_rlm.core import process
from terraphim_rlm.testing.attack.model import Row
from terraphim_rlm.testing.attack.service import alive, below
from terraphim_rlm.testing.attack.stage import Stage

_MAIN = "from terraphim_rlm.faces.cli import main; main()"
_ESCAPES = r"print('\x1b]52;c;b3duZWQ=\x07\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b]8;;http://x\x1b\\link\x9b31m\u202e')"
_FOREVER = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)"
_GONE_SECONDS = 10.0
"""That nothing may be left of a daemon that was killed."""


async def escapes(stage: Stage) -> None:
    """C13: the result has them as they are; what people see of it, and the log, has none."""
    service = stage.service
    session = await service.session()
    result = await service.run(session, _ESCAPES)
    stage.expect("\x1b]52" in result["stdout"], "the result does not have what was printed")
    await service.run(session, "raise ValueError('\\x1b[2J\\x1b]0;owned\\x07')")
    env = {
        **process.MINIMAL_ENV,
        "TRLM_DATA": str(service.data),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    for words in (["history"], ["session", "list"], ["session", "exec", session, _ESCAPES]):
        argv = [sys.executable, "-P", "-c", _MAIN, *words]
        done = await asyncio.to_thread(process.run, argv, timeout=60, env=env)
        shown = done.stdout + done.stderr if words[0] == "history" else done.stderr
        stage.expect(b"\x1b" not in shown and b"\x07" not in shown, f"trlm {words[0]} shows {shown[:200]!r}")
    log = service.data / "daemon.log"
    stage.expect(not log.exists() or b"\x1b" not in log.read_bytes(), "the log has escape sequences")


async def leaves(stage: Stage) -> None:
    """C20: clients that go away in the middle; what they had begun is stopped and written down."""
    service = stage.service
    for _ in range(3):
        session = await service.session()
        sock = await asyncio.to_thread(service.leave, session, _FOREVER, timeout=300.0)
        sock.close()
        began = time.monotonic()
        again = await service.run(session, "print(40 + 2)")
        stage.expect(again["stdout"] == "42\n", f"the session did not go on: {again['status']}")
        stage.expect(time.monotonic() - began < 7, "what nobody waited for went on")
        await service.call("DELETE", f"/api/sessions/{session}")
    statuses = [each["status"] for each in await service.history() if each["code"].startswith("import time")]
    stage.expect(statuses == ["cancelled"] * 3, f"what was left is recorded as {statuses}")


async def cancels(stage: Stage) -> None:
    """C21: at the very end, twice, what is over, and what is not one's own; one record each (I8)."""
    service = stage.service
    session, other = await service.session(), await service.session()
    for number in ("exec-none", "exec-" + "0" * 26, "..%2f..", "%00", "x" * 4000):
        answer = await service.call("DELETE", f"/api/executions/{number}")
        stage.expect(
            400 <= answer.status < 500, f"cancelling {number[:20]!r} was answered with {answer.status}"
        )
    for _ in range(8):
        limit = 0.2
        running = asyncio.ensure_future(service.run(session, "import time; time.sleep(9)", timeout=limit))
        await asyncio.sleep(limit + stage.random.uniform(-0.05, 0.05))
        numbers = [each["id"] for each in await service.history() if each["status"] == "running"]
        for number in [*numbers, *numbers]:
            answer = await service.call("DELETE", f"/api/executions/{number}")
            stage.expect(answer.status in (202, 404), f"cancelling was answered with {answer.status}")
        result = await running
        stage.expect(
            result["status"] in ("timeout", "cancelled", "killed"), f"it ended as {result['status']}"
        )
    over = await service.run(other, "print(1)")
    answer = await service.call("DELETE", f"/api/executions/{over['execution_id']}")
    stage.expect(answer.status == 404, f"cancelling what is over was answered with {answer.status}")


async def turns_its_clock(stage: Stage) -> None:
    """C23: times in the history are the host's, whatever code does to the clock that it sees."""
    service = stage.service
    session = await service.session()
    before = time.time()
    code = "import ctypes, struct, time\nlibc = ctypes.CDLL(None)\nnow = struct.pack('qq', 4070908800, 0)\n"
    code += (
        "print(libc.clock_settime(0, now), libc.settimeofday(now, None))\ntime.time = lambda: 4070908800.0\n"
    )
    result = await service.run(session, code)
    stage.expect(result["stdout"] == "-1 -1\n", f"the clock could be set: {result['stdout'][:80]!r}")
    await service.run(session, "import time; print(time.time())")
    for record in await service.history():
        times = (record["started"], record["finished"])
        stage.expect(all(before - 1 <= each <= time.time() + 1 for each in times), f"recorded at {times}")


async def outlives(stage: Stage) -> None:
    """K08: the daemon is killed with executions under way; nothing of it is left, and the next one knows."""
    service = stage.service
    sessions = [await service.session() for _ in range(3)]
    socks = [await asyncio.to_thread(service.leave, each, _FOREVER, timeout=300.0) for each in sessions]
    family = await asyncio.to_thread(service.kill)
    left = await asyncio.to_thread(alive, family, _GONE_SECONDS)
    for sock in socks:
        sock.close()
    if left:
        stage.harm(
            f"{len(left)} of {len(family)} processes live {_GONE_SECONDS:.0f} s after their owner was killed"
        )
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(service.start)
    found = (await service.call("GET", "/api/sessions?status=lost")).json["sessions"]
    stage.expect(
        {each["id"] for each in found} == set(sessions), f"{len(found)} of 3 sessions are told as lost"
    )
    records = {each["session"]: each["status"] for each in await service.history()}
    stage.expect(set(records.values()) == {"interrupted"}, f"what ran is recorded as {records}")


async def is_suspended(stage: Stage) -> None:
    """K18: the daemon stands still past the time-out of what runs in it, then goes on."""
    service = stage.service
    session = await service.session()
    running = asyncio.ensure_future(service.run(session, _FOREVER, timeout=1.0))
    await asyncio.sleep(0.5)
    os.kill(service.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(4)
    finally:
        os.kill(service.pid, signal.SIGCONT)
    result = await asyncio.wait_for(running, 20)
    stage.expect(result["status"] in ("timeout", "killed"), f"it ended as {result['status']}")
    again = await service.run(session, "print(40 + 2)")
    stage.expect(again["stdout"] == "42\n", "the session did not go on")
    await service.call("DELETE", f"/api/sessions/{session}")
    left = [pid for pid in below(service.pid) if b"bwrap" in _command(pid)]
    stage.expect(not left, f"{len(left)} sandboxes outlived their session")


def _command(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(200)
    except OSError:
        return b""


async def takes_its_socket(stage: Stage) -> None:
    """D23: the socket and its folder are the owner's alone; a second daemon is refused, a dead one's place is taken."""
    service = stage.service
    place = service.path
    for path, most in ((place.parent, 0o700), (place, 0o700)):
        mode = stat.S_IMODE(path.stat().st_mode)
        stage.expect(not mode & ~most, f"{path.name} has permissions {mode:o}")
    stage.expect(not stat.S_IMODE(service.data.stat().st_mode) & 0o077, "the data folder is open to others")
    env = {
        **process.MINIMAL_ENV,
        "TRLM_DATA": str(service.data),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    argv = [sys.executable, "-P", "-c", _MAIN, "serve", "--idle-seconds", "0"]
    done = await asyncio.to_thread(process.run, argv, timeout=60, env=env)
    stage.expect(
        done.returncode != 0 and b"serves" in done.stderr, f"a second daemon: {done.stderr[-200:]!r}"
    )
    await asyncio.to_thread(service.kill)
    place.unlink(missing_ok=True)
    place.symlink_to(stage.words["@CANARY@"])
    await asyncio.to_thread(service.start)
    stage.expect(not place.is_symlink(), "the daemon serves through a link")


ROWS = (
    Row("C13", "P1", "puts out the escape sequences of terminals", act=escapes, needs=("service",)),
    Row("C20", "P1", "leaves in the middle of an execution", act=leaves, needs=("service",)),
    Row("C21", "P1", "cancels at the very end, twice, afterwards, and what is another's", act=cancels, needs=("service",)),
    Row("C23", "P1", "turns its clock ahead", act=turns_its_clock, needs=("service",)),
    Row("D23", "P1", "reaches the daemon's socket as another user, or takes its place", act=takes_its_socket, needs=("service",)),
    Row(
        "K08", "P0", "is left by a service that was killed", act=outlives, needs=("service",),
        off=("keeper-ends-with-owner", "guest-ends-with-host"),
    ),
    Row("K18", "P1", "stands still with its service, then goes on", act=is_suspended, needs=("service",)),
)  # fmt: skip
