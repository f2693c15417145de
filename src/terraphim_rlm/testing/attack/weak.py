"""Sandboxes without one of their protections. For controls only.

Nothing in the product can be switched off: a control edits what the backend has made (its command line, its filter,
its guest's and its keeper's source) on the way to the keeper, or one name of the host's code for as long as it runs.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from terraphim_rlm import guest as guest_package
from terraphim_rlm.core.errors import InternalError
from terraphim_rlm.sandbox.backends.bubblewrap import backend, starting
from terraphim_rlm.sandbox.backends.bubblewrap.zygote import Zygote
from terraphim_rlm.sandbox.keeper import child
from terraphim_rlm.sandbox.keeper.client import Fork, Keeper, Kept, Launch


class Place(Protocol):
    """What a control may let a sandbox have of its host: a laboratory, or its folder alone."""

    @property
    def root(self) -> Path: ...

    @property
    def canary(self) -> Path: ...

    @property
    def shared(self) -> Path: ...


Edit = Callable[[Launch, Place], Launch]
Patch = Callable[[Place], AbstractContextManager[None]]
Source = tuple[str, str, str]
"""A file, a piece of its source that occurs once, and what stands there instead."""


@dataclass(frozen=True, slots=True)
class Protection:
    """One protection, and the ways to be without it, all of them taken."""

    what: str
    launch: Edit | None = None
    guest: Source | None = None
    """Of the guest's files."""
    keeper: Source | None = None
    """Of the keeper's files."""
    host: Patch | None = None
    hides: tuple[str, ...] = ()
    """Globs of what it keeps out of view. A host that has none of it has nothing to show a control."""
    lacking: Callable[[], str] = lambda: ""
    """Why it is none on this machine, for example because another one stands in its place."""

    def nothing_to_hide(self) -> str:
        """Why its control cannot be built on this host; empty when it can."""
        if self.hides and not any(glob.glob(pattern) for pattern in self.hides):
            return f"this host has nothing that is kept out by {self.what!r}: {', '.join(self.hides)}"
        return self.lacking()


@contextlib.contextmanager
def without(protections: Sequence[Protection], place: Place) -> Iterator[None]:
    """While it lasts, whatever makes a bubblewrap sandbox in this process makes one without these.

    Each is then made by bubblewrap, whose command line is what is edited. Where nothing is left out, nothing is changed.
    """
    if not protections:
        yield
        return
    edits = [each.launch for each in protections if each.launch]
    guest = [each.guest for each in protections if each.guest]
    keeper = [each.keeper for each in protections if each.keeper]
    with ExitStack() as stack:
        stack.enter_context(attribute(Zygote, "want", lambda *_given: None))
        for each in protections:
            if each.host is not None:
                stack.enter_context(each.host(place))
        if edits:
            stack.enter_context(attribute(backend, "Keeper", lambda: WeakKeeper(edits, place)))
        if guest:
            stack.enter_context(attribute(starting, "guest_files", lambda _python: _guest(guest)))
        if keeper:
            script = _keeper(keeper, place.root / "weak")
            stack.enter_context(attribute(child, "_SCRIPT", script))
        yield


class WeakKeeper(Keeper):
    """Starts sandboxes without the protections whose `edits` it applies."""

    def __init__(self, edits: Sequence[Edit], place: Place) -> None:
        super().__init__()
        self._edits = edits
        self._place = place

    async def launch(self, launch: Launch | Fork) -> Kept:
        assert isinstance(launch, Launch), "a control's sandboxes are each made by bubblewrap"
        given = set(launch.fds.values())
        for edit in self._edits:
            launch = edit(launch, self._place)
        try:
            return await super().launch(launch)
        finally:
            for added in set(launch.fds.values()) - given:
                os.close(added)


def _guest(changes: Sequence[Source]) -> Mapping[str, bytes]:
    folder = Path(guest_package.__path__[0])
    sources = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    return {name: text.encode() for name, text in _changed(sources, changes).items()}


def _keeper(changes: Sequence[Source], folder: Path) -> Path:
    """A copy of the keeper's sources with the changes; its start script."""
    target = folder / "keeper"
    shutil.copytree(Path(child.__file__).parent, target, dirs_exist_ok=True)
    sources = {path.name: path.read_text(encoding="utf-8") for path in target.glob("*.py")}
    for name, text in _changed(sources, changes).items():
        (target / name).write_text(text, encoding="utf-8")
    return target / "start.py"


def _changed(sources: dict[str, str], changes: Sequence[Source]) -> dict[str, str]:
    for file, old, new in changes:
        if sources[file].count(old) != 1:
            raise InternalError(f"{file} does not hold {old!r} once; the control needs a new hold.")
        sources[file] = sources[file].replace(old, new)
    return sources


@contextlib.contextmanager
def attribute(owner: Any, name: str, value: Any, *, builtin: bool = False) -> Iterator[None]:
    """One name of a module or class, for as long as this lasts.

    Args:
        builtin: it is one of Python's own, which the module does not define itself.
    """
    if (name in vars(owner)) == builtin:
        raise InternalError(f"{owner.__name__} has no {name!r} of its own; the control needs a new hold.")
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if builtin:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
