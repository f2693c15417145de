"""Sandboxes that are forked from one process are the same as bubblewrap's, apart from each other, and go without a trace."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import gc
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from backend_kit import descriptors, groups_of

from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import argv, starting
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap, Link
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

SPEC = SandboxSpec()
SPACES = ("pid", "mnt", "ipc", "uts", "net", "user", "cgroup")
SEEN = """
import os, socket
def text(path):
    return open(path).read()
def mounts():
    for line in text('/proc/self/mountinfo').splitlines():
        left, right = line.split(' - ')
        yield (*left.split()[3:6], *right.split())
def status(pid):
    named = ('Cap', 'NoNewPrivs', 'Seccomp', 'Uid', 'Gid', 'Groups', 'Sig', 'Umask', 'PPid')
    return [line for line in text(f'/proc/{pid}/status').splitlines() if line.startswith(named)]
print(sorted(mounts()))
print(status('self'), status('1'), text('/proc/self/limits'), text('/proc/1/limits'))
print([text(f'/proc/self/{name}') for name in ('uid_map', 'gid_map', 'setgroups', 'cgroup', 'oom_score_adj')])
print(text('/proc/sys/user/max_user_namespaces') == '0', socket.gethostname(), socket.if_nameindex(), text('/proc/net/dev').count(':'))
print([sorted(os.listdir(folder)) for folder in ('/', '/dev', '/etc', '/work', '/tmp', '/dev/shm', '/dev/pts', '/proc/self/fd')])
print(sorted(name for name in os.listdir('/proc') if name.isdigit()), os.getcwd(), os.getsid(0), os.getpgid(0))
print({name: os.environ[name] for name in sorted(os.environ)}, __import__('sys').path, __import__('sys').flags)
s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('loopback')
"""


@pytest.fixture
async def backend() -> AsyncIterator[Bubblewrap]:
    """One whose zygote stands."""
    async with Bubblewrap() as made:
        await (await made.boot(SPEC)).destroy()
        if lacking := await made.zygote():
            pytest.skip(f"no zygote here: {lacking}")
        yield made


def zygote_of(backend: Bubblewrap) -> int:
    """Its pid, as this process sees it."""
    outer = backend._zygote.standing
    assert outer is not None
    return int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def forked(backend: Bubblewrap, spec: SandboxSpec = SPEC) -> Link:
    link = await backend.boot(spec)
    assert parent(link.kept.pid) == zygote_of(backend), "bubblewrap made it"
    return link


async def said(box: Sandbox, code: str) -> str:
    result = await box.run(code)
    assert result.status == "ok", result
    return result.stdout


async def test_a_single_sandbox_costs_no_zygote_and_the_third_is_forked_from_one() -> None:
    async with Bubblewrap() as backend:
        first = await backend.boot(SPEC)
        assert backend._zygote.standing is None
        second = await backend.boot(SPEC)
        assert not await backend.zygote()
        third = await forked(backend)
        for link in (first, second, third):
            await link.destroy()
        assert backend.statistics().ended == backend.statistics().started == 3


async def test_a_forked_sandbox_sees_and_may_what_bubblewraps_sees_and_may(
    backend: Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Sandbox(backend, SPEC) as other:
        found = await said(other, SEEN)
    monkeypatch.setattr(backend, "_forks", False)  # a second backend may lack the control groups of the first
    async with Sandbox(backend, SPEC) as one:
        expected = await said(one, SEEN)
    assert "loopback" in found
    found = _without_covered(found, expected)
    differing = [
        pair for pair in zip(expected.splitlines(), found.splitlines(), strict=True) if len(set(pair)) > 1
    ]
    assert [pair for pair in differing if "max_user_namespaces" not in pair[0]] == []


def _without_covered(found: str, expected: str) -> str:
    """Without the one mount that may be there besides: the zygote's `/proc`, below the sandbox's own.

    The kernel lets no user namespace mount a `/proc` where none can be seen.
    """
    first, rest = found.split("\n", 1)
    mounts = ast.literal_eval(first)
    covered = [mount for mount in mounts if mount[1] == "/proc"]
    assert len(covered) == 2
    assert covered[0] == covered[1]
    assert len(mounts) == len(ast.literal_eval(expected.split("\n", 1)[0])) + 1
    mounts.remove(covered[0])
    return f"{mounts}\n{rest}"


FRAMES = """
import sys
frame, places, names = sys._getframe(), [], {}
while frame:
    place = frame.f_code.co_filename.rpartition('/')[2].partition('.')[0]
    places.append(f'{place} {frame.f_code.co_name}')
    if place in ('zygote', 'start'):
        names.update({name: repr(value) for name, value in frame.f_locals.items() if not name.startswith('_')})
    frame = frame.f_back
