"""Trees of files, compared and copied by descriptors: no link that code in a sandbox planted is ever followed."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PATHS = 10_000
"""Of each kind in a difference; a sandbox decides how many files there are, and someone has to read the list."""
MOST_TEXT = 8 << 20
"""Characters of all paths in a difference: folders in folders make a path that is far longer than any call takes."""
MOST_DEPTH = 400
"""Folders in folders that are compared, copied or removed; a path that a call takes as a whole holds 2,047."""
_BLOCK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO may have come where a file was
_COPIED = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Pair:
    """What two trees have at one path: `name` in two open folders, None where there is no such folder."""

    def __init__(self, path: str, name: str, old: int | None, new: int | None) -> None:
        self.path = path
        self.name = name
        self.old = old
        self.new = new
        self.before = _stat(old, name)
        self.after = _stat(new, name)


def difference(old: int, new: int, most: int) -> tuple[list[str], list[str], list[str], bool]:
    """Paths that the folder `new` has and `old` lacks, that differ, that only `old` has; folders differ by mode only.

    The last is whether there are more than are named.

    Args:
        most: bytes to read of `old`. Holes and links make any number of large files that take no room.

    Raises:
        OSError: EFBIG, that would not suffice; or code changed a folder meanwhile.
    """
    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    text = 0
    for pair in _pairs(old, new, ""):
        found = None
        if pair.before is None:
            found = added
        elif pair.after is None:
            found = removed
        elif _differs(pair.before, pair.after):
            found = changed
        elif _may_differ(pair.before, pair.after):
            most -= pair.before.st_size
            if most < 0:
                raise OSError(errno.EFBIG, "they claim more content than there is room for")
            found = None if _equal(pair) else changed
        if found is None:
            continue
        if len(found) >= MOST_PATHS or text >= MOST_TEXT:
            return added, changed, removed, True
        found.append(pair.path)
        text += len(pair.path)
    return added, changed, removed, False


def _pairs(old: int | None, new: int | None, prefix: str) -> Iterator[_Pair]:
    """Every path below two open folders, sorted."""
    check_depth(prefix.count("/"))
    names = sorted({*_names(old), *_names(new)})
    for name in names:
        pair = _Pair(prefix + name, name, old, new)
        if pair.before is None and pair.after is None:
            continue
        yield pair
        deeper = [_open_folder(fd, name, seen) for fd, seen in ((old, pair.before), (new, pair.after))]
        try:
            if deeper != [None, None]:
                yield from _pairs(deeper[0], deeper[1], f"{prefix}{name}/")
        finally:
            for fd in deeper:
                if fd is not None:
                    os.close(fd)


def check_depth(depth: int) -> None:
    """Each folder on the way down is held open, and takes up the stack of whoever works through it."""
    if depth > MOST_DEPTH:
        raise OSError(errno.ELOOP, f"they hold folders in folders more than {MOST_DEPTH} deep")


def _names(fd: int | None) -> list[str]:
    return [] if fd is None else os.listdir(fd)


def _stat(fd: int | None, name: str) -> os.stat_result | None:
    if fd is None:
        return None
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _open_folder(fd: int | None, name: str, seen: os.stat_result | None) -> int | None:
    if fd is None or seen is None or not stat.S_ISDIR(seen.st_mode):
        return None
    return os.open(name, _FOLDER, dir_fd=fd)


def _differs(before: os.stat_result, after: os.stat_result) -> bool:
    if before.st_mode != after.st_mode:
        return True
    return not stat.S_ISDIR(before.st_mode) and before.st_size != after.st_size


def _may_differ(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether only their content can tell. A time of change alone proves nothing, since code can set it."""
    if stat.S_ISDIR(before.st_mode):
        return False
    return (before.st_mtime_ns, before.st_ino, before.st_dev, before.st_ctime_ns) != (
        after.st_mtime_ns,
        after.st_ino,
        after.st_dev,
        after.st_ctime_ns,
    )


def _equal(pair: _Pair) -> bool:
    """Whether two files, links or the like have the same content. The new one may be changing meanwhile."""
    assert pair.before is not None
    if stat.S_ISLNK(pair.before.st_mode):
        return os.readlink(pair.name, dir_fd=pair.old) == os.readlink(pair.name, dir_fd=pair.new)
    if not stat.S_ISREG(pair.before.st_mode):
        return True
    first = os.open(pair.name, _READ, dir_fd=pair.old)
    try:
        second = os.open(pair.name, _READ, dir_fd=pair.new)
        try:
            while block := os.read(first, _BLOCK):
                if block != os.read(second, len(block)):
                    return False
            return True
        finally:
            os.close(second)
    finally:
        os.close(first)


def copy_tree(source: int, target: int, depth: int = 0) -> None:
    """Copies all that is in one open folder into another, an empty one: modes, times, links; hard links become files.

    Raises:
        OSError: ELOOP, its folders lie more than `MOST_DEPTH` deep.
    """
    check_depth(depth)
    for name in os.listdir(source):
        copy_entry(source, target, name, depth=depth)


