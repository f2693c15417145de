"""The OpenMP runtime that llama.cpp's library asks for, on systems that lack it.

The library is linked to `libgomp.so.1`, which a minimal Debian does not have and an ordinary user cannot
install. We run llama.cpp on one thread, and for one thread the ten functions that it uses are a few machine
instructions each. So where the real one is missing, a shared object of that name is put together here, in
memory, and loaded before the library.

Rejected: a compiled file in the package (nobody could read it), a compiler (not there either), and taking the
real one out of some large wheel (renamed there, so that nothing finds it).
"""

from __future__ import annotations

import os
import platform
import struct
from typing import NamedTuple

from terraphim_rlm.core.errors import ModelNotInstalled

SONAME = "libgomp.so.1"
_PAGE = 0x1000
_READ_EXECUTE, _READ_WRITE = 5, 6
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_GLOBAL_FUNCTION = 0x12


class Function(NamedTuple):
    """One exported function: its symbol's version and its x86-64 code (System V calling convention)."""

    version: str
    code: bytes


_RETURN = bytes.fromhex("c3")  # ret
_ZERO = bytes.fromhex("31c0 c3")  # xor eax, eax; ret
_ONE = bytes.fromhex("b801000000 c3")  # mov eax, 1; ret

FUNCTIONS: dict[str, Function] = {
    "omp_get_num_threads": Function("OMP_1.0", _ONE),
    "omp_get_thread_num": Function("OMP_1.0", _ZERO),
    "GOMP_atomic_start": Function("GOMP_1.0", _RETURN),
    "GOMP_atomic_end": Function("GOMP_1.0", _RETURN),
    "GOMP_barrier": Function("GOMP_1.0", _RETURN),
    "GOMP_single_start": Function("GOMP_1.0", _ONE),
    "GOMP_loop_end": Function("GOMP_1.0", _RETURN),
    # (body, data, threads, flags): mov rax, rdi; mov rdi, rsi; jmp rax
    "GOMP_parallel": Function("GOMP_4.0", bytes.fromhex("4889f8 4889f7 ffe0")),
    # (start, end, step, chunk, *from, *to): the whole range at once; step is positive
    # mov [r8], rdi; mov [r9], rsi; xor eax, eax; cmp rdi, rsi; setl al; ret
    "GOMP_loop_nonmonotonic_dynamic_start": Function("GOMP_4.5", bytes.fromhex("498938 498931 31c0 4839f7 0f9cc0 c3")),
    "GOMP_loop_nonmonotonic_dynamic_next": Function("GOMP_4.5", _ZERO),
}  # fmt: skip


def ensure_openmp() -> bool:
    """Loads the system's runtime, or ours for one thread. True when it is the system's.

    Raises:
        ModelNotInstalled: there is none, and ours is not for this machine (only x86-64 is), or the kernel lets
            nobody run code from memory (`vm.memfd_noexec`).
    """
    import ctypes

    try:
        ctypes.CDLL(SONAME, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if platform.machine() != "x86_64":
            raise _lacking("") from error
        try:
            load(shared_object())
        except OSError as refused:
            raise _lacking(f" The one in this package could not be loaded: {refused}.") from error
        return False
    return True


def _lacking(more: str) -> ModelNotInstalled:
    return ModelNotInstalled(
        f"The local model needs {SONAME}, which this system lacks.{more}",
        fix="On Debian: apt install libgomp1",
    )


def load(image: bytes) -> None:
    """Loads a shared object from memory; it stays for the life of the process."""
    import ctypes

    descriptor = os.memfd_create(SONAME)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(image)
        ctypes.CDLL(f"/proc/self/fd/{descriptor}", mode=ctypes.RTLD_GLOBAL)
    finally:
        os.close(descriptor)


def shared_object() -> bytes:
    """An ELF file with `FUNCTIONS`: headers, symbols, versions and code in one segment, dynamic table in another."""
    versions = sorted({function.version for function in FUNCTIONS.values()})
    strings = _Strings([SONAME, *versions, *FUNCTIONS])
    code, offsets = b"", []
    for function in FUNCTIONS.values():
        offsets.append(len(code))
        code += function.code.ljust(-(-len(function.code) // 16) * 16, b"\x90")
    count = len(FUNCTIONS) + 1
    sizes = {
        "hash": 4 * (2 + 1 + count),
        "symbols": 24 * count,
        "versym": 2 * count,
        "verdef": 28 * (len(versions) + 1),
    }
    places, at = {}, 64 + 4 * 56
    for name, size in {**sizes, "strings": len(strings.data), "code": len(code)}.items():
        at = places[name] = -(-at // 16) * 16
        at += size
    tables = {
        "hash": struct.pack(f"<{3 + count}I", 1, count, 1, 0, *range(2, count), 0),
        "symbols": _symbols(strings, [places["code"] + offset for offset in offsets]),
        "versym": struct.pack(
            f"<{count}H", 0, *(2 + versions.index(each.version) for each in FUNCTIONS.values())
        ),
        "verdef": _definitions(strings, [SONAME, *versions]),
        "strings": strings.data,
        "code": code,
    }
    dynamic = _dynamic(places, strings, len(versions) + 1)
    image = bytearray(-(-at // _PAGE) * _PAGE)
    for name, table in tables.items():
        image[places[name] : places[name] + len(table)] = table
    headers = _headers(at, len(image), len(dynamic))
    image[: len(headers)] = headers
    return bytes(image) + dynamic


class _Strings:
    """A string table; `at[text]` is where a string begins."""

    def __init__(self, texts: list[str]) -> None:
        self.data, self.at = b"\0", dict[str, int]()
        for text in texts:
            self.at[text] = len(self.data)
            self.data += text.encode() + b"\0"


def _symbols(strings: _Strings, addresses: list[int]) -> bytes:
    rows = [struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)]
    for (name, function), address in zip(FUNCTIONS.items(), addresses, strict=True):
        rows.append(
            struct.pack("<IBBHQQ", strings.at[name], _GLOBAL_FUNCTION, 0, 1, address, len(function.code))
        )
    return b"".join(rows)


def _definitions(strings: _Strings, names: list[str]) -> bytes:
    """Version definitions, the file's own name first, as the base."""
    rows = b""
    for index, name in enumerate(names, 1):
        following = 28 if index < len(names) else 0
        rows += struct.pack("<HHHHIII", 1, int(index == 1), index, 1, _elf_hash(name), 20, following)
        rows += struct.pack("<II", strings.at[name], 0)
    return rows


def _elf_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value


def _dynamic(places: dict[str, int], strings: _Strings, definitions: int) -> bytes:
    entries = [
        (14, strings.at[SONAME]), (4, places["hash"]), (5, places["strings"]), (6, places["symbols"]),
        (10, len(strings.data)), (11, 24), (0x6FFFFFF0, places["versym"]), (0x6FFFFFFC, places["verdef"]),
        (0x6FFFFFFD, definitions), (0, 0),
    ]  # fmt: skip
    return b"".join(struct.pack("<QQ", tag, value) for tag, value in entries)


def _headers(text: int, dynamic_at: int, dynamic: int) -> bytes:
    """File header and program headers. Without the last one the loader would want an executable stack."""
    file = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0
    )
    segments = [
        (_LOAD, _READ_EXECUTE, 0, text, _PAGE),
        (_LOAD, _READ_WRITE, dynamic_at, dynamic, _PAGE),
        (_DYNAMIC, _READ_WRITE, dynamic_at, dynamic, 8),
        (_STACK, _READ_WRITE, 0, 0, 16),
    ]
    return file + b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, align)
        for kind, flags, at, size, align in segments
    )
