"""Everything works the same for an ordinary user; what the kernel does not hold for him is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from terraphim_rlm.sandbox.backends.bubblewrap import host, limits

pytestmark = pytest.mark.sandbox
UID = 1000

WORK = """
import asyncio, json, os, sys
sys.path.insert(0, sys.argv[1])
from backend_kit import SPEC, ask, opened
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap

async def main():
    async with Bubblewrap() as backend:
        link = await opened(backend)
        host_uid = os.stat(f"/proc/{link.kept.pid}").st_uid
        inside = [await ask(link, each) for each in sys.argv[2:]]
        await link.destroy()
        found = await backend.probe()
        print(json.dumps({
            "uid": host_uid, "inside": inside, "limits": dict(found.limits), "not_enforced": found.not_enforced,
            "groups": dict(backend.statistics().control_groups),
        }))

asyncio.run(main())
"""


def test_an_ordinary_user_gets_a_sandbox_and_the_truth_about_its_limits(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests run as an ordinary user already")
    setpriv = shutil.which("setpriv")
    paths = [
        str(Path(__file__).parent),
        *(p for p in sys.path if (p and "/lib/python" not in p) or "site-packages" in p),
    ]
    if setpriv is None or not all(host.readable_by(path, UID) for path in paths if os.path.isdir(path)):
        pytest.skip("uid 1000 cannot read this checkout")
    home = tmp_path.parent / "home-1000"
    argv = [
        setpriv,
        f"--reuid={UID}",
        f"--regid={UID}",
        "--clear-groups",
        host.guest_python(UID).path,
        "-W",
        "error",
    ]
    script = [
        "-c",
        WORK,
        str(Path(__file__).parent),
        "posix.getresuid()",
        "open('/proc/sys/kernel/core_pattern', 'w')",
    ]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": ":".join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [*argv, *script], check=False, env=env, capture_output=True, text=True, cwd="/", timeout=60
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["uid"] == UID
    assert seen["inside"][0] == "(65534, 65534, 65534)"
    assert seen["inside"][1].startswith("!PermissionError")
    lacking = {name for name, how in seen["limits"].items() if how != limits.BEST[name]}
    assert lacking == (set() if seen["groups"] else set(limits.WITHOUT_GROUP))
    assert [phrase.partition(":")[0] for phrase in seen["not_enforced"]] == sorted(
        lacking, key=[*limits.BEST].index
    )


@pytest.mark.anyio
async def test_root_never_runs_a_sandbox_as_itself() -> None:
    if os.geteuid() != 0:
        pytest.skip("this is not root")
    from backend_kit import ask, opened

    from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap

    async with Bubblewrap() as backend:
        link = await opened(backend)
        status = Path(f"/proc/{link.kept.pid}/status").read_text()
        assert f"Uid:\t{host.SANDBOX_UID}\t{host.SANDBOX_UID}\t{host.SANDBOX_UID}" in status
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"):
            assert (await ask(link, f"open({path!r}, 'w')")).startswith("!"), path
        await link.destroy()