def copy_entry(source: int, target: int, name: str, under: str = "", depth: int = 0) -> None:
    """Copies one file, link or folder from an open folder to another, where there is none called `under or name`.

    Raises as `copy_tree`.
    """
    under = under or name
    seen = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), under, dir_fd=target)
    elif kind == stat.S_IFDIR:
        os.mkdir(under, 0o700, dir_fd=target)
        below, into = os.open(name, _FOLDER, dir_fd=source), os.open(under, _FOLDER, dir_fd=target)
        try:
            copy_tree(below, into, depth + 1)
            os.fchmod(into, stat.S_IMODE(seen.st_mode))
        finally:
            os.close(below)
            os.close(into)
    elif kind == stat.S_IFREG:
        _copy_file(os.open(name, _READ, dir_fd=source), target, under, stat.S_IMODE(seen.st_mode))
    else:
        if kind != stat.S_IFIFO:
            return  # a socket means nothing without the process that listens on it
        os.mkfifo(under, stat.S_IMODE(seen.st_mode), dir_fd=target)
    os.utime(under, ns=(seen.st_atime_ns, seen.st_mtime_ns), dir_fd=target, follow_symlinks=False)


def _copy_file(reader: int, target: int, name: str, mode: int) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            offset = 0
            while sent := os.sendfile(writer, reader, offset, _BLOCK << 6):
                offset += sent
            os.fchmod(writer, mode)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def remove(folder: int, name: str, depth: int = 0) -> None:
    """Removes a file, link or folder with all in it; what is not there is gone already. Raises as `copy_tree`."""
    check_depth(depth - 2)  # a copy that was refused on its way down can be removed again
    try:
        os.unlink(name, dir_fd=folder)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    below = os.open(name, _FOLDER, dir_fd=folder)
    try:
        for inner in os.listdir(below):
            remove(below, inner, depth + 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=folder)


def clear(folder: int, name: str) -> None:
    """As `remove`, as far as it goes: what cannot be removed stays, in `folder`, until its file system ends.

    Folders are brought up before they are emptied, so that none lies too deep. Nobody else may be using `folder`.
    Not `shutil`: loading that takes as long as all else that a first state needs.
    """
    waiting = [name]
    while waiting:
        name = waiting.pop()
        try:
            os.unlink(name, dir_fd=folder)
            continue
        except OSError:
            pass  # a folder
        try:
            below = os.open(name, _FOLDER, dir_fd=folder)
            try:
                waiting += _emptied(below, folder)
            finally:
                os.close(below)
            os.rmdir(name, dir_fd=folder)
        except OSError:
            continue


def _emptied(below: int, folder: int) -> list[str]:
    """Removes what is in a folder, and brings its folders up; what those are called there."""
    brought = []
    for inner in os.listdir(below):
        name = f"old-{os.urandom(8).hex()}"
        try:
            os.unlink(inner, dir_fd=below)
        except OSError:
            try:
                os.rename(inner, name, src_dir_fd=below, dst_dir_fd=folder)
            except OSError:
                continue
            brought.append(name)
    return brought


def put(source: int, target: int, path: str) -> bool:
    """Makes `path` in `target` what it is in `source`, parents included; False when it is in neither.

    Raises:
        OSError: a part of the path is a link, or a file where a folder has to be.
    """
    *parents, name = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in (*parents, name):
        raise OSError(errno.EINVAL, "a path may not go up")
    from_fd, into_fd = _descend(source, parents, None), None
    found = from_fd is not None and _stat(from_fd, name) is not None
    try:
        into_fd = _descend(target, parents, source if found else None)
        if into_fd is None or (not found and _stat(into_fd, name) is None):
            return False
        _replace(from_fd if found else None, into_fd, name)
        return True
    finally:
        for fd in (from_fd, into_fd):
            if fd is not None:
                os.close(fd)


def _replace(source: int | None, target: int, name: str) -> None:
    """Copied beside it first: when that fails, what was there is still there."""
    seen = _stat(source, name)
    if seen is not None and stat.S_IFMT(seen.st_mode) not in _COPIED:
        raise OSError(errno.EOPNOTSUPP, f"{name!r} was a socket, which means nothing without its process")
    draft = f".trlm-{os.urandom(8).hex()}"
    try:
        if source is not None:
            copy_entry(source, target, name, draft)
        remove(target, name)
        if source is not None:
            os.rename(draft, name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        remove(target, draft)
        raise


def _descend(top: int, parents: list[str], model: int | None) -> int | None:
    """The folder at the end of a path; made like those below `model` where it is missing, else None."""
    here = os.dup(top)
    for index, name in enumerate(parents):
        try:
            try:
                deeper = os.open(name, _FOLDER, dir_fd=here)
            except FileNotFoundError:
                if model is None:
                    return None
                mode = os.stat("/".join(parents[: index + 1]), dir_fd=model).st_mode
                os.mkdir(name, stat.S_IMODE(mode), dir_fd=here)
                deeper = os.open(name, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = deeper
    return here
