"""From the source of a program to the program: compiled in a sandbox of its own, then kept by what it was made from.

Nothing that runs in a caller's sandbox comes near: each source is compiled in a fresh sandbox that ends with it, so
the worst that a source can do is to spoil its own entry.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256

from terraphim_rlm.core.cache import Cache
from terraphim_rlm.core.errors import SandboxLost, SandboxStartFailed
from terraphim_rlm.core.values import Resources
from terraphim_rlm.sandbox.contract import Backend, Machine, Request, SandboxSpec, Toolchain
from terraphim_rlm.sandbox.link.execution import CellEnd
from terraphim_rlm.sandbox.link.guest import Exit
from terraphim_rlm.sandbox.link.streams import text

_MOST_PROGRAM = 64 << 20
_MOST_KEPT = 512 << 20
"""Bytes of all compiled programs together."""
_MOST_STOCK = 512 << 20
_LEAST_DISK = 256
"""Megabytes that compilers need for what they put aside."""
_ELF = b"\x7fELF"
_SIGKILL = 9
_ABORTED = (134, 139)
_OUT_OF_MEMORY = (b"out of memory", b"memory allocation of")
"""What compilers say when it is not the kernel that stops them."""
_STOCK_SECONDS = 300.0
_LEAST_SECONDS = 0.001
"""Of a program whose compiler used up the time."""
_STOCK = Resources(memory_mb=4096, cpus=os.cpu_count() or 1, disk_mb=1024, output_bytes=256 << 20)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one language is compiled, as shell scripts in `/work` of a fresh sandbox; `$TOOL` is the compiler."""

    expects: str
    """What an execution has to be."""
    compile: str
    """Reads the source and leaves the program as `main`; diagnostics go to standard error."""
    stock: str = ""
    """Makes what every compilation needs, once for each toolchain, and writes it out."""
    lay_out: str = ""
    """Reads that."""


_GO = (
    "export GOCACHE=/tmp/go/cache GOPATH=/tmp/go/path GOENV=off GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod "
    "CGO_ENABLED=0 GOTELEMETRY=off; "
)
_GO_PACKAGES = (
    "bufio bytes cmp container/heap container/list context crypto/md5 crypto/rand crypto/sha1 crypto/sha256 "
    "crypto/sha512 embed encoding/base64 encoding/binary encoding/csv encoding/hex encoding/json errors flag fmt "
    "hash/crc32 hash/fnv io iter log maps math math/big math/bits math/cmplx math/rand math/rand/v2 os os/exec "
    "os/signal path path/filepath reflect regexp runtime runtime/debug slices sort strconv strings sync sync/atomic "
    "text/tabwriter text/template time unicode unicode/utf16 unicode/utf8 unsafe"
)
"""Those of the standard library that Go, which comes without any of it compiled, compiles ahead: most programs need no
other. All of them would take three times as long and as much room."""
RECIPES = {
    "rust": Recipe(
        expects="A Rust execution is one whole program: `fn main`, and of libraries only the standard one.",
        compile='cat >main.rs && exec "$TOOL" --edition=2021 -C opt-level=2 -C strip=symbols -o main main.rs 1>&2',
    ),
    "go": Recipe(
        expects="A Go execution is one whole program: `package main` with `func main`, and of packages only the "
        "standard ones.",
        compile=f"{_GO}cat >main.go && exec \"$TOOL\" build -gcflags=all=-dwarf=false -ldflags='-s -w' -o main main.go 1>&2",
        stock=(
            f'{_GO}"$TOOL" list -e -f "{{{{if not .Error}}}}{{{{.ImportPath}}}}{{{{end}}}}" {_GO_PACKAGES} >known && '
            '"$TOOL" build -gcflags=all=-dwarf=false $(cat known) 1>&2 && exec tar -C /tmp/go/cache -cf - .'
        ),
        lay_out="mkdir -p /tmp/go/cache && exec tar -C /tmp/go/cache -xf -",
    ),
}


@dataclass(frozen=True, slots=True)
class Built:
    """A program, or how its compiler ended instead."""

    program: bytes | None
    end: CellEnd
    seconds: float
    """0 when it lay there already."""
    notes: tuple[str, ...] = ()


class Compiler:
    """Compiles for one backend. Any number of them may work at once; one source is compiled once."""

    def __init__(self, backend: Backend, resources: Resources) -> None:
        self._backend = backend
        self._resources = replace(
            resources,
            network=(),
            disk_mb=max(resources.disk_mb, _LEAST_DISK),
            output_bytes=max(resources.output_bytes, _MOST_PROGRAM),
        )
        self._programs = Cache.of_user("compiled", _MOST_KEPT)
        self._stocks = Cache.of_user("toolchains", _MOST_STOCK)

    async def run(self, request: Request, machine: Machine) -> CellEnd:
        """Runs what `request.code` compiles to in `machine`, both within its time-out; or how its compiler ended.

        Raises:
            ToolchainMissing: there is no compiler for it; what to install is named.
            BackendUnavailable, SandboxStartFailed: there was no sandbox to compile in.
            SandboxLost: as `Machine.execute`.
        """
        built = await self._built(request)
        if built.program is None:
            end = built.end
            end.seconds, end.ran = 0.0, False
            if request.on_output is not None and end.stderr:
                request.on_output("stderr", text(end.stderr))
        else:
            spent = built.seconds
            left = None if request.timeout is None else max(request.timeout - spent, _LEAST_SECONDS)
            end = await machine.execute(replace(request, program=built.program, timeout=left))
        end.compiling, end.notes = built.seconds, (*built.notes, *end.notes)
        return end

    async def _built(self, request: Request) -> Built:
        """The program, from where it is kept or compiled now."""
        toolchain = self._backend.toolchain(request.language)
        recipe = RECIPES[request.language]
        key = self._key(request.language, toolchain, recipe.compile, request.code)
        found = self._programs.get(key)
        if found is not None:
            return Built(found, CellEnd(), 0.0)
        async with self._programs.alone(key):
            found = await asyncio.to_thread(self._programs.get, key)
            if found is not None:
                return Built(found, CellEnd(), 0.0)
            built = await self._compiled(request, toolchain, recipe)
            if built.program is not None:
                await asyncio.to_thread(self._programs.put, key, built.program)
            return built

    async def _compiled(self, request: Request, toolchain: Toolchain, recipe: Recipe) -> Built:
        stock, prepared = await self._stock(request.language, toolchain, recipe)
        notes = (
            ()
            if prepared is None
            else (f"Go's standard library was compiled first, once: {prepared:.0f} s.",)
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        source = request.code.encode("utf-8", "surrogatepass")
        async with self._machine(self._resources, toolchain) as machine:
            if stock is not None:
                await machine.execute(_step(toolchain, recipe.lay_out, request.timeout, stock))
            end = await machine.execute(_step(toolchain, recipe.compile, request.timeout, source))
            if end.exit == Exit(0, None):
                end = await machine.execute(_step(toolchain, "exec cat main", request.timeout))
        return _built(end, loop.time() - began, recipe, notes)

    async def _stock(
        self, language: str, toolchain: Toolchain, recipe: Recipe
    ) -> tuple[bytes | None, float | None]:
        """What every compilation needs, and how many seconds it took to make it; None when it lay there already."""
        if not recipe.stock:
            return None, None
        key = self._key(language, toolchain, recipe.stock)
        async with self._stocks.alone(key):
            found = await asyncio.to_thread(self._stocks.get, key)
            if found is not None:
                return found, None
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with self._machine(_STOCK, toolchain) as machine:
                end = await machine.execute(_step(toolchain, recipe.stock, _STOCK_SECONDS))
            if end.exit is None or end.exit.code != 0 or end.truncated:
                return None, None  # the compilation makes what it needs by itself, and says what is wrong
            await asyncio.to_thread(self._stocks.put, key, end.stdout)
            return end.stdout, loop.time() - began

    @asynccontextmanager
    async def _machine(self, resources: Resources, toolchain: Toolchain) -> AsyncIterator[Machine]:
        """A sandbox with nothing of the caller's in it but his limits."""
        machine = await self._backend.create(SandboxSpec(resources, binds=toolchain.binds))
        try:
            yield machine
        except SandboxLost as error:
            raise SandboxStartFailed(f"The sandbox to compile in: {error.message}") from error
        finally:
            await machine.destroy()

    def _key(self, language: str, toolchain: Toolchain, *parts: str) -> str:
        made_from = [
            language,
            self._backend.name,
            toolchain.identity,
            toolchain.program,
            platform.machine(),
            *parts,
        ]
        digest = sha256()
        for part in made_from:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return f"{language}-{digest.hexdigest()}"


def _built(end: CellEnd, seconds: float, recipe: Recipe, notes: tuple[str, ...]) -> Built:
    program, end.stdout = end.stdout, b""
    code = None if end.exit is None else end.exit.code
    if code == 0 and not end.truncated and program.startswith(_ELF):
        return Built(program, end, seconds, notes)
    if code == 0:
        what = f"a program of more than {_MOST_PROGRAM:,} bytes" if end.truncated else "no program"
        end.stderr += f"What it compiled to is {what}.\n".encode()
        end.exit, end.truncated = Exit(1, None), False
    if end.cause == "timeout_killed":
        why = "It was still being compiled."
    elif end.oom or (code in _ABORTED and any(word in end.stderr for word in _OUT_OF_MEMORY)):
        end.oom, end.exit = True, Exit(None, _SIGKILL)
        why = "The memory did not suffice to compile it."
    else:
        why = f"It did not compile. {recipe.expects}"
    if end.exit == Exit(None, None):  # the sandbox that compiles, not the caller's
        end.exit = Exit(None, _SIGKILL)
    return Built(None, end, seconds, (*notes, why))


def _step(toolchain: Toolchain, script: str, timeout: float | None, stdin: bytes | None = None) -> Request:
    return Request(f"TOOL={shlex.quote(toolchain.program)}; {script}", "sh", timeout, stdin)
