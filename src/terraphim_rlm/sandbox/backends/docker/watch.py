"""What became of an owner's containers, as the engine tells it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from terraphim_rlm.sandbox.backends.docker.engine import Engine, EngineGone
from terraphim_rlm.sandbox.backends.docker.owners import OWNER
from terraphim_rlm.sandbox.contract import GuestEnd

_READY_SECONDS = 10.0
_GONE_SECONDS = 30.0
_SIGNALS = 128
"""An exit code past it is the number of a signal."""
_MOST_SIGNAL = 64


@dataclass(slots=True)
class _Fate:
    gone: asyncio.Future[GuestEnd]
    end: GuestEnd = field(default_factory=lambda: GuestEnd(None, None))
    oom: bool = False


class Watch:
    """Listens to the engine's events of one owner's containers while the backend is open."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._owner = owner
        self._fates: dict[str, _Fate] = {}
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Returns once no event is missed.

        Raises:
            EngineGone: the engine tells none.
        """
        if self._task is not None and not self._task.done():
            return
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._listen(ready))
        waiting = asyncio.ensure_future(ready.wait())
        done, _ = await asyncio.wait(
            {waiting, self._task}, timeout=_READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        if waiting not in done:
            waiting.cancel()
            raise EngineGone("it tells no events")

    async def _listen(self, ready: asyncio.Event) -> None:
        filters = {
            "type": ["container"],
            "label": [f"{OWNER}={self._owner}"],
            "event": ["die", "oom", "destroy"],
        }
        try:
            async for event in self._engine.events(filters, ready):
                self._hear(event)
        except EngineGone:
            pass
        finally:
            for fate in self._fates.values():
                _settle(fate)  # of these nobody will hear any more

    def _hear(self, event: dict[str, object]) -> None:
        actor = event.get("Actor")
        if not isinstance(actor, dict):
            return
        fate = self._fates.get(str(actor.get("ID")))
        if fate is None:
            return
        what = event.get("Action")
        if what == "oom":
            fate.oom = True
        elif what == "die":
            code = str((actor.get("Attributes") or {}).get("exitCode", ""))
            number = int(code) if code.isdigit() else None
            signal = (
                number - _SIGNALS
                if number is not None and _SIGNALS < number <= _SIGNALS + _MOST_SIGNAL
                else None
            )
            fate.end = GuestEnd(None if signal else number, signal)
        elif what == "destroy":
            _settle(fate)

    def expect(self, container: str) -> None:
        """From now on this one's fate is noted."""
        self._fates[container] = _Fate(asyncio.get_running_loop().create_future())

    def oom(self, container: str) -> bool:
        """Whether the kernel has killed in it for memory."""
        fate = self._fates.get(container)
        return fate is not None and fate.oom

    async def ended(self, container: str) -> GuestEnd:
        """Waits until nothing of it is left, or the engine is gone."""
        return await asyncio.shield(self._fates[container].gone)

    async def gone(self, container: str) -> GuestEnd:
        """As `ended`, for one that is being removed: it takes half a minute at most.

        Raises:
            EngineGone: it took longer.
        """
        try:
            async with asyncio.timeout(_GONE_SECONDS):
                return await self.ended(container)
        except TimeoutError:
            raise EngineGone(f"it has not removed a container in {_GONE_SECONDS:.0f} seconds") from None

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _settle(fate: _Fate) -> None:
    if not fate.gone.done():
        fate.gone.set_result(GuestEnd(fate.end.exit_code, fate.end.signal, fate.oom))
