"""Importing has no side effect, and processes start in few places: both are claims about every module."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "terraphim_rlm"

# Runs in a process of its own: an audit hook cannot be taken off again.
WATCH = r"""
import importlib, json, os, sys
FORBIDDEN = ("socket.connect", "socket.bind", "socket.__new__", "socket.getaddrinfo", "subprocess.Popen", "os.system",
             "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn",
             "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.putenv", "os.chmod", "os.link", "os.symlink",
             "_thread.start_new_thread", "sqlite3.connect", "signal.pthread_kill")
# Files that hold modules or name them: pydantic looks its plug-ins up among the installed packages.
MODULE = (".py", ".pyc", ".so", ".zip", ".dist-info/entry_points.txt")
current, seen = "", []
def hook(event, args):
    if not current:
        return
    if event == "open":
        path, mode, flags = args
        name = os.fsdecode(path) if isinstance(path, (str, bytes)) else repr(path)
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else True
        cached = "__pycache__" in name
        if not cached and (writes or not name.endswith(MODULE)):
            seen.append([current, event, name])
    elif event in FORBIDDEN:
        seen.append([current, event, repr(args)[:200]])
sys.addaudithook(hook)
failed = {}
for name in json.load(sys.stdin):
    current = name
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = repr(error)
    current = ""
json.dump({"seen": seen, "failed": failed}, sys.stdout)
"""


def _modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(set(names))


def _watch(names: list[str], **env: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **env},
        cwd="/",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_importing_the_package_opens_no_file_socket_or_process() -> None:
    assert _watch(["terraphim_rlm"]) == {"seen": [], "failed": {}}


def test_importing_any_module_succeeds_and_has_no_side_effect() -> None:
    assert _watch(_modules()) == {"seen": [], "failed": {}}


def test_the_watch_sees_a_module_that_opens_a_file_a_socket_and_a_process(tmp_path: Path) -> None:
    (tmp_path / "acts.py").write_text(
        "import socket, subprocess\n"
        "open('/etc/passwd').close()\n"
        "socket.socket().close()\n"
        "subprocess.run(['/bin/true'], check=True)\n"
    )
    report = _watch(["acts"], PYTHONPATH=str(tmp_path))
    assert [event for _, event, *_ in report["seen"]][:2] == ["open", "socket.__new__"]
    assert "subprocess.Popen" in {event for _, event, *_ in report["seen"]}


STARTERS = {
    "subprocess": {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"},
    "os": {"fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp"},
    "posix": {"fork", "system", "posix_spawn", "execv", "execve"},
    "pty": {"fork", "spawn"},
    "asyncio": {"create_subprocess_exec", "create_subprocess_shell"},
    "anyio": {"run_process", "open_process", "to_process"},
    "multiprocessing": {"Process", "Pool"},
    "concurrent.futures": {"ProcessPoolExecutor"},
}
MAY_START = (
    "core/process.py",
    "sandbox/keeper/",
    "supervision/guardian.py",  # started by core/process; holds the one process that it was started for
    "guest/",
    "sandbox/backends/bubblewrap/trip.py",  # runs inside a sandbox, in place of the guest
)


def starts(source: str) -> list[str]:
    """The names in `source` that start a process, however they were imported; types of parameters aside."""
    tree = ast.parse(source)
    types = [getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns")]
    only_named = {inner for each in types if each is not None for inner in ast.walk(each)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in STARTERS:
            found += [
                f"{node.module}.{each.name}" for each in node.names if each.name in STARTERS[node.module]
            ]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node not in only_named:
            module, name = node.value.id, node.attr
            spawns = module in ("os", "posix") and name.startswith(("exec", "spawn"))
            if spawns or name in STARTERS.get(module, ()):
                found.append(f"{module}.{name}")
    return found


def test_processes_start_only_in_the_starter_the_keeper_and_the_guest() -> None:
    elsewhere = {
        str(path.relative_to(PACKAGE)): found
        for path in sorted(PACKAGE.rglob("*.py"))
        if not str(path.relative_to(PACKAGE)).startswith(MAY_START)
        and (found := starts(path.read_text(encoding="utf-8")))
    }
    assert elsewhere == {}


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['x'])",
        "from subprocess import Popen",
        "import os\nos.execve('/x', [], {})",
        "import asyncio\nasyncio.create_subprocess_exec('x')",
    ],
)
def test_a_process_started_elsewhere_would_be_found(source: str) -> None:
    assert starts(source)
