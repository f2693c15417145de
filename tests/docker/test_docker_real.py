"""What a container is, seen from inside, with each runtime. Runs on the lab's engine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.backends.docker import doctor
from terraphim_rlm.sandbox.backends.docker.backend import Docker, open_backend
from terraphim_rlm.sandbox.contract import SandboxSpec
from terraphim_rlm.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
needs_engine = pytest.mark.skipif(
    not os.environ.get("TRLM_LAB_DOCKER") or "DOCKER_HOST" not in os.environ,
    reason="needs the lab's engine: scripts/lib/check-docker tests",
)
_COMPUTE = """
import numpy, pandas
frame = pandas.DataFrame({"k": list("abab"), "v": numpy.arange(4.0)})
print(frame.groupby("k").v.sum().to_dict(), round(float(numpy.linalg.norm(numpy.eye(3))), 3))
"""
_LOOK = """
import os, socket
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(status["Uid"].split()[0], int(status["CapEff"], 16), int(status["CapBnd"], 16), status["Seccomp"].strip())
for path in ("/x", "/usr/x", "/etc/x", "/var/x"):
    try: open(path, "w"); print("wrote", path)
    except OSError: pass
print(sorted(name for _, name in socket.if_nameindex()))
for path in ("/var/run/docker.sock", "/run/docker.sock"):
    if os.path.exists(path): print("sees", path)
"""


@pytest.fixture(params=["runc", "runsc"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Docker]:
    async with await open_backend(request.param) as made:
        yield made


@needs_engine
async def test_numpy_and_pandas_import_and_compute(backend: Docker) -> None:
    async with Sandbox(backend, SandboxSpec()) as box:
        result = await box.run(_COMPUTE, timeout=120)
        assert (result.status, result.stdout) == ("ok", "{'a': 2.0, 'b': 4.0} 1.732\n"), result.stderr


@needs_engine
async def test_a_container_may_nothing_sees_no_network_and_writes_nowhere_but_in_memory(
    backend: Docker,
) -> None:
    async with Sandbox(backend, SandboxSpec()) as box:
        result = await box.run(_LOOK)
        assert result.stdout == "65534 0 0 2\n['lo']\n"


@needs_engine
async def test_the_kernel_inside_is_the_runtimes_own(backend: Docker) -> None:
    async with Sandbox(backend, SandboxSpec()) as box:
        inside = (await box.sh("uname -r")).stdout.strip()
    assert (inside == os.uname().release) == (backend.runtime == "runc")
    assert backend.runtime == "runc" or inside.startswith("4.")  # what gVisor says of itself


@needs_engine
async def test_limits_are_what_they_are_said_to_be_once_they_were_run_into(backend: Docker) -> None:
    from terraphim_rlm.sandbox.backends.docker import limits

    measured = await backend.probe()
    assert dict(measured.limits) == limits.expected(backend.runtime)


@needs_engine
async def test_an_engine_that_gives_its_own_kernel_for_gvisor_is_refused() -> None:
    async with await open_backend("runc") as backend:
        backend.name, backend.runtime = "docker+runsc", "runc"
        backend._believe("6.1 #1")
        backend.runtime = "runsc"
        with pytest.raises(BackendUnavailable, match="host's kernel answers"):
            backend._believe(f"{backend.engine.version['KernelVersion']} #1")


@pytest.mark.parametrize(
    ("versions", "holes"),
    [
        ({"runc": "1.1.5+ds1", "Engine": "20.10.24"}, 2),
        ({"runc": "1.1.12"}, 1),
        ({"runc": "1.2.7"}, 1),
        ({"runc": "1.2.8"}, 0),
        ({"runc": "1.3.2"}, 1),
        ({"runc": "1.3.3"}, 0),
        ({"runc": "1.4.0"}, 0),
        ({"Engine": "20.10.7", "runc": "1.3.3"}, 1),
        ({"Engine": "28.2.2", "runc": "unknown"}, 0),
    ],
)
def test_versions_with_known_holes_are_named_with_the_first_that_has_none(
    versions: dict[str, str], holes: int
) -> None:
    found = doctor.holes(versions)
    assert len(found) == holes
    assert all("CVE-" in each for each in found)


def test_an_old_gvisor_is_told_by_its_date() -> None:
    assert doctor.gvisor_age("runsc version 0.0~20221219.0")
    assert not doctor.gvisor_age("runsc version v0.0.0-20260224225140-573d5e7127a8")
    assert not doctor.gvisor_age("runsc version VERSION_MISSING")
