"""Packages in real sandboxes: imported, shadowed, read-only, offline; and what a missing one tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from packages_kit import wheel

from terraphim_rlm import ExecutionResult, Sandbox, open_sandbox
from terraphim_rlm.core import pip
from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import InvalidArgument, PackageNotFound
from terraphim_rlm.faces.cli.app import run as trlm
from terraphim_rlm.faces.client.daemon import daemon
from terraphim_rlm.sandbox.packages import build, layers
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.sessions import NewSession, Sessions
from terraphim_rlm.store.journal import Journal

pytestmark = pytest.mark.sandbox
OWN = "import sys, os; own = next(each for each in sys.path if each.startswith('/work/.local'))\n"


async def said(box: Sandbox, code: str, language: str = "python") -> str:
    result = await box.run(code, language)
    assert result.status == "ok", (result.stdout, result.stderr)
    return result.stdout


@pytest.fixture
async def box(index: Path, home: Path) -> AsyncIterator[Sandbox]:
    """A sandbox with `one`, which needs `two`."""
    wheel(index, "one", needs=["two"])
    wheel(index, "two", "2.5")
    async with open_sandbox("bubblewrap", packages=["one"]) as sandbox:
        yield sandbox


def _forbid_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> pip.PipEnd:
        raise AssertionError("pip was run")

    monkeypatch.setattr(pip, "run", run)


async def test_cells_shells_and_programs_of_the_shell_import_what_was_asked_for(box: Sandbox) -> None:
    assert await said(box, "import one, two; print(one.version, two.version, one.__file__)") == (
        "1.0 2.5 /trlm/packages/one/__init__.py\n"
    )
    same = await said(box, "import sys; print(sys.executable)")
    assert await said(box, f"{same.strip()} -c 'import one; print(one.version)'", "bash") == "1.0\n"


async def test_an_installed_program_is_found_by_its_name(index: Path, home: Path) -> None:
    info = "[console_scripts]\nhello-one = one:main\n"
    wheel(
        index,
        "one",
        files={
            "one/__init__.py": "def main(): print('hello')\n",
            "one-1.0.dist-info/entry_points.txt": info,
        },
    )
    async with open_sandbox("bubblewrap", packages=["one"]) as box:
        assert await said(box, "hello-one", "bash") == "hello\n"


async def test_the_second_opening_needs_neither_pip_nor_an_index(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "one")
    steps: list[str] = []
    async with open_sandbox("bubblewrap", packages=["one"], on_step=steps.append) as box:
        assert await said(box, "import one; print(one.version)") == "1.0\n"
    assert "fetching one 1.0" in steps
    steps.clear()
    _forbid_pip(monkeypatch)
    async with open_sandbox("bubblewrap", packages=["ONE"], on_step=steps.append) as box:
        assert await said(box, "import one; print(one.version)") == "1.0\n"
    assert steps == []


async def test_what_the_session_installs_goes_before_it_in_cells_and_programs(box: Sandbox) -> None:
    code = OWN + (
        "os.makedirs(own + '/one', exist_ok=True)\n"
        "open(own + '/one/__init__.py', 'w').write('version = \"mine\"')\n"
        "import one, two; print(one.version, two.version, sys.executable)"
    )
    first, second, python = (await said(box, code)).split()
    assert (first, second) == ("mine", "2.5")
    program = f"{python} -c 'import one, two; print(one.version, two.version)'"
    assert await said(box, program, "bash") == "mine 2.5\n"


async def test_a_folder_that_the_code_works_in_goes_before_all(box: Sandbox) -> None:
    await box.files.write("one.py", b"version = 'here'")
    assert await said(box, "import one; print(one.version)") == "here\n"


async def test_pip_in_the_sandbox_installs_a_newer_version_over_the_layers(box: Sandbox, index: Path) -> None:
    newer = wheel(index, "one", "3.0")
    await box.files.write(newer.name, newer.read_bytes())
    python = (await said(box, "import sys; print(sys.executable)")).strip()
    if (await box.sh(f"{python} -m pip --version")).exit_code:
        pytest.skip("The sandbox's Python has no pip.")
    await said(box, f"{python} -m pip install -q --no-index --no-deps --upgrade ./{newer.name} 2>&1", "bash")
    assert await said(box, "import one; print(one.version)") == "3.0\n"


async def test_without_packages_what_the_session_installs_is_found_as_well(home: Path) -> None:
    async with open_sandbox("bubblewrap") as box:
        result = await box.run("import one")
        assert result.error is not None
        code = OWN + "os.makedirs(own); open(own + '/one.py', 'w').write('x = 7')\nimport one; print(one.x)"
        assert await said(box, code) == "7\n"
        assert await said(box, "print(os.path.exists('/trlm/packages'))") == "False\n"


@pytest.mark.parametrize(
    "harm",
    [
        "open('/trlm/packages/one/__init__.py', 'w')",
        "open('/trlm/packages/new.py', 'w')",
        "os.remove('/trlm/packages/one/__init__.py')",
        "os.rename('/trlm/packages/one', '/trlm/packages/two')",
        "os.chmod('/trlm/packages/one/__init__.py', 0o777)",
        "os.utime('/trlm/packages/one/__init__.py', (0, 0))",
        "os.symlink('/etc/passwd', '/trlm/packages/new')",
        "os.rmdir('/trlm/packages')",
    ],
)
async def test_nothing_inside_changes_the_layer(box: Sandbox, home: Path, harm: str) -> None:
    before = _everything(home)
    result = await box.run(f"import os\n{harm}")
    assert result.error is not None
    assert result.error.type in ("OSError", "PermissionError"), result.error
    assert _everything(home) == before


def _everything(home: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in home.glob("*/site/**/*"):
        stat = path.stat()
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
    return found


async def test_branches_and_rollbacks_keep_the_packages(box: Sandbox) -> None:
    await box.snapshot("before")
    (other,) = await box.branch(1, "before")
    try:
        assert await said(other, "import one; print(one.version)") == "1.0\n"
    finally:
        await other.close()
    await box.rollback("before")
    assert await said(box, "import one; print(one.version)") == "1.0\n"


async def test_sandboxes_that_open_at_once_build_once(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index, "one")
    runs: list[str] = []
    real = pip.run

    def run(arguments: list[str], *others: object, **options: object) -> pip.PipEnd:
        runs.append(arguments[0])
        return real(arguments, *others, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pip, "run", run)

    async def opened() -> str:
        async with open_sandbox("bubblewrap", packages=["one"]) as box:
            return await said(box, "import one; print(one.version)")

    assert await asyncio.gather(opened(), opened(), opened()) == ["1.0\n"] * 3
    assert runs == ["install"]


async def test_an_open_sandbox_keeps_its_layer_though_many_others_come(
    box: Sandbox, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "KEPT", 0)
    wheel(index, "three")
    async with open_sandbox("bubblewrap", packages=["three"]):
        assert await said(box, "import two; print(two.version)") == "2.5\n"


async def test_an_opening_that_is_cancelled_leaves_no_layer_and_no_process(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_COMPILE", "print('compiling'); import time; time.sleep(600)")
    wheel(index, "one")
    begun = asyncio.Event()

    def step(line: str) -> None:
        if line == "compiling":
            begun.set()

    async def opened() -> None:
        async with open_sandbox("bubblewrap", packages=["one"], on_step=step):
            raise AssertionError

    task = asyncio.ensure_future(opened())
    await begun.wait()
    assert any(str(home) in line for line in _command_lines())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(home.glob("*/manifest.json")) == []
    assert list(home.glob("draft-*")) == []
    assert not any(str(home) in line for line in _command_lines())


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("hostile", ["-r/etc/passwd", "one @ file:///etc", "../one", "one; import os"])
async def test_what_is_no_name_opens_no_sandbox(
    home: Path, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid_pip(monkeypatch)
    with pytest.raises(InvalidArgument):
        async with open_sandbox("bubblewrap", packages=[hostile]):
            raise AssertionError


def _notes(result: ExecutionResult) -> str:
    return "\n".join(result.notes)


async def test_a_failed_import_says_what_is_missing_what_is_there_and_how_to_add_it(box: Sandbox) -> None:
    notes = _notes(await box.run("import yaml_nowhere"))
    assert "has no module 'yaml_nowhere'." in notes
    assert "Installed: one 1.0, two 2.5" in notes
    assert 'packages=["yaml-nowhere"], or --packages yaml-nowhere, if that is the package\'s name.' in notes
    assert "Did you mean: two?" in _notes(await box.run("import twoo"))
    notes = _notes(await box.run("from nowhere_at_all.tree import leaf"))
    assert "'nowhere_at_all'" in notes


@pytest.mark.parametrize(
    "quiet",
    [
        "import one.missing_part",
        "try:\n    import nowhere\nexcept ImportError:\n    raise ValueError",
        "1/0",
        "raise ModuleNotFoundError('own words')",
        "e = ModuleNotFoundError('x'); e.name = {}\nraise e",
    ],
)
async def test_other_errors_are_told_nothing_of_packages(box: Sandbox, quiet: str) -> None:
    result = await box.run(quiet)
    assert result.error is not None
    assert "packages" not in _notes(result)


async def test_sessions_and_their_branches_have_their_packages_and_say_so(index: Path, home: Path) -> None:
    wheel(index, "one")
    with Journal() as journal:
        async with Sessions(journal, clock=ManualClock()) as sessions:
            with pytest.raises(InvalidArgument):
                await sessions.create(NewSession(packages=("-e .",)))
            with pytest.raises(PackageNotFound):
                await sessions.create(NewSession(packages=("nowhere",), name="mine"))
            session = await sessions.create(NewSession(packages=("One ==1.0",), name="mine"))
            assert session.packages == ("one==1.0",)
            (branch,) = await sessions.branch(session.id)
            for each in (session, branch):
                code = Execution("import one; print(one.version)")
                assert (await sessions.execute(each.id, code)).stdout == "1.0\n"


def test_exec_takes_packages_tells_what_it_fetches_and_the_tip_of_a_failed_import(
    index: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index, "one")
    wheel(index, "two", "2.5")
    code = "import one, two; print(one.version, two.version)"
    assert trlm(["exec", "--packages", "one,two>=2,<3", "-c", code]) == 0
    said = capsys.readouterr()
    assert said.out == "1.0 2.5\n"
    assert "trlm: fetching one 1.0\n" in said.err
    assert trlm(["exec", "--packages", "two<3,>=2", "--packages", "one", "-c", code]) == 0
    assert capsys.readouterr() == ("1.0 2.5\n", "")
    assert trlm(["exec", "-c", "import pandas_nowhere"]) == 1
    assert "--packages pandas-nowhere" in capsys.readouterr().err
    assert trlm(["exec", "--packages", "one", "-c", "import oone", "--json"]) == 8
    assert "Did you mean: one?" in " ".join(json.loads(capsys.readouterr().out)["data"]["notes"])
    assert trlm(["exec", "--packages", "-e .", "-c", "1"]) == 2
    assert trlm(["exec", "--packages", "nowhere", "-c", "1"]) == 4
    assert "no package nowhere" in capsys.readouterr().err


async def _daemon_says(session: str, code: str) -> str:
    async with daemon() as connection:
        result = await connection.post(f"/api/sessions/{session}/executions", {"code": code})
    return str(result["stdout"])


def test_session_new_takes_packages_fetches_them_in_sight_and_shows_them(
    index: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel(index, "one")
    try:
        assert trlm(["session", "new", "--packages", "one"]) == 0
        said = capsys.readouterr()
        assert "trlm: fetching one 1.0\n" in said.err
        code = "import one; print(one.version)"
        assert asyncio.run(_daemon_says(said.out.strip(), code)) == "1.0\n"
        assert trlm(["session", "show"]) == 0
        assert ["packages", "one"] in [line.split() for line in capsys.readouterr().out.splitlines()]
        assert trlm(["session", "new", "--packages", "../one"]) == 2
    finally:
        assert trlm(["serve", "--stop"]) == 0


async def test_a_session_whose_client_leaves_is_not_made_and_its_fetching_ends(
    index: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_COMPILE", "print('compiling'); import time; time.sleep(600)")
    wheel(index, "one")
    with Journal() as journal:
        async with Sessions(journal, clock=ManualClock()) as sessions:
            slow = [asyncio.ensure_future(sessions.create(NewSession(packages=("one",)))) for _ in range(6)]
            while not any(str(home) in line for line in _command_lines()):
                await asyncio.sleep(0.01)
            async with asyncio.timeout(30):
                await sessions.create(NewSession())  # it does not wait for them
            for each in slow:
                each.cancel()
            await asyncio.wait(slow)
            assert all(each.cancelled() for each in slow)
            assert sessions.statistics().live == 1
            assert not any(str(home) in line for line in _command_lines())
