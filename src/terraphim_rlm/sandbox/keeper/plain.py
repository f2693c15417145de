"""States as copies, where the kernel cannot layer: a tmpfs a view, and a folder of copied files a state.

A file that has not changed since its view was last the same as a state is linked from there, not copied again: states
never change, so they may share files. What costs is the walk over all names, and the content of what changed.
"""

from __future__ import annotations

import os
import stat
import time

from . import copies, mounts
from .views import FLAGS, OpenFolder, View, Views, bounds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

_UNSURE_NS = 50_000_000
"""A change within this time of the one before may carry its time: the kernel's file clock ticks every 1 to 10 ms."""
Seen = tuple[int, int, int, int]
"""Of a file: inode, size, times of change. Code in a sandbox cannot set the last one."""


class PlainView(View):
    """A view with files of its own. `same` tells which of them are still what a state holds: (root, path) -> seen."""

    def __init__(self, own: str) -> None:
        super().__init__(own)
        self.state = 0
        self.same: dict[tuple[int, str], Seen] = {}


class Copies(Views):
    """See `views.Views`."""

    names_a_page = 16
    """A file that did not change has a name in each state, and the kernel counts names."""
    views: dict[int, PlainView]  # type: ignore[assignment]

    def first(self) -> PlainView:
        self._states: set[int] = set()
        return PlainView("")

    def freeze(self, view: int) -> int:
        self.shown(view)
        current = self.views[view]
        self.set_read_only(current)
        try:
            state = self.number()
            os.mkdir(_folder(state))
            try:
                current.same = self._copied(current, state)
            except BaseException:
                copies.clear(self.home, _folder(state))
                raise
        finally:
            self.set_writable(current)
        current.state = state
        self._states.add(state)
        return state

    def branch(self, view: int, state: int) -> None:
        made = PlainView(self.fresh("view"))
        os.mkdir(made.own)
        try:
            for number in range(len(self.roots)):
                os.mkdir(f"{made.own}/{number}")
                os.mkdir(made.place(number))
                source = f"{_folder(state)}/{number}"
                mode = stat.S_IMODE(os.stat(source).st_mode)
                mounts.mount(
                    "layers", made.place(number), "tmpfs", FLAGS, f"{bounds(self.size)},mode={mode:o}"
                )
                with OpenFolder(source) as old, OpenFolder(made.place(number)) as new:
                    copies.copy_tree(old, new)
        except BaseException:
            self.unmount(made)
            self.tidy()
            raise
        made.state = state
        made.same = self._seen_now(made)
        self.views[view] = made

    def drop(self, state: int) -> None:
        self._states.remove(state)
        self.tidy()

    def opened(self, state: int, number: int) -> AbstractContextManager[int]:
        return OpenFolder(f"{_folder(state)}/{number}")

    def needed(self) -> Iterable[str]:
        return {_folder(state) for state in self._states}

    def _copied(self, view: PlainView, state: int) -> dict[tuple[int, str], Seen]:
        """Copies a view into the folder of a new state; what is now the same in both."""
        source = view.state if view.state in self._states else 0
        for number in range(len(self.roots)):
            target = f"{_folder(state)}/{number}"
            os.mkdir(target)
            os.chmod(target, os.stat(view.place(number)).st_mode & 0o7777)
            self._copy_folder(view, (number, ""), target, f"{_folder(source)}/{number}" if source else "")
        return self._seen_now(view)

    def _copy_folder(self, view: PlainView, at: tuple[int, str], target: str, before: str) -> None:
        number, path = at
        copies.check_depth(path.count("/"))
        here = os.path.join(view.place(number), path)
        with OpenFolder(here) as old, OpenFolder(os.path.join(target, path)) as new:
            for entry in os.scandir(old):
                inner = os.path.join(path, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(entry.name, 0o700, dir_fd=new)
                    self._copy_folder(view, (number, inner), target, before)
                    seen = entry.stat(follow_symlinks=False)
                    os.chmod(entry.name, stat.S_IMODE(seen.st_mode), dir_fd=new)
                    os.utime(entry.name, ns=(seen.st_atime_ns, seen.st_mtime_ns), dir_fd=new)
                elif before and view.same.get((number, inner)) == _seen(entry.stat(follow_symlinks=False)):
                    os.link(os.path.join(before, inner), entry.name, dst_dir_fd=new, follow_symlinks=False)
                else:
                    copies.copy_entry(old, new, entry.name)

    def _seen_now(self, view: PlainView) -> dict[tuple[int, str], Seen]:
        """All files of a view that cannot change any more without its showing."""
        sure = time.time_ns() - _UNSURE_NS
        found: dict[tuple[int, str], Seen] = {}
        for number in range(len(self.roots)):
            top = view.place(number)
            for folder, _names, files in os.walk(top):
                for name in files:
                    seen = os.stat(f"{folder}/{name}", follow_symlinks=False)
                    if stat.S_ISREG(seen.st_mode) and seen.st_ctime_ns < sure:
                        found[number, os.path.relpath(f"{folder}/{name}", top)] = _seen(seen)
        return found


def _folder(state: int) -> str:
    return f"state{state}"


def _seen(of: os.stat_result) -> Seen:
    return of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns
