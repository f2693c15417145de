"""Sandboxes without an event loop, from one thread and from many."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from terraphim_rlm import ExecutionResult, Output, Sandbox, SandboxSync, open_sandbox_sync
from terraphim_rlm.core.errors import DiskFull, InvalidArgument, PathDenied, PathNotFound, SandboxLost
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.checks import request
from terraphim_rlm.sandbox.files import Files
from terraphim_rlm.sandbox.sync import FilesSync

pytestmark = pytest.mark.sandbox


@pytest.fixture
def plain() -> Iterator[SandboxSync]:
    with open_sandbox_sync("bubblewrap") as box:
        yield box


LOOP_ONLY = {"start", "machine", "python", "new_interpreter", "result", "refused"}
"""What only code of the event loop can use: interpreters with their sub-calls."""


@pytest.mark.parametrize(("twin", "of"), [(SandboxSync, Sandbox), (FilesSync, Files)])
def test_a_twin_has_every_public_method_with_its_parameters(twin: Any, of: Any) -> None:
    names = {name for name in vars(of) if not name.startswith("_")} - LOOP_ONLY
    assert names <= set(dir(twin))
    for name in names:
        method = getattr(of, name)
        if callable(method):
            assert list(inspect.signature(getattr(twin, name)).parameters) == list(
                inspect.signature(method).parameters
            ), name
            assert getattr(twin, name).__doc__, name


def test_all_of_a_sandbox_works_without_an_event_loop(plain: SandboxSync) -> None:
    assert plain.run("x = 6 * 7\nx").stdout == "42\n"
    assert plain.sh("exit 3").exit_code == 3
    plain.files.write("a/b", "one")
    assert (plain.files.read("a/b"), plain.files.read_text("a/b")) == (b"one", "one")
    assert [info.path for info in plain.files.list(deep=True)] == ["a", "a/b"]
    first = plain.snapshot("first")
    plain.run("x = 1")
    plain.files.remove("a")
    assert plain.diff("first").removed == ("/work/a", "/work/a/b")
    assert plain.restore_files(first, ["a"]) == []
    (twin,) = plain.branch(1, first)
    with twin:
        assert twin.run("x").stdout == "42\n"
        assert twin.is_open
    assert not twin.is_open
    plain.rollback("first")
    assert plain.run("x").stdout == "42\n"
    assert plain.snapshots() == (first,)
    plain.forget(first)
    assert plain.snapshots() == ()
    assert plain.statistics().by_language == {"python": 3, "sh": 1}
    assert plain.capabilities.backend == "bubblewrap"
    assert plain.resources == Resources()


def test_a_stream_is_an_iterator_and_leaving_it_stops_the_code(plain: SandboxSync) -> None:
    said = list(plain.stream("print('one')"))
    assert isinstance(said[-1], ExecutionResult)
    assert said[:-1] == [Output("stdout", "one\n")]
    for piece in plain.stream("x = 1\nprint('in', flush=True)\nimport time; time.sleep(1000)"):
        assert piece == Output("stdout", "in\n")
        break
    assert plain.run("x", timeout=5).stdout == "1\n"
    assert plain.statistics().by_status == {"ok": 2, "cancelled": 1}
    with pytest.raises(InvalidArgument):
        next(iter(plain.stream("1", "cobol")))


def test_blocks_go_both_ways_and_a_source_runs_in_the_thread_of_its_caller(plain: SandboxSync) -> None:
    threads = set()

    def blocks() -> Iterator[bytes]:
        for number in range(100):
            threads.add(threading.get_ident())
            yield bytes([number]) * 50_000

    plain.files.write_blocks("big", blocks())
    assert threads == {threading.get_ident()}
    read = b"".join(plain.files.read_blocks("big", size=65_536))
    assert read == b"".join(blocks())
    for block in plain.files.read_blocks("big", size=1000):
        assert block == bytes(1000)
        break
    assert plain.statistics().queue.running == 0


def test_what_goes_wrong_with_blocks_is_said_and_leaves_the_old_file(plain: SandboxSync) -> None:
    plain.files.write("f", b"old")

    def failing() -> Iterator[bytes]:
        yield b"new"
        raise KeyError("source")

    with pytest.raises(KeyError):
        plain.files.write_blocks("f", failing())
    with pytest.raises(PathDenied):
        plain.files.write_blocks("/etc/f", (b"x" * 100_000 for _ in range(100)))
    with pytest.raises(InvalidArgument, match="bytes, not int"):
        plain.files.write_blocks("f", [1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(PathNotFound):
        list(plain.files.read_blocks("none"))
    assert plain.files.read("f") == b"old"
    assert [info.path for info in plain.files.list()] == ["f"]


def test_a_full_disk_stops_an_endless_source() -> None:
    with open_sandbox_sync("bubblewrap", resources=Resources(disk_mb=8)) as box, pytest.raises(DiskFull):
        box.files.write_blocks("f", iter(lambda: b"x" * 100_000, b""))


def test_ctrl_c_stops_the_code_that_is_waited_for(plain: SandboxSync) -> None:
    def press(stream: str, text: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        plain.run("y = 2\nprint('on', flush=True)\nimport time; time.sleep(1000)", on_output=press)
    assert plain.run("y", timeout=5).stdout == "2\n"


def test_a_closed_sandbox_and_a_callback_are_told_that_they_cannot_use_it(plain: SandboxSync) -> None:
    plain.run("print(1)", on_output=lambda *_: None)
    with pytest.raises(SandboxLost, match="event loop thread"):
        plain.run("print(1)", on_output=lambda *_: plain.sh("true") and None)
    with open_sandbox_sync("bubblewrap") as other:
        kept = other
        other.close()
        with pytest.raises(SandboxLost, match="not open"):
            other.run("1")
    with pytest.raises(SandboxLost, match="not running"):
        kept.run("1")
    with pytest.raises(SandboxLost):
        next(kept.files.read_blocks("x"))


def _in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_sixteen_threads_share_one_interpreter_in_the_order_of_their_calls(
    plain: SandboxSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What arrives is noted in the event loop's thread, in the moment in which it takes its place in the queue."""
    arrived: list[str] = []

    def noted(code: str, *others: Any) -> Any:
        arrived.append(code)
        return request(code, *others)

    plain.run("seen = []")
    monkeypatch.setattr("terraphim_rlm.sandbox.sandbox.request", noted)

    def fifty(thread: int) -> list[str]:
        return [plain.run(f"seen.append(({thread}, {n}))\n{thread * 1000 + n}").stdout for n in range(50)]

    outputs = _in_threads(16, fifty)
    assert outputs == [[f"{thread * 1000 + n}\n" for n in range(50)] for thread in range(16)]
    ran = eval(plain.run("seen").stdout)  # a list of pairs of numbers, by code of ours
    assert len(ran) == 800
    assert [f"seen.append({pair})" for pair in ran] == [code.partition("\n")[0] for code in arrived[:-1]]
    assert plain.statistics().queue.turns == 802


def test_threads_open_run_and_close_sandboxes_of_their_own_at_once() -> None:
    def whole(number: int) -> str:
        with open_sandbox_sync("bubblewrap") as box:
            box.files.write("n", str(number))
            return box.run("open('n').read()").stdout

    assert _in_threads(6, whole) == [f"'{number}'\n" for number in range(6)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("anyio")]
