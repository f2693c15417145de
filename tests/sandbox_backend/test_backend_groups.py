"""Control groups are found, made, judged and removed in both versions of their file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from terraphim_rlm.sandbox.keeper import groups

MOUNTS_V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
OWN_V1 = "4:memory:/docker/abc/inner\n2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"


def found(mounts: str, own: str) -> list[tuple[int, tuple[str, ...], str]]:
    return [(each.version, each.controllers, each.folder) for each in groups.hierarchies(mounts, own)]


def test_version_1_hierarchies_are_found_below_our_own_groups() -> None:
    assert found(MOUNTS_V1, OWN_V1) == [
        (1, ("cpu",), "/sys/fs/cgroup/cpu,cpuacct"),
        (1, ("memory",), "/sys/fs/cgroup/memory/inner"),
        (2, (), "/sys/fs/cgroup/unified"),
    ]


def test_version_2_is_found_at_our_own_group() -> None:
    mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope\n"
    assert found(mounts, own) == [
        (2, (), "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope")
    ]


def test_nothing_is_found_where_nothing_is_mounted() -> None:
    assert found("22 1 254:0 / / rw - ext4 /dev/vda rw\n", "0::/\n") == []


def tree(tmp_path: Path) -> Path:
    """A version 2 slice that hands controllers down, with a scope of one process in it, as plain files."""
    for folder, handed in ((tmp_path / "slice", "memory pids cpu"), (tmp_path / "slice/scope", "")):
        folder.mkdir()
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids")
        (folder / "cgroup.subtree_control").write_text(handed)
        (folder / "cgroup.procs").write_text("")
    more_than_any_pid = 4_194_304  # so never our parent's
    (tmp_path / "slice/scope/cgroup.procs").write_text(f"{more_than_any_pid}\n")
    return tmp_path / "slice"


def test_version_2_goes_up_to_the_nearest_group_that_may_be_divided(tmp_path: Path) -> None:
    place = tree(tmp_path)
    usable = groups._delegated(f"{place}/scope", os.getppid())
    assert usable is not None
    assert (usable.version, usable.folder) == (2, str(place))
    assert set(usable.controllers) == {"memory", "pids", "cpu"}


def test_a_group_with_other_peoples_processes_is_never_emptied(tmp_path: Path) -> None:
    scope = tree(tmp_path) / "scope"
    groups._step_aside(str(scope), os.getppid())
    assert not (scope / "trlm-owner").exists()
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n{os.getppid()}\n")
    groups._step_aside(str(scope), os.getppid())
    assert (scope / "trlm-owner").exists()


def test_version_2_limits_are_written_with_swap_off_and_never_kill_the_group_as_one(tmp_path: Path) -> None:
    names = {file for _controller, file, _text, _required in groups.KNOBS[2]}
    for name in names:
        (tmp_path / name).write_text("")
    for controller, value in (("memory", 64 << 20), ("pids", 12), ("cpu", 0.5)):
        assert groups._write(str(tmp_path), 2, controller, value)
    written = {name: (tmp_path / name).read_text() for name in names}
    assert written == {
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "pids.max": "12",
        "cpu.max": "10000 20000",
    }


def test_a_limit_whose_file_is_missing_is_not_called_enforced(tmp_path: Path) -> None:
    assert not groups._write(str(tmp_path), 2, "memory", 1 << 20)


@pytest.mark.parametrize(
    ("text", "kills"),
    [("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3), ("low 0\noom 2\noom_kill 1\n", 1), ("", 0)],
)
def test_the_kernels_kills_are_read_from_either_version(tmp_path: Path, text: str, kills: int) -> None:
    (tmp_path / "counts").write_text(text)
    assert groups.count({"oom_kill": str(tmp_path / "counts")}, "oom_kill") == kills
    assert groups.count({}, "oom_kill") == 0
    assert groups.count({"oom_kill": str(tmp_path / "gone")}, "oom_kill") == 0


@pytest.mark.parametrize("name", ["trlm-1.2.3", "trlm-a.b.c.d", "other-1.2.3.4", "trlm-owner"])
def test_groups_that_are_not_a_keepers_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert groups.reclaim(str(tmp_path))
    assert (tmp_path / name).exists()


def test_a_living_owners_groups_are_left_alone_and_a_dead_ones_go(tmp_path: Path) -> None:
    from terraphim_rlm.sandbox.keeper import orphans

    namespace, me = os.stat("/proc/self/ns/pid").st_ino, os.getpid()
    living = tmp_path / f"trlm-{namespace}.{me}.{orphans.start_time(me)}.{me}"
    reborn = tmp_path / f"trlm-{namespace}.{me}.1.{me}"
    for folder in (living, reborn, reborn / "1"):
        folder.mkdir()
    assert groups.reclaim(str(tmp_path))
    assert not reborn.exists()
    assert living.exists()