print([place for place in places if place.startswith('zygote')])
print([name for name, said in names.items() if 'Zygote' in said or 'Filter' in said or 'fd=' in said and 'closed' not in said])
"""


async def test_code_that_walks_up_from_itself_finds_nothing_of_what_forked_it(backend: Bubblewrap) -> None:
    async with Sandbox(backend, SPEC), Sandbox(backend, SPEC) as box:
        assert parent(box.machine.guest.link.kept.pid) == zygote_of(backend)  # type: ignore[attr-defined]
        assert await said(box, FRAMES) == "['zygote main']\n[]\n"


async def test_every_namespace_of_a_forked_sandbox_is_its_own(backend: Bubblewrap) -> None:
    links = [await forked(backend) for _ in range(3)]
    everybody = [os.getpid(), zygote_of(backend), *(link.kept.pid for link in links)]
    try:
        for space in SPACES:
            inodes = {os.stat(f"/proc/{pid}/ns/{space}").st_ino for pid in everybody}
            assert len(inodes) == len(everybody), space
    except PermissionError:
        pytest.skip("this user may not look at processes that are not dumpable")
    finally:
        for link in links:
            await link.destroy()


REACH = """
import fcntl, os, signal
def tried(call, *arguments):
    try:
        return call(*arguments)
    except OSError as error:
        return type(error).__name__
fd = os.open('/etc/passwd', os.O_RDONLY)
print(tried(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_WRLCK), tried(fcntl.fcntl, fd, fcntl.F_NOTIFY, 1))
print(tried(os.chmod, '/etc/passwd', 0o666), tried(open, '/trlm/guest/start.pyc', 'r+'))
print(tried(os.listdir, '/proc/1/fd'), tried(os.readlink, '/proc/1/ns/mnt'), tried(open, '/proc/1/mem', 'rb'))
master, slave = os.openpty()
print(os.ttyname(slave), os.listdir('/dev/pts'))
"""


async def test_a_forked_sandbox_reaches_neither_the_zygote_nor_another(backend: Bubblewrap) -> None:
    zygote = zygote_of(backend)
    async with Sandbox(backend, SPEC) as one, Sandbox(backend, SPEC) as other:
        await said(other, "import os; held = os.openpty(); open('/dev/shm/canary', 'w').close()")
        found = (await said(one, REACH)).splitlines()
        assert found == [
            "PermissionError PermissionError",
            "OSError PermissionError",
            "PermissionError PermissionError PermissionError",
            "/dev/pts/0 ['0', 'ptmx']",
        ]
        assert await said(one, "import os; print(os.listdir('/dev/shm'), os.listdir('/tmp'))") == "[] []\n"
        assert await said(other, "print(os.listdir('/dev/shm'))") == "['canary']\n"
    assert zygote_of(backend) == zygote


async def test_a_signal_to_its_own_process_group_stays_in_a_forked_sandbox(backend: Bubblewrap) -> None:
    zygote = zygote_of(backend)
    async with Sandbox(backend, SPEC) as one, Sandbox(backend, SPEC) as other:
        await said(other, "value = 42")
        await one.run("import os; os.kill(0, 9)")
        await one.run("import subprocess; subprocess.run(['sh', '-c', 'kill -9 0; kill -9 -1'])")
        assert await said(other, "print(value)") == "42\n"
    assert zygote_of(backend) == zygote


async def test_a_forked_sandbox_holds_no_descriptor_of_the_zygotes_line(backend: Bubblewrap) -> None:
    link = await forked(backend)
    async with Bubblewrap(forks=False) as plain:
        other = await plain.boot(SPEC)
        try:
            found, expected = (sorted(_kinds(each.kept)) for each in (link, other))
        except PermissionError:
            pytest.skip("this user may not look at processes that are not dumpable")
        finally:
            await other.destroy()
            await link.destroy()
    assert found == expected


def _kinds(kept: Any) -> list[str]:
    """What pid 1 has open, each as `number kind`."""
    children = Path(f"/proc/{kept.pid}/task/{kept.pid}/children").read_text().split()
    pid = children[0] if b"bwrap" in Path(f"/proc/{kept.pid}/exe").readlink().name.encode() else kept.pid
    folder = Path(f"/proc/{pid}/fd")
    return [f"{each.name} {os.readlink(each).partition(':')[0]}" for each in folder.iterdir()]


async def test_random_numbers_of_forked_sandboxes_go_their_own_ways(backend: Bubblewrap) -> None:
    code = "import os, random, tempfile, uuid; print(random.random(), os.urandom(8).hex(), uuid.uuid4(), tempfile.mktemp())"
    answers = set()
    for _ in range(3):
        async with Sandbox(backend, SPEC) as box:
            answers |= set((await said(box, code)).split())
    assert len(answers) == 12


async def test_a_forked_sandbox_is_held_by_its_own_limits(backend: Bubblewrap) -> None:
    spec = SandboxSpec(Resources(memory_mb=64, pids=20, disk_mb=3))
    async with Sandbox(backend, spec) as box, Sandbox(backend, SPEC) as other:
        assert (await box.run("open('/work/full', 'wb').write(bytes(4 << 20))")).status == "disk_full"
        forks = "import os; n = 0\ntry:\n    while os.fork(): n += 1\n    import time; time.sleep(60)\nexcept OSError: pass\nprint(n)"
        assert 0 < int(await said(box, forks)) < 20
        assert (await box.run("x = bytearray(200 << 20)")).status != "ok"
        assert await said(other, "x = bytearray(200 << 20); print(len(x))") == "209715200\n"


async def test_killing_the_zygote_ends_its_sandboxes_and_the_next_ones_are_made_all_the_same(
    backend: Bubblewrap,
) -> None:
    links = [await forked(backend) for _ in range(2)]
    watches = [os.pidfd_open(link.kept.pid) for link in links]
    os.kill(zygote_of(backend), signal.SIGKILL)
    for link, watch in zip(links, watches, strict=True):
        assert (await link.ended()).signal == 9
        assert select.select([watch], [], [], 0)[0], "the end was told before it had come"
        os.close(watch)
        await link.destroy()
    await (await backend.boot(SPEC)).destroy()
    assert not await backend.zygote()
    await (await forked(backend)).destroy()


@pytest.mark.parametrize("victim", ["keeper", "bubblewrap"])
async def test_what_the_zygote_made_goes_with_whoever_holds_it(backend: Bubblewrap, victim: str) -> None:
    links = [await forked(backend) for _ in range(2)]
    outer, keeper = backend._zygote.standing, backend.statistics().pid
    assert outer is not None
    assert keeper is not None
    watches = [os.pidfd_open(pid) for pid in (zygote_of(backend), *(link.kept.pid for link in links))]
    os.kill(keeper if victim == "keeper" else outer.pid, signal.SIGKILL)
    for link in links:
        await link.ended()
        await link.destroy()
    for watch in watches:
        assert select.select([watch], [], [], 5.0)[0], "something outlived it"
        os.close(watch)


async def test_a_hundred_forked_sandboxes_some_killed_while_they_set_up_leave_nothing() -> None:
    chance = random.Random(11)
    before = descriptors()
    async with Bubblewrap() as backend:
        await (await backend.boot(SPEC)).destroy()
        if lacking := await backend.zygote():
            pytest.skip(f"no zygote here: {lacking}")
        zygote = zygote_of(backend)

        async def one(patience: float | None) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await (await backend.boot(SPEC)).destroy()

        for _ in range(25):
            async with asyncio.TaskGroup() as group:
                for patience in (None, *(chance.uniform(0.0002, 0.015) for _ in range(3))):
                    group.create_task(one(patience))
        assert zygote_of(backend) == zygote
        await (await forked(backend)).destroy()
        assert Path(f"/proc/{zygote}/task/{zygote}/children").read_text() == ""
        assert backend.statistics().running == 0
    assert groups_of(os.getpid()) == []
    gc.collect()
    assert descriptors() == before


OWNER = """
import asyncio
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec

