"""What a sandbox's processes see at its roots, switched while the sandbox runs.

A *view* is a line of work: what is seen while it is shown. A *state* is what a view was when it was frozen; it never
changes again. Both lie in file systems that are mounted in our own copy of the sandbox's mount namespace and nowhere
in the sandbox's, so that nobody in there can reach what is not shown.

Freezing makes the view read-only first. The kernel refuses that while anybody has a file in it open for writing, so a
state is never half of a write. The kernel counts writers by mount. A view that has been shown only once has one mount in
the sandbox, and making that one read-only is enough; else it is done to the file system, for which the kernel looks at
all mounts there ever were, and drops all names that it had cached: 3 ms for each 1,000 files.
"""

from __future__ import annotations

import errno
import os

from . import copies, inodes, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager

FLAGS = mounts.MS_NOSUID | mounts.MS_NODEV
_OWN_FOLDERS = 64
"""Inodes for what is no file of the sandbox's: thirteen folders a view."""


class View:
    """One line of work. `own` is the folder that holds what it needs; empty: it is the sandbox's first files."""

    def __init__(self, own: str) -> None:
        self.own = own
        self.shown_again = False
        """Who used it when it was first shown may still write through the mount of then."""
        self._shown_before = False

    def show(self) -> None:
        """Notes that it gets a mount in the sandbox; the first files have the one that they began with."""
        self.shown_again = self._shown_before and bool(self.own)
        self._shown_before = True

    def place(self, number: int) -> str:
        """Where what it shows at root `number` is mounted."""
        return f"{self.own}/{number}/at" if self.own else f"base{number}"


