"""What is said where no engine, or no image, can be had; and what a container is made with. Needs no engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import BackendUnavailable, InvalidArgument, ToolchainMissing
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.backends.docker import images, owners, plan
from terraphim_rlm.sandbox.images.debian import Recipe
from terraphim_rlm.sandbox.selection import AUTO, choose

pytestmark = pytest.mark.anyio


async def test_where_no_engine_answers_the_socket_and_the_fix_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(BackendUnavailable, match=r"docker\.sock") as caught:
        await choose("docker+runc")
    assert "systemctl start docker" in caught.value.fix


async def test_an_engine_on_another_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2375")
    with pytest.raises(BackendUnavailable, match="only an engine on this machine"):
        await choose("docker+runc")


def test_auto_never_takes_containers_that_share_the_hosts_kernel() -> None:
    assert "docker+runc" not in AUTO


def test_a_container_is_made_with_every_protection() -> None:
    made = plan.container(
        plan.Plan("sha256:x", "runc", ("python3",), Resources(memory_mb=64, pids=7, cpus=0.5, disk_mb=8), {})
    )
    held = made["HostConfig"]
    assert (made["User"], made["NetworkDisabled"], made["StdinOnce"]) == ("65534:65534", True, True)
    assert (held["NetworkMode"], held["ReadonlyRootfs"], held["AutoRemove"]) == ("none", True, True)
    assert (held["CapDrop"], held["SecurityOpt"], held["Privileged"]) == (
        ["ALL"],
        ["no-new-privileges"],
        False,
    )
    assert held["Memory"] == held["MemorySwap"] == 64 << 20
    assert (held["PidsLimit"], held["NanoCpus"], held["LogConfig"]["Type"]) == (7, 500_000_000, "none")
    assert held["Binds"] == []
    assert set(held["Tmpfs"]) == {"/work", "/tmp", "/dev/shm", "/sys", "/sys/fs/cgroup", "/run", "/var/lib"}
    for path in ("/work", "/tmp", "/dev/shm"):
        assert {"nosuid", "nodev", f"size={8 << 20}", "nr_inodes=2048"} <= set(held["Tmpfs"][path].split(","))
    assert {"/proc/cmdline", "/proc/keys", "/proc/kcore"} <= set(held["MaskedPaths"])


def test_an_owner_is_dead_once_its_process_has_ended_and_not_before() -> None:
    _, mine = owners.labels()
    assert not owners.is_dead(mine)
    code = "from terraphim_rlm.sandbox.backends.docker import owners; print(list(owners.labels()[1].items()))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert owners.is_dead(dict(eval(ended.stdout)))
    assert not owners.is_dead({})
    other = {
        key: value.replace(value.split(" ", maxsplit=1)[0], "another-boot") for key, value in mine.items()
    }
    assert not owners.is_dead(other)


def test_a_process_id_that_was_given_to_another_does_not_keep_an_owner_alive() -> None:
    _, mine = owners.labels()
    (name,) = (key for key, value in mine.items() if str(os.getpid()) in value.split(" "))
    mine[name] = " ".join([*mine[name].split(" ")[:3], "1"])
    assert owners.is_dead(mine)


def test_a_language_that_an_image_lacks_is_told_with_the_image_that_has_it() -> None:
    facts = images.Facts(
        "sha256:x", (3, 11, 2), {"bash": ("/bin/bash", "5"), "rustc": ("/usr/bin/rustc", "1")}
    )
    assert facts.languages == ("python", "bash")
    with pytest.raises(ToolchainMissing, match="no cc") as caught:
        facts.toolchain("rust", "mine")
    assert images.DEFAULT in caught.value.fix


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"python": [3], "programs": {}}', b'{"python": 1}', b"x" * 100_000]
)
def test_an_image_that_says_nonsense_of_itself_is_none(said: bytes) -> None:
    assert images.parsed("sha256:x", said) is None


def test_what_is_known_of_an_image_is_kept_by_its_id() -> None:
    facts = images.Facts("sha256:" + "a" * 64, (3, 11, 2), {"bash": ("/bin/bash", "5")})
    assert images.known(facts.id) is None
    images.keep(facts)
    assert images.known(facts.id) == facts


def test_a_recipe_names_what_it_cannot_hold() -> None:
    assert "nodejs" not in Recipe(("python",), ()).debian_packages()
    assert {"nodejs", "python3-scipy"} <= set(Recipe(("javascript",), ("scipy",)).debian_packages())
    for wrong in (Recipe(("perl",)), Recipe(packages=("--option",)), Recipe(packages=("a b",))):
        with pytest.raises(InvalidArgument):
            wrong.debian_packages()
