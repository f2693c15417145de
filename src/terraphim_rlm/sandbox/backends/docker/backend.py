"""Makes sandboxes as containers of a Docker engine: the guest speaks over a container's attached streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Literal, Self

from terraphim_rlm.core.errors import BackendUnavailable, InvalidArgument, NotSupported, SandboxStartFailed
from terraphim_rlm.core.values import ExecutorCapabilities
from terraphim_rlm.sandbox.backends.bubblewrap import seccomp
from terraphim_rlm.sandbox.backends.docker import boot, images, limits, owners, plan
from terraphim_rlm.sandbox.backends.docker.engine import Engine, EngineGone, Refused
from terraphim_rlm.sandbox.backends.docker.link import Link
from terraphim_rlm.sandbox.backends.docker.watch import Watch
from terraphim_rlm.sandbox.backends.docker.wire import Wire
from terraphim_rlm.sandbox.contract import SandboxSpec, Toolchain
from terraphim_rlm.sandbox.link.room import is_full, no_room
from terraphim_rlm.sandbox.link.tunnel import Tunnel
from terraphim_rlm.sandbox.machine import GuestMachine

RUNTIMES: Mapping[str, Literal["container", "user_space_kernel"]] = {
    "runc": "container",
    "runsc": "user_space_kernel",
}
_START_SECONDS = 60.0
_BUILD = "trlm image build"


class Docker:
    """An async context manager; leaving it ends every sandbox it made. One event loop."""

    def __init__(self, engine: Engine, runtime: str) -> None:
        self.name = f"docker+{runtime}"
        self.runtime = runtime
        self.engine = engine
        self.image = images.image_name()
        self.owner, self._labels = owners.labels()
        self._watch = Watch(engine, self.owner)
        self._facts: images.Facts | None = None
        self._beginning, self._probing = asyncio.Lock(), asyncio.Lock()
        self._measured: ExecutorCapabilities | None = None
        self._kernel = "unknown"
        """What the last sandbox found as its kernel."""

    async def create(self, spec: SandboxSpec) -> GuestMachine:
        """See `contract.Backend.create`."""
        return await GuestMachine.started(await self.boot(spec), spec, self.toolchain)

    def toolchain(self, language: str) -> Toolchain:
        """See `contract.Backend.toolchain`; known once a sandbox was made."""
        if self._facts is None:
            raise BackendUnavailable("What the image has is known once a sandbox was made from it.")
        return self._facts.toolchain(language, self.image)

    async def boot(self, spec: SandboxSpec) -> Link:
        """A sandbox whose guest has greeted; the greeting is in its socket. Raises as `create`."""
        _check(spec)
        began = time.monotonic()
        try:
            facts = await self._ready()
            wanted = self._plan(facts.id, boot.COMMAND, spec)
            async with AsyncExitStack() as stack:
                container, wire = await self._started(wanted, stack)
                tunnel = await self._greeted(container, wire, spec)
                stack.callback(tunnel.guest_end.close)
                stack.callback(tunnel.close)
                link = Link(self.engine, container, self._watch, tunnel, self._capabilities(facts, began))
                await link.know()
                stack.pop_all()
        except EngineGone as error:
            raise _gone(error) from error
        except OSError as error:
            if is_full(error):
                raise no_room(error, SandboxStartFailed) from error
            raise
        return link

    async def _ready(self) -> images.Facts:
        """Once: what owners that died left is removed, events are listened to, the image is known."""
        async with self._beginning:
            await self._watch.begin()
            if self._facts is None:
                await owners.reclaim(self.engine)
                self._facts = await self._asked()
        return self._facts

    async def _asked(self) -> images.Facts:
        image = await _image_of(self.engine, self.image)
        facts = images.known(image)
        if facts is None:
            async with AsyncExitStack() as stack:
                _, wire = await self._started(self._plan(image, images.COMMAND, SandboxSpec()), stack)
                async with asyncio.timeout(_START_SECONDS):
                    said = await wire.rest()
            facts = images.parsed(image, said)
            if facts is None or facts.python < images.OLDEST_PYTHON or "bash" not in facts.programs:
                raise BackendUnavailable(
                    f"The image {self.image} cannot be a sandbox: it needs Python 3.9 or newer as python3, and bash.",
                    fix=f"Make one: {_BUILD}, or name another by TRLM_IMAGE.",
                )
            images.keep(facts)
        return facts

    def _plan(self, image: str, command: tuple[str, ...], spec: SandboxSpec) -> plan.Plan:
        return plan.Plan(image, self.runtime, command, spec.resources, self._labels, spec.binds)

    async def _started(self, wanted: plan.Plan, stack: AsyncExitStack) -> tuple[str, Wire]:
        """A container that runs, with its streams. What undoes it is in `stack`.

        Raises:
            BackendUnavailable: the engine refuses what every sandbox needs.
            EngineGone: it does not answer.
        """
        try:
            made = await self.engine.call("POST", "/containers/create", body=plan.container(wanted))
            container: str = made["Id"]
            self._watch.expect(container)
            stack.push_async_callback(self._undo, container)
            sock, early = await self.engine.attach(container)
            wire = await Wire.over(sock, early)
            stack.callback(wire.close)
            await self.engine.call("POST", f"/containers/{container}/start")
        except Refused as error:
            raise self._refused(error) from error
        return container, wire

    async def _undo(self, container: str) -> None:
        with suppress(EngineGone):
            await owners.remove(self.engine, container)
            await self._watch.gone(container)

    async def _greeted(self, container: str, wire: Wire, spec: SandboxSpec) -> Tunnel:
        try:
            async with asyncio.timeout(_START_SECONDS):
                greeting = await wire.first(boot.GREETING_BYTES)
                banner = (await wire.first(greeting[-1])).decode("utf-8", "replace") if greeting else ""
        except TimeoutError:
            raise SandboxStartFailed(f"The sandbox said nothing for {_START_SECONDS:.0f} seconds.") from None
        if len(greeting) < boot.GREETING_BYTES:
            raise await self._fell(container, wire, spec)
        self._believe(banner)
        magic = greeting[: boot.MAGIC_BYTES]
        held = limits.bounds(spec.resources, self.runtime)
        wire.write(boot.parcel(magic, held.watched, spec.guest))
        tunnel = Tunnel(wire)
        wire.begin(tunnel.hear, tunnel.lost, tunnel.pump)
        return tunnel

    def _believe(self, banner: str) -> None:
        """Compares the kernel that a sandbox found with what was asked for: no fallback to the host's goes unseen.

        Raises:
            BackendUnavailable: it is not what this runtime has.
        """
        self._kernel = banner
        hosts = str(self.engine.version.get("KernelVersion", ""))
        if self.runtime == "runsc" and (not hosts or banner.split(" ", 1)[0] == hosts):
            raise BackendUnavailable(
                f"The engine was asked for gVisor, and in the sandbox the host's kernel answers ({banner[:80]}).",
                fix="See what program the engine has registered as runsc (docker info, docs/docker.md).",
            )

    async def _fell(self, container: str, wire: Wire, spec: SandboxSpec) -> SandboxStartFailed:
        """Why a container ended while it started."""
        said = wire.said.decode("utf-8", "replace").strip()
        end = await self._watch.gone(container)
        if end.oom or "MemoryError" in said or "Resource temporarily unavailable" in said:
            return SandboxStartFailed(
                f"The sandbox did not fit into {spec.resources.memory_mb} MB of memory and "
                f"{spec.resources.pids} processes.",
                fix="Give it more with Resources(memory_mb=.., pids=..).",
            )
        return SandboxStartFailed(
            f"The sandbox ended while it started (exit code {end.exit_code}, signal {end.signal}): {said[-600:]}"
        )

    def _refused(self, error: Refused) -> BackendUnavailable | SandboxStartFailed:
        text = error.message
        if "runtime" in text and self.runtime in text:
            return not_registered(self.runtime, text)
        if error.status == 404 and "image" in text.lower():
            self._facts = None  # whoever makes it again makes one with another id
            return no_image(self.image, error)
        if "no space left" in text:
            return SandboxStartFailed(
                f"The engine has no disk space left: {text[:300]}",
                fix="Free space where the engine keeps its data (docker system df, docker system prune).",
            )
        return SandboxStartFailed(f"The engine could not start the sandbox: {text[:500]}")

    def _capabilities(self, facts: images.Facts, began: float) -> ExecutorCapabilities:
        if self._measured is not None:
            return self._measured
        version = self.engine.version
        held = limits.expected(self.runtime)
        return ExecutorCapabilities(
            backend=self.name,
            isolation_level=RUNTIMES[self.runtime],
            supports_snapshots=dict.fromkeys(facts.languages, "none"),
            supports_network=False,
            languages=facts.languages,
            limits=held,
            not_enforced=limits.not_enforced(held),
            max_session_duration=None,
            cold_start_estimate=time.monotonic() - began,
            versions={
                "engine": str(version.get("Version", "unknown")),
                "image": facts.id,
                "python": ".".join(map(str, facts.python)),
                "kernel": self._kernel,
            },
        )

    async def probe(self) -> ExecutorCapabilities:
        """See `contract.Backend.probe`."""
        from terraphim_rlm.sandbox.backends.docker import probe

        async with self._probing:
            if self._measured is None:
                self._measured = await probe.measure(self)
        return self._measured

    async def close(self) -> None:
        try:
            with suppress(EngineGone):
                for each in await owners.those_of(self.engine, self.owner):
                    await owners.remove(self.engine, each["Id"])
        finally:
            await self._watch.close()
            await self.engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _check(spec: SandboxSpec) -> None:
    if spec.resources.network:
        raise NotSupported(
            "Sandboxes in containers have no network yet.", fix="Leave out the network, or use bubblewrap."
        )
    if spec.packages:
        raise NotSupported(
            "Packages come with the image of a container.",
            fix=f"Build one that has them ({_BUILD} --package NAME), or use bubblewrap.",
        )
    for inside in spec.binds.values():
        if not inside.startswith("/") or ":" in inside:
            raise InvalidArgument(f"{inside} is not a place in a sandbox.", path=inside)


def no_image(image: str, error: Refused) -> BackendUnavailable:
    return BackendUnavailable(
        f"The engine has no image {image} for sandboxes: {error.message[:200]}.",
        fix=f"Make it: {_BUILD}. Or name another with TRLM_IMAGE.",
    )


def not_registered(runtime: str, said: Sequence[str] | str) -> BackendUnavailable:
    known = said if isinstance(said, str) else f"it has {', '.join(said)}"
    return BackendUnavailable(
        f"The engine has no runtime {runtime}: {known}.",
        fix="Register gVisor's runsc with the engine (docs/docker.md), or name docker+runc for code that you trust.",
    )


def _gone(error: EngineGone) -> BackendUnavailable:
    return BackendUnavailable(
        f"The Docker engine stopped answering: {error}.",
        fix="See that it runs (docker info), then try again.",
    )


async def _image_of(engine: Engine, name: str) -> str:
    """Its id. Raises BackendUnavailable: there is none; EngineGone."""
    try:
        found: dict[str, Any] = await engine.call("GET", f"/images/{name}/json")
    except Refused as error:
        raise no_image(name, error) from error
    return str(found["Id"])


async def open_backend(runtime: str) -> Docker:
    """The backend, once an engine has answered that it has this runtime.

    Raises:
        BackendUnavailable: there is none; the fix is named.
    """
    seccomp.program()
    engine = await Engine.found()
    try:
        info = await engine.call("GET", "/info")
        runtimes = sorted(info.get("Runtimes") or {})
        if runtime not in runtimes:
            raise not_registered(runtime, runtimes)
        await _image_of(engine, images.image_name())
    except (EngineGone, Refused) as error:
        await engine.close()
        raise _gone(EngineGone(str(error))) from error
    except BaseException:
        await engine.close()
        raise
    return Docker(engine, runtime)