class OpenFolder:
    """A folder's descriptor, for the length of a block."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def bounds(size: int, names_a_page: int = 1) -> str:
    """The options of a tmpfs for `size` bytes: so many names for each page of it, and our own folders."""
    return f"size={size},nr_inodes={size // inodes.PAGE * names_a_page + _OWN_FOLDERS}"


class Views:
    """The views of one sandbox. Paths are relative to the tmpfs that holds them. Subclasses say how states are kept.

    Args:
        space: descriptor of the sandbox's mount namespace, which we are in.
        roots: folders of the sandbox whose files belong to a state.
        size: bytes that may be kept besides the sandbox's first files.
        processes: descriptor of a `/proc` in which we are.
    """

    names_a_page = 1

    def __init__(self, space: int, roots: Sequence[str], size: int, processes: int) -> None:
        self.roots = tuple(roots)
        self.size = size
        self._space = space
        mounts.own_mounts()
        self._own_space = os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=processes)
        mounts.mount("layers", "/proc", "tmpfs", FLAGS, f"{bounds(size, self.names_a_page)},mode=0700")
        self.home = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(self.home)
        for number, root in enumerate(self.roots):
            os.mkdir(f"base{number}")
            mounts.mount(root, f"base{number}", None, mounts.MS_BIND)
        self.views: dict[int, View] = {0: self.first()}
        self._shown = 0
        self._last = 0

    # How states are kept.

    def first(self) -> View:
        """The view of the sandbox's first files."""
        raise NotImplementedError

    def freeze(self, view: int) -> int:
        """The number of a new state that holds what `view`, which is shown, is now.

        Raises:
            OSError: EBUSY while a file of it is open for writing; ENOSPC when there is no room. Nothing has changed.
        """
        raise NotImplementedError

    def branch(self, view: int, state: int) -> None:
        """A new view, not shown, that begins as `state`. Raises as `freeze`."""
        raise NotImplementedError

    def drop(self, state: int) -> None:
        """Forgets a state, and frees what nothing else needs."""
        raise NotImplementedError

    def opened(self, state: int, number: int) -> AbstractContextManager[int]:
        """A descriptor of a state's files of one root."""
        raise NotImplementedError

    def needed(self) -> Iterable[str]:
        """Folders that hold states."""
        raise NotImplementedError

    # The rest is the same however they are kept.

    def show(self, view: int) -> None:
        """Puts `view` where the sandbox's processes see it, in place of the one shown before."""
        if view != self._shown:
            self.put(self.views[view])
            self._shown = view

    def drop_view(self, view: int) -> None:
        """Forgets a view that is not shown."""
        self.unmount(self.views.pop(view))
        self.tidy()

    def empty(self, folder: str) -> None:
        """Removes all in a folder that belongs to no state. Nobody runs in the sandbox who could put something there."""
        with OpenFolder(folder) as inside:
            for name in os.listdir(inside):
                copies.clear(inside, name)

    def diff(self, before: int, after: int, view: int) -> tuple[list[str], list[str], list[str], bool]:
        """Paths added, changed and removed from a state to another, and whether there are more than are named.

        `after` 0 means `view` as it is.
        """
        found: tuple[list[str], list[str], list[str]] = ([], [], [])
        more = False
        most = 8 * self.size  # of one root; more than twice is no content but holes, or links to the same
        for number, root in enumerate(self.roots):
            later = self.opened(after, number) if after else OpenFolder(self.views[view].place(number))
            with self.opened(before, number) as old, later as new:
                *kinds, cut = copies.difference(old, new, most)
                more = more or cut
                for kind, paths in zip(found, kinds, strict=True):
                    kind += [f"{root}/{path}" for path in paths]
        return (*found, more)

    def copy(self, state: int, view: int, paths: Sequence[str]) -> list[str]:
        """Puts single paths of a state into a view; those that are in neither. A path absent in the state is removed."""
        missing = []
        for path in paths:
            number = next((n for n, root in enumerate(self.roots) if path.startswith(root + "/")), None)
            if number is None:
                missing.append(path)
                continue
            inner = path[len(self.roots[number]) + 1 :]
            with self.opened(state, number) as old, OpenFolder(self.views[view].place(number)) as new:
                if not copies.put(old, new, inner):
                    missing.append(path)
        return missing

    def fresh(self, word: str) -> str:
        """A name that nothing has had yet."""
        return f"{word}{self.number()}"

    def number(self) -> int:
        """One that nothing has had yet, for something whose folders there is room for.

        The sandbox's files may have taken every inode that there was.
        """
        found = os.statvfs(self.home)
        if found.f_ffree < _OWN_FOLDERS:
            mounts.bound(".", found.f_files - found.f_ffree + 2 * _OWN_FOLDERS)
        self._last += 1
        return self._last

    def shown(self, view: int) -> View:
        """The view, which must be the one that is shown: what is not has nobody who could be writing it."""
        if view != self._shown:
            raise OSError(errno.EINVAL, "this view is not shown")
        return self.views[view]

    def set_read_only(self, view: View) -> None:
        """Of the view that is shown. Raises OSError, EBUSY, while somebody writes there; then nothing has changed."""
        done: list[int] = []
        try:
            for number in range(len(self.roots)):
                self._remount(view, number, mounts.MS_RDONLY)
                done.append(number)
        except OSError:
            self.set_writable(view, done)
            raise

    def set_writable(self, view: View, numbers: Iterable[int] | None = None) -> None:
        for number in range(len(self.roots)) if numbers is None else numbers:
            self._remount(view, number, 0)

    def _remount(self, view: View, number: int, flags: int) -> None:
        if view.shown_again:
            mounts.mount("none", view.place(number), None, mounts.MS_REMOUNT | FLAGS | flags)
            return
        self._go_inside()
        try:
            mounts.mount("none", self.roots[number], None, mounts.MS_REMOUNT | mounts.MS_BIND | FLAGS | flags)
        finally:
            self._come_back()

    def _go_inside(self) -> None:
        mounts.join(self._space, mounts.CLONE_NEWNS)

    def _come_back(self) -> None:
        mounts.join(self._own_space, mounts.CLONE_NEWNS)
        os.fchdir(self.home)

    def put(self, view: View) -> None:
        """Shows a view in the sandbox. For a moment its processes see the first files instead."""
        trees = [mounts.cloned(view.place(number)) for number in range(len(self.roots))]
        covered = bool(self.views[self._shown].own) if self._shown in self.views else True
        view.show()
        self._go_inside()
        try:
            for tree, root in zip(trees, self.roots, strict=True):
                if covered:
                    mounts.unmount(root)
                if view.own:
                    mounts.attach(tree, root)
        finally:
            self._come_back()
            for tree in trees:
                os.close(tree)

    def unmount(self, view: View) -> None:
        """Here only: who still uses it in the sandbox keeps it until then."""
        for number in range(len(self.roots)) if view.own else ():
            try:
                mounts.unmount(view.place(number))
            except OSError:
                continue  # it was never mounted

    def tidy(self) -> None:
        """Removes the folders that nothing needs any more."""
        needed = {view.own for view in self.views.values()} | set(self.needed())
        for name in os.listdir("."):
            if name not in needed and not name.startswith("base"):
                copies.clear(self.home, name)
