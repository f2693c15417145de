"""The one-thread OpenMP runtime: what llama.cpp's library asks of it, asked from C in a process of its own."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys

import pytest

from terraphim_rlm.llm import openmp

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is for x86-64")

PROGRAM = """
import ctypes
from terraphim_rlm.llm import openmp
openmp.load(openmp.shared_object())
gomp = ctypes.CDLL(openmp.SONAME)  # by name, as a library that needs it finds it
assert "memfd" in next(line for line in open("/proc/self/maps") if "gomp" in line)
"""


def _run(lines: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + lines], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_needs_the_runtime_by_name_finds_ours() -> None:
    _run("")


def test_a_parallel_part_runs_once_with_its_data_and_one_thread() -> None:
    _run(
        "seen = []\n"
        "body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda data: seen.append(data))\n"
        "gomp.GOMP_parallel(body, ctypes.c_void_p(4711), 8, 0)\n"
        "assert seen == [4711], seen\n"
        "assert (gomp.omp_get_num_threads(), gomp.omp_get_thread_num(), gomp.GOMP_single_start()) == (1, 0, 1)\n"
    )


@pytest.mark.parametrize(("start", "end", "some"), [(3, 900, 1), (5, 5, 0), (7, 2, 0), (-4, -1, 1)])
def test_a_loop_is_handed_out_whole_and_once(start: int, end: int, some: int) -> None:
    _run(
        "low, high = ctypes.c_long(), ctypes.c_long()\n"
        "ask = gomp.GOMP_loop_nonmonotonic_dynamic_start\n"
        "ask.restype = gomp.GOMP_loop_nonmonotonic_dynamic_next.restype = ctypes.c_bool\n"
        "longs = [ctypes.c_long(value) for value in (START, END, 1, 1)]\n"
        "some = ask(*longs, ctypes.byref(low), ctypes.byref(high))\n"
        "assert some == SOME and (not some or (low.value, high.value) == (START, END))\n"
        "assert not gomp.GOMP_loop_nonmonotonic_dynamic_next(ctypes.byref(low), ctypes.byref(high))\n"
        "gomp.GOMP_loop_end(); gomp.GOMP_barrier(); gomp.GOMP_atomic_start(); gomp.GOMP_atomic_end()\n".replace(
            "START", str(start)
        )
        .replace("END", str(end))
        .replace("SOME", str(bool(some)))
    )


def test_every_symbol_carries_the_version_that_the_library_was_linked_with() -> None:
    _run(
        "libc = ctypes.CDLL(None)\n"
        "libc.dlvsym.restype = ctypes.c_void_p\n"
        "handle = ctypes.c_void_p(gomp._handle)\n"
        "for name, each in openmp.FUNCTIONS.items():\n"
        "    assert libc.dlvsym(handle, name.encode(), each.version.encode()), name\n"
        "    assert not libc.dlvsym(handle, name.encode(), b'GOMP_9.9'), name\n"
    )


def test_a_machine_of_another_kind_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "SONAME", "libgomp-that-is-not-there.so.1")
    monkeypatch.setattr(openmp.platform, "machine", lambda: "riscv64")
    with pytest.raises(openmp.ModelNotInstalled, match="lacks") as caught:
        openmp.ensure_openmp()
    assert "libgomp1" in caught.value.fix


def test_a_kernel_that_runs_nothing_from_memory_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_image: bytes) -> None:
        raise PermissionError(13, "failed to map segment from shared object")

    monkeypatch.setattr(openmp, "SONAME", "libgomp-that-is-not-there.so.1")
    monkeypatch.setattr(openmp, "load", refuse)
    with pytest.raises(openmp.ModelNotInstalled, match="failed to map") as caught:
        openmp.ensure_openmp()
    assert "libgomp1" in caught.value.fix


def test_the_systems_own_runtime_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "SONAME", "libm.so.6")  # stands for a runtime that is there
    monkeypatch.setattr(openmp, "load", lambda _image: pytest.fail("ours was loaded"))
    assert openmp.ensure_openmp()


def test_no_memory_of_the_runtime_can_be_both_written_and_run() -> None:
    _run(
        "parts = [line.split()[1] for line in open('/proc/self/maps') if 'gomp' in line]\n"
        "assert 'r-xp' in parts and not [part for part in parts if 'w' in part and 'x' in part], parts\n"
    )


def test_the_installed_library_finds_all_that_it_asks_for() -> None:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    _run(
        "import xllamacpp\nassert sum('gomp' in line for line in open('/proc/self/maps') if 'memfd' in line)\n"
    )
