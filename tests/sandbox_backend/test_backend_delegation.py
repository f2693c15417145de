"""Who has no control group of his own is told how to come by one on this machine, and told the truth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from terraphim_rlm.sandbox.backends.bubblewrap import delegation
from terraphim_rlm.sandbox.backends.bubblewrap.delegation import Facts, advice


def test_where_systemd_gives_scopes_one_is_to_be_had_without_root() -> None:
    assert advice(Facts(2, systemd=True)).startswith(
        "Run it as `systemd-run --user --scope --quiet -p Delegate=yes trlm"
    )


def test_what_systemd_said_when_it_gave_no_scope_is_handed_on() -> None:
    said = advice(
        Facts(2, systemd=True, said="Failed to connect to bus: No medium found", user="ann", shell=77)
    )
    assert "systemd-run gave no scope: Failed to connect to bus: No medium found" in said
    assert "chown ann" in said
    assert "echo 77 > " in said


def test_where_no_groups_are_mounted_nothing_is_advised_that_would_need_them() -> None:
    said = advice(Facts(None, systemd=False))
    assert "none are mounted" in said
    assert "sudo" not in said


def test_a_systemd_that_cannot_be_asked_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "systemd-run"
    script.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(delegation, "SCOPE", (str(script),))
    assert delegation._refusal() == "Failed to connect to bus"
    script.write_text('#!/bin/sh\nexec "$@"\n')
    assert delegation._refusal() is None
    script.unlink()
    assert delegation._refusal() == f"{script}: No such file or directory"


TRY = """
import asyncio, json
from terraphim_rlm.sandbox.backends.bubblewrap.backend import Bubblewrap
async def main():
    async with Bubblewrap() as backend:
        found = await backend.probe()
        print(json.dumps([dict(backend.statistics().control_groups), found.not_enforced]))
asyncio.run(main())
"""


@pytest.mark.sandbox
def test_what_root_is_told_to_run_gives_an_ordinary_user_every_limit() -> None:
    """The advice is carried out: by root, for a shell that then becomes an ordinary user."""
    from terraphim_rlm.sandbox.backends.bubblewrap import host

    uid = 1000
    paths = [path for path in sys.path if (path and "/lib/python" not in path) or "site-packages" in path]
    facts = delegation.facts()
    if os.geteuid() != 0 or facts.version is None or not os.access("/sys/fs/cgroup", os.W_OK):
        pytest.skip("only root on a machine with control groups can give one away")
    if not all(host.readable_by(path, uid) for path in paths if os.path.isdir(path)):
        pytest.skip("uid 1000 cannot read this checkout")
    name = f"trlm-test-{os.getpid()}"
    give = (
        delegation._GIVE[facts.version]
        .replace("chown -R {user}", "chown -R 1000")
        .replace("chown {user}", "chown 1000")
    )
    script = (
        give.format(user=name, shell="$$") + f'; exec setpriv --reuid={uid} --regid={uid} --clear-groups "$@"'
    )
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ":".join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/",
    }
    argv = ["sh", "-ec", script, "sh", host.guest_python(uid).path, "-c", TRY]
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, cwd="/", timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        groups, missing = json.loads(done.stdout)
        assert groups == dict.fromkeys(("cpu", "memory", "pids"), facts.version)
        assert missing == []
    finally:
        for folder in sorted(Path("/sys/fs/cgroup").glob(f"**/{name}/**"), key=lambda each: -len(each.parts)):
            if folder.is_dir():
                folder.rmdir()
