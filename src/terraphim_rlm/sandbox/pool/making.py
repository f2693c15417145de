"""Making a sandbox that can be used at once, and asking one whether it still can."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from terraphim_rlm.core.errors import NotSupported, SandboxLost, SandboxStartFailed
from terraphim_rlm.sandbox.sandbox import Sandbox

_WARM_SECONDS = 10.0
Make = Callable[[], Awaitable[Sandbox]]


async def warmed(make: Make, hurry: Callable[[], bool]) -> Sandbox:
    """A new sandbox with its Python interpreter started. Cancelled, it leaves nothing.

    Args:
        hurry: whether somebody waits for it; else it also loads what its first cell needs.

    Raises:
        SandboxStartFailed: its interpreter did not come up.
        Exception: what `make` raised.
    """
    box = await make()
    try:
        await box.python.start()
        if not hurry():
            async with asyncio.timeout(_WARM_SECONDS):
                await box.python.warm.wait()
    except NotSupported:  # a backend whose interpreter starts with its first cell
        pass
    except TimeoutError:
        await box.close()
        raise SandboxStartFailed(
            f"The sandbox's interpreter did not come up in {_WARM_SECONDS:.0f} seconds."
        ) from None
    except BaseException:
        await box.close()
        raise
    return box


async def answers(box: Sandbox, seconds: float) -> bool:
    """Whether it lives and says something within that time. It changes nothing in it."""
    if not box.is_open:
        return False
    try:
        await box.python.ping(seconds)
    except SandboxLost:
        return False
    except NotSupported:  # what the machine says of itself has to do
        pass
    return box.is_open
