"""What the files around the code must keep true: locks, README, version, links, and what no file may name."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import terraphim_rlm

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("run", "local", "dev")
# Written with gaps, so that this file does not name what it looks for.
HOSTS = [
    name.replace(" ", ".")
    for name in (
        "pypi org", "pythonhosted org", "npmjs org", "crates io", "deb debian org", "security debian org",
        "proxy golang org", "maven apache org",
    )
]  # fmt: skip
MACHINE = [path.replace(" ", "/") for path in (".. shared", " work main", " work shared")]


def _tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def _lock(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """Requirement and hashes by canonical name."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    entries = {}
    for entry in text.replace("\\\n", " ").splitlines():
        words, *hashes = entry.split("--hash=")
        requirement = Requirement(words.strip())
        entries[canonicalize_name(requirement.name)] = (requirement, [each.strip() for each in hashes])
    return entries


def _wanted(name: str) -> list[Requirement]:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = {"run": [], "local": ["local"], "dev": ["local", "testing"]}[name]
    words = [*project["dependencies"], *groups["build"], *PROJECT["build-system"]["requires"]]
    words += [each for extra in extras for each in project["optional-dependencies"][extra]]
    words += [each for each in groups["dev"] if isinstance(each, str) and name == "dev"]
    return [Requirement(each) for each in words]


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_one_version_and_its_hashes(name: str) -> None:
    for requirement, hashes in _lock(name).values():
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_holds_what_the_project_asks_for(name: str) -> None:
    lock = _lock(name)
    stale = []
    for wanted in _wanted(name):
        locked = lock.get(canonicalize_name(wanted.name))
        version = str(locked[0].specifier).removeprefix("==") if locked else "nothing"
        if not locked or not wanted.specifier.contains(version, prereleases=True):
            stale.append(f"{wanted} but {version} is locked")
    assert stale == [], "run scripts/lock"


def test_the_narrower_locks_agree_with_the_widest() -> None:
    widest = _lock("dev")
    for name in LOCKS[:-1]:
        assert {key: value for key, value in _lock(name).items() if widest.get(key) != value} == {}


def test_no_file_names_a_package_registry_or_this_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in _tracked()
        for text in [path.read_bytes()]
        for word in [*HOSTS, *MACHINE]
        if word.encode() in text
    ]
    assert found == []


def _blocks() -> list[str]:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)


def test_the_readme_has_two_shell_blocks_of_one_command_line_each() -> None:
    blocks = _blocks()
    assert len(blocks) == 2
    assert [block.count("\n") for block in blocks] == [1, 1]
    assert not any(block.rstrip().endswith(("\\", "&", "|")) for block in blocks)
    first, second = blocks
    assert "scripts/setup --local" in first
    assert "trlm ask" in first
    assert second.strip() == "scripts/setup --dev && scripts/test"


@pytest.mark.parametrize("name", ["setup", "check", "test", "bench", "lock", "clean-room", "size-report"])
def test_every_script_can_be_run(name: str) -> None:
    script = ROOT / "scripts" / name
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").startswith("#!/usr/bin/env ")


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert importlib.metadata.version("terraphim-rlm") == version
    assert getattr(terraphim_rlm, "__version__", version) == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def test_every_link_between_our_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in _tracked()
        if page.suffix == ".md"
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
