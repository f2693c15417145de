"""The layers of packages that one backend's sandboxes use: where they lie, and who holds them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from terraphim_rlm.core.errors import PackagesUnavailable
from terraphim_rlm.core.paths import data_dir
from terraphim_rlm.sandbox.backends.bubblewrap import host
from terraphim_rlm.sandbox.packages.build import Python
from terraphim_rlm.sandbox.packages.layers import Layer, Wish, obtain
from terraphim_rlm.sandbox.packages.requirements import normalised

OnStep = Callable[[str], None]


def home(uid: int | None) -> Path:
    """The folder of layers that the sandboxes' uid can read: in the data folder, else one that only root can change.

    Raises:
        PackagesUnavailable: this user has no folder for data.
        BackendUnavailable: root's folder is not root's alone.
    """
    try:
        own = data_dir() / "cache" / "packages"
    except RuntimeError:
        raise PackagesUnavailable(
            "This user has no folder to keep packages in.", fix="Set TRLM_DATA to one."
        ) from None
    if uid is None:
        return own
    with suppress(OSError):
        own.mkdir(parents=True, exist_ok=True)
        for folder in (own.parent, own):
            folder.chmod(0o755)
        if host.readable_by(str(own), uid):
            return own
    return host.shared_cache() / "packages"


class Layers:
    """Obtains layers, and holds each until `close`: sandboxes may run on it that long."""

    def __init__(self) -> None:
        self._held: dict[Wish, Layer] = {}

    async def path(
        self, packages: tuple[str, ...], python: host.GuestPython, uid: int | None, on_step: OnStep | None
    ) -> str:
        """The folder with `packages`. Raises as `layers.obtain`; cancelling it ends the work first."""
        wish = Wish(normalised(packages), Python(python.path, python.version, python.tag))
        if wish not in self._held:
            layer = await self._obtained(wish, uid, on_step)
            if wish in self._held:  # another task was first
                layer.close()
            else:
                self._held[wish] = layer
        return self._held[wish].path

    async def _obtained(self, wish: Wish, uid: int | None, on_step: OnStep | None) -> Layer:
        loop, stop = asyncio.get_running_loop(), threading.Event()

        def told(step: str) -> None:
            if on_step is not None:
                loop.call_soon_threadsafe(on_step, step)

        work = asyncio.ensure_future(asyncio.to_thread(lambda: obtain(wish, home(uid), told, stop)))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({work})
            if work.exception() is None:
                work.result().close()
            raise

    def close(self) -> None:
        """Idempotent."""
        held, self._held = self._held, {}
        for layer in held.values():
            layer.close()