async def main():
    backend = Bubblewrap()
    links = [await backend.boot(SandboxSpec())]
    lacking = await backend.zygote()
    links += [await backend.boot(SandboxSpec()) for _ in range(2)]
    tasks = [asyncio.create_task(backend.boot(SandboxSpec())) for _ in range(4)]
    await asyncio.sleep(0.004)
    print(lacking or backend.statistics().pid, backend._zygote._kept.pid, *(link.kept.pid for link in links), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_killing_the_owner_leaves_no_zygote_and_nothing_that_it_made() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        told = owner.stdout.readline().split()
        if not told[0].isdigit():
            owner.kill()
            pytest.skip("no zygote here")
        watches = [os.pidfd_open(int(pid)) for pid in told]
        owner.kill()
        owner.wait()
    for watch in watches:
        assert select.select([watch], [], [], 10.0)[0]
        os.close(watch)
    assert groups_of(owner.pid) == []


def _without_powers(make: Callable[[argv.Plan], list[str]]) -> Callable[[argv.Plan], list[str]]:
    return lambda plan: [word if word != "ALL" else "CAP_KILL" for word in make(plan)]


async def test_where_no_zygote_can_work_bubblewrap_makes_every_sandbox_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(argv, "zygote", _without_powers(argv.zygote))
    async with Bubblewrap() as backend:
        capabilities = await backend.probe()
        assert "Operation not permitted" in capabilities.versions["zygote"]
        async with Sandbox(backend, SPEC) as box:
            assert await said(box, "print(41 + 1)") == "42\n"


async def test_a_sandbox_that_cannot_be_forked_is_made_by_bubblewrap(
    monkeypatch: pytest.MonkeyPatch, backend: Bubblewrap
) -> None:
    def held(*_given: object) -> starting.Held:
        monkeypatch.undo()
        return starting.Held({"NO_SUCH": 1}, {}, 0)

    monkeypatch.setattr(starting, "held", held)
    link = await backend.boot(SPEC)
    assert parent(link.kept.pid) == backend.statistics().pid
    await link.destroy()
    await (await forked(backend)).destroy()
