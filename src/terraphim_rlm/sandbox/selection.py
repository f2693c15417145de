"""Which backend makes a caller's sandboxes. Fails closed: never a weaker class than what was asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from terraphim_rlm.core.errors import BackendUnavailable, InvalidArgument
from terraphim_rlm.sandbox.contract import Backend


async def _bubblewrap() -> Backend:
    from terraphim_rlm.sandbox.backends.bubblewrap.backend import open_backend

    return await open_backend()


async def _runc() -> Backend:
    from terraphim_rlm.sandbox.backends.docker.backend import open_backend

    return await open_backend("runc")


async def _runsc() -> Backend:
    from terraphim_rlm.sandbox.backends.docker.backend import open_backend

    return await open_backend("runsc")


BACKENDS: Mapping[str, Callable[[], Awaitable[Backend]]] = {
    "bubblewrap": _bubblewrap,
    "docker+runsc": _runsc,
    "docker+runc": _runc,
}
"""Name -> how to get it."""
AUTO = ("bubblewrap",)
"""What `auto` tries, in this order. `docker+runc` is for trusted code, and only by name. `docker+runsc` is stronger than
bubblewrap, and has no snapshots, packages and network yet; whoever needs none of these prefers it by name."""


async def choose(name: str = "auto", prefer: Sequence[str] = ()) -> Backend:
    """The backend called `name`; for `auto` the first that works here, those of `prefer` before the others.

    The caller closes it (it is an async context manager).

    Raises:
        InvalidArgument: no backend has this name; the names are listed.
        BackendUnavailable: it does not work here, or none does; what was tried is listed with its fix.
    """
    for asked in (name, *prefer):
        if asked not in BACKENDS and asked != "auto":
            raise InvalidArgument(
                f"There is no sandbox backend {asked!r}.",
                fix=f"Use one of: auto, {', '.join(BACKENDS)}.",
                name=asked,
            )
    if name != "auto":
        return await BACKENDS[name]()
    failures: list[BackendUnavailable] = []
    for each in dict.fromkeys([*(p for p in prefer if p != "auto"), *AUTO]):
        try:
            return await BACKENDS[each]()
        except BackendUnavailable as failure:
            failures.append(failure)
    if len(failures) == 1:
        raise failures[0]
    raise BackendUnavailable(
        "No sandbox backend works here: " + " ".join(failure.message for failure in failures),
        fix="  or  ".join(failure.fix for failure in failures),
    )
