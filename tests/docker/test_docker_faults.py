"""What goes wrong with an engine ends in a clear word, and leaves nothing. Runs on the lab's own engine only."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import BackendUnavailable, RlmError, SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.backends.docker import images, owners
from terraphim_rlm.sandbox.backends.docker.backend import Docker, open_backend
from terraphim_rlm.sandbox.backends.docker.engine import Engine
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox

ROOT = Path(__file__).resolve().parents[2]
LAB = os.environ.get("TRLM_LAB_DOCKER", "")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not LAB or LAB not in os.environ.get("DOCKER_HOST", ""),
        reason="needs the lab's engine, which these tests stop: scripts/lib/check-docker tests",
    ),
]
RUNTIMES = ("runc", "runsc")
_FIFTY = """
import asyncio, sys
from terraphim_rlm.sandbox.backends.docker.backend import open_backend
from terraphim_rlm.sandbox.contract import SandboxSpec
async def main():
    backend = await open_backend(sys.argv[1])
    made = [await backend.create(SandboxSpec()) for _ in range(int(sys.argv[2]))]
    print(backend.owner, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def lab(word: str) -> None:
    subprocess.run([ROOT / "scripts/lab", "docker", word], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    lab("start")
    found = await Engine.found()
    yield found
    await found.close()
    lab("start")


@pytest.fixture(params=RUNTIMES)
async def backend(request: pytest.FixtureRequest, engine: Engine) -> AsyncIterator[Docker]:
    made = await open_backend(request.param)
    async with made:
        yield made


async def left(engine: Engine) -> list[str]:
    """Containers of ours, whoever made them."""
    found = await engine.call("GET", "/containers/json", all="1", filters={"label": [owners.OWNER]})
    return [each["Id"] for each in found]


async def nothing_left(engine: Engine) -> None:
    async with asyncio.timeout(60):
        while await left(engine):
            await asyncio.sleep(0.2)


def end(pid: int, number: int) -> None:
    """Ends the engine's process, and waits until it is gone."""
    os.kill(pid, number)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        pass


def engines_pid() -> int:
    return int(Path(LAB, "dockerd.pid").read_text())


async def test_an_engine_that_was_stopped_is_told_with_its_socket_and_the_fix(engine: Engine) -> None:
    lab("stop")
    with pytest.raises(BackendUnavailable, match=r"docker\.sock") as caught:
        await open_backend("runc")
    assert "Start the engine" in caught.value.fix


async def test_an_engine_that_is_killed_while_code_runs_ends_it_and_leaves_nothing(backend: Docker) -> None:
    async with Sandbox(backend, SandboxSpec()) as box:
        running = asyncio.ensure_future(box.run("import time; print('on', flush=True); time.sleep(60)"))
        await asyncio.sleep(1)
        await asyncio.to_thread(end, engines_pid(), signal.SIGKILL)
        result = await asyncio.wait_for(running, 30)
        assert (result.status, result.state_after) == ("killed", "lost")
        with pytest.raises(RlmError):
            await box.run("1")
    await asyncio.to_thread(lab, "start")
    again = await Engine.found()
    await nothing_left(again)
    await again.close()


async def test_a_backend_goes_on_once_its_engine_was_restarted(backend: Docker) -> None:
    async with Sandbox(backend, SandboxSpec()) as box:
        assert (await box.run("1 + 1")).stdout == "2\n"
        await asyncio.to_thread(lab, "stop")
        with pytest.raises(SandboxLost):
            await box.run("1 + 1")
    with pytest.raises(BackendUnavailable, match="stopped answering"):
        await backend.create(SandboxSpec())
    await asyncio.to_thread(lab, "start")
    async with Sandbox(backend, SandboxSpec()) as box:
        assert (await box.run("1 + 1")).stdout == "2\n"
    await nothing_left(backend.engine)


async def test_an_image_that_was_removed_is_named_and_found_again_once_it_is_back(engine: Engine) -> None:
    name = images.image_name()
    copy = "terraphim-rlm/gone"
    await engine.call("POST", f"/images/{name}/tag", repo=copy, tag="latest")
    made = await open_backend("runc")
    async with made:
        made.image = copy
        await engine.call("DELETE", f"/images/{copy}")
        with pytest.raises(BackendUnavailable, match=copy) as caught:
            await made.create(SandboxSpec())
        assert "trlm image build" in caught.value.fix
        await engine.call("POST", f"/images/{name}/tag", repo=copy, tag="latest")
        async with Sandbox(made, SandboxSpec()) as box:
            assert (await box.run("1")).status == "ok"
    await engine.call("DELETE", f"/images/{copy}")
    await nothing_left(engine)


async def test_a_runtime_that_is_registered_no_more_is_refused_and_nothing_weaker_taken(
    engine: Engine,
) -> None:
    settings = Path(LAB, "engine.json")
    before = settings.read_text()
    try:
        await asyncio.to_thread(lab, "stop")
        settings.write_text(json.dumps({"runtimes": {}}))
        start = [
            "dockerd", "--config-file", str(settings), "--data-root", f"{LAB}/data", "--exec-root", f"{LAB}/run",
            "--pidfile", f"{LAB}/dockerd.pid", "--host", f"unix://{LAB}/docker.sock", "--iptables=false", "--bridge=none",
        ]  # fmt: skip
        with Path(LAB, "log").open("ab") as log:
            child = subprocess.Popen(
                start, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
            async with asyncio.timeout(60):
                while True:
                    try:
                        await engine.meet()
                        break
                    except Exception:
                        await asyncio.sleep(0.2)
            with pytest.raises(BackendUnavailable, match="no runtime runsc") as caught:
                await open_backend("runsc")
            assert "docs/docker.md" in caught.value.fix
            child.terminate()
            await asyncio.to_thread(child.wait)
    finally:
        settings.write_text(before)


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_the_sandboxes_of_an_owner_that_was_killed_end(engine: Engine, runtime: str) -> None:
    count = int(os.environ.get("TRLM_TEST_ORPHANS", "5"))
    child = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", _FIFTY, runtime, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    owner = (await asyncio.to_thread(child.stdout.readline)).strip()
    assert len(await owners.those_of(engine, owner)) == count
    child.kill()
    await asyncio.to_thread(child.wait)
    child.stdout.close()
    await nothing_left(engine)


async def test_what_an_owner_had_made_and_not_started_is_removed_by_the_next_one(engine: Engine) -> None:
    code = "import json; from terraphim_rlm.sandbox.backends.docker import owners; print(json.dumps(owners.labels()[1]))"
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    body = {"Image": images.image_name(), "Cmd": ["true"], "Labels": json.loads(ended.stdout)}
    for _ in range(3):
        await engine.call("POST", "/containers/create", body=body)
    assert len(await left(engine)) == 3
    async with await open_backend("runc") as backend, Sandbox(backend, SandboxSpec()) as box:
        assert (await box.run("1")).status == "ok"
        assert len(await left(engine)) == 1
    await nothing_left(engine)


async def test_a_full_disk_of_the_engine_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's answer is made up here: its real disk is this machine's."""
    from terraphim_rlm.sandbox.backends.docker.engine import Refused

    async with await open_backend("runc") as backend:
        await backend._ready()
        real = backend.engine.call

        async def full(method: str, path: str, **query: object) -> object:
            if path == "/containers/create":
                raise Refused(500, "mkdir /var/lib/docker/overlay2/x: no space left on device")
            return await real(method, path, **query)

        monkeypatch.setattr(backend.engine, "call", full)
        with pytest.raises(SandboxStartFailed, match="no disk space left") as caught:
            await backend.create(SandboxSpec())
        assert "docker system prune" in caught.value.fix
    await nothing_left(engine)
