"""States as layers of an overlay file system: 2 to 5 ms each, whatever the number and size of the files (kernel 6.18).

A layer that has been frozen stays read-only: whoever still has a folder of it open cannot write there later. Needs
user extended attributes on tmpfs (Linux 6.6), with which overlays mark folders that hide what lies below them,
and an overlay that counts who writes by a mapping alone (Linux 6.7).
"""

from __future__ import annotations

import os

from . import copies, mounts
from .views import FLAGS, OpenFolder, View, Views

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

_MOST_LAYERS = 24
"""Above it a view is copied into one layer: each layer costs every look-up of a name, and the kernel's limit is near."""
Stack = tuple[tuple[str, ...], ...]
"""Per root the layers, top first."""


class LayeredView(View):
    """A view on top of frozen layers. What it wrote to root N lies in `own/N/up`."""

    def __init__(self, lowers: Stack, own: str) -> None:
        super().__init__(own)
        self.lowers = lowers


class Layers(Views):
    """See `views.Views`."""

    views: dict[int, LayeredView]  # type: ignore[assignment]

    def first(self) -> LayeredView:
        self._states: dict[int, Stack] = {}
        self._letting_go = mounts.LetGo(())
        """Of the mounts of the view that was frozen last."""
        return LayeredView(tuple((f"base{number}",) for number in range(len(self.roots))), "")

    def freeze(self, view: int) -> int:
        self.shown(view)
        current = self.views[view]
        self.set_read_only(current)
        try:
            lowers = self._sealed(current)
            unchanged = lowers == current.lowers and current.own
            after = current if unchanged else self._new_view(lowers)
        except BaseException:
            self.set_writable(current)
            raise
        if after is current:
            self.set_writable(current)
        else:
            self.put(after)  # when that fails, nothing that is kept has become writable
            self.views[view] = after
            self._leave(current)
        number = self.number()
        self._states[number] = lowers
        return number

    def branch(self, view: int, state: int) -> None:
        self.views[view] = self._new_view(self._states[state])

    def _leave(self, view: LayeredView) -> None:
        """Unmounts what has become a layer. A caller need not wait until the kernel has dropped its names."""
        self._letting_go.wait()
        places = [view.place(number) for number in range(len(self.roots))] if view.own else []
        self._letting_go = mounts.LetGo(places)
        if places:
            with self._letting_go:
                self.unmount(view)

    def drop(self, state: int) -> None:
        del self._states[state]
        self._letting_go.wait()  # else its room would come free only some time after this
        self.tidy()

    def opened(self, state: int, number: int) -> AbstractContextManager[int]:
        lowers = self._states[state][number]
        top, *below = lowers
        return _Merged(lowers) if below else OpenFolder(top)

    def needed(self) -> Iterable[str]:
        stacks = [view.lowers for view in self.views.values()] + list(self._states.values())
        return {layer.partition("/")[0] for stack in stacks for lowers in stack for layer in lowers}

    def _sealed(self, view: LayeredView) -> Stack:
        """The layers of a state that is `view` as it is now."""
        if not view.own:
            return view.lowers
        lowers: list[tuple[str, ...]] = []
        for number, below in enumerate(view.lowers):
            upper = f"{view.own}/{number}/up"
            if not _has_entries(upper):
                lowers.append(below)
            elif len(below) < _MOST_LAYERS:
                lowers.append((upper, *below))
            else:
                lowers.append((self._flat(view, number),))
        return tuple(lowers)

    def _flat(self, view: View, number: int) -> str:
        """A view's files copied into a layer of their own."""
        target = self.fresh("flat")
        os.mkdir(target)
        os.chmod(target, os.stat(view.place(number)).st_mode & 0o7777)
        try:
            with OpenFolder(view.place(number)) as old, OpenFolder(target) as new:
                copies.copy_tree(old, new)
        except BaseException:
            copies.clear(self.home, target)
            raise
        return target

    def _new_view(self, lowers: Sequence[tuple[str, ...]]) -> LayeredView:
        """A view on top of `lowers`, mounted in our own namespace."""
        view = LayeredView(tuple(lowers), self.fresh("view"))
        os.mkdir(view.own)
        try:
            for number, below in enumerate(view.lowers):
                here = f"{view.own}/{number}"
                for part in ("", "/up", "/work", "/at"):
                    os.mkdir(here + part)
                os.chmod(f"{here}/up", os.stat(below[0]).st_mode & 0o7777)
                options = f"lowerdir={':'.join(below)},upperdir={here}/up,workdir={here}/work,userxattr"
                mounts.mount("overlay", view.place(number), "overlay", FLAGS, options)
        except BaseException:
            self.unmount(view)
            self.tidy()
            raise
        return view


class _Merged:
    """Several layers read as one, for the length of a block."""

    def __init__(self, lowers: tuple[str, ...]) -> None:
        self._lowers = lowers
        self._place = f"merged{os.urandom(4).hex()}"

    def __enter__(self) -> int:
        os.mkdir(self._place)
        options = f"lowerdir={':'.join(self._lowers)},userxattr"
        mounts.mount("overlay", self._place, "overlay", FLAGS | mounts.MS_RDONLY, options)
        self._fd = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)
        mounts.unmount(self._place)
        os.rmdir(self._place)


def _has_entries(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(iter(entries), None) is not None
