"""One transfer of files, in a process of its own: a fork of the supervisor, so nobody inside can look into it.

Its descriptor 0 is a pipe to or from the host, and its exit code says how it went: 0, the number of the system's
error, or one of those below. Paths are absolute. Imports only builtin modules.
"""

import errno
import posix
from _stat import S_IMODE, S_ISDIR, S_ISLNK, S_ISREG

NO_FILE, TOO_LARGE, TOO_MANY, ABANDONED, CRASHED = 240, 241, 242, 243, 244
MOST_ENTRIES = 100_000
MOST_LISTED = 32 << 20
"""Bytes of a listing."""
_PIPE = 0
_BLOCK = 1 << 18
_MOST_LINKS = 40  # as Linux itself
_SIGN_OF_LIFE = 1000
"""Files removed from one byte to the host to the next."""
_FOLDER = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC


class Refused(Exception):
    """Ends the transfer with an exit code that is no number of a system's error."""


def main(op, arguments):
    """Carries out one request; the exit code."""
    try:
        _OPS[op](*arguments)
    except Refused as refused:
        return refused.args[0]
    except OSError as error:
        return error.errno if error.errno and error.errno < NO_FILE else CRASHED
    except BaseException:
        return CRASHED
    return 0


def read(path, limit):
    """A file's bytes to the host; none when it has more than `limit` (-1: no limit) at the start."""
    # Not blocking: a FIFO, or a lease that somebody holds, would make `open` wait.
    fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC)
    info = posix.fstat(fd)
    _check_file(info.st_mode)
    if 0 <= limit < info.st_size:
        raise Refused(TOO_LARGE)
    try:
        while posix.sendfile(_PIPE, fd, None, _BLOCK):
            pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise  # else the kernel has no short way from such a file into a pipe
    while True:
        data = posix.read(fd, _BLOCK)
        if not data:
            return
        _put(_PIPE, data)


def write(path, draft):
    """Bytes from the host into a draft beside `path`, which then takes its place; or nothing at all has changed.

    They come in blocks: length (4 bytes, little-endian), content. A block of no length says that all is there;
    an end without it, that the host gave up.
    """
    path, mode = _target(path)
    draft = _beside(path, draft)
    made = []
    try:
        _make_folders(path, made)
        fd = posix.open(draft, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666)
        try:
            _receive(fd)
            if mode is not None:
                posix.fchmod(fd, mode)
            posix.rename(draft, path)
        except BaseException:
            posix.unlink(draft)
            raise
    except BaseException:
        for folder in reversed(made):
            _try(posix.rmdir, folder)
        raise


def sweep(path, draft):
    """Removes the draft of a `write` that was killed."""
    _try(posix.unlink, _beside(_target(path)[0], draft))


def _beside(path, name):
    return path.rpartition(b"/")[0] + b"/" + name


def _target(path):
    """The file that a path's last links lead to, and its permission bits; None when there is no such file yet.

    Whoever replaces a file's content does not grant its owner's rights anew: setuid and setgid bits are not among them.
    """
    for _ in range(_MOST_LINKS):
        try:
            mode = posix.lstat(path).st_mode
        except FileNotFoundError:
            return path, None
        if not S_ISLNK(mode):
            _check_file(mode)
            if not posix.access(path, posix.W_OK):
                raise PermissionError(errno.EACCES, "")
            return path, S_IMODE(mode) & 0o777
        link = posix.readlink(path)
        path = link if link.startswith(b"/") else _beside(path, link)
    raise OSError(errno.ELOOP, "")


def _check_file(mode):
    if S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "")
    if not S_ISREG(mode):
        raise Refused(NO_FILE)


def _make_folders(path, made):
    """Those above `path` that are not there yet; adds them to `made`, outermost first."""
    missing = []
    folder = path.rpartition(b"/")[0]
    while folder and not posix.access(folder, posix.F_OK):
        missing.append(folder)
        folder = folder.rpartition(b"/")[0]
    for each in reversed(missing):
        try:
            posix.mkdir(each)
        except FileExistsError:
            continue  # somebody else was faster, and may need it
        made.append(each)


def _receive(fd):
    while True:
        left = int.from_bytes(_get(4), "little")
        if not left:
            return
        while left:
            data = _get(min(left, _BLOCK), exactly=False)
            left -= len(data)
            _put(fd, data)


def _get(size, exactly=True):
    data = posix.read(_PIPE, size)
    while exactly and 0 < len(data) < size:
        more = posix.read(_PIPE, size - len(data))
        data = data + more if more else b""
    if not data:
        raise Refused(ABANDONED)
    return data


def _put(fd, data):
    view = memoryview(data)
    while view:
        view = view[posix.write(fd, view) :]


def _try(function, path):
    try:
        function(path)
    except OSError:
        pass


def entries(path, deep):
    """What is in a folder, each as `kind size mode modified path NUL`; links are not followed.

    Kind is one letter (f, d, l, o), mode and time (in nanoseconds) are decimal. A folder further down that may not
    be read is listed without what is in it.
    """
    out = bytearray()
    count = sent = 0
    stack = [(path, b"")]
    while stack:
        folder, prefix = stack.pop()
        try:
            scan = posix.scandir(folder)
        except OSError:
            if prefix:
                continue
            raise
        for entry in scan:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            name = prefix + entry.name
            out += _entry(info) + name + b"\0"
            count += 1
            if deep and S_ISDIR(info.st_mode):
                stack.append((entry.path, name + b"/"))
            if len(out) > _BLOCK:
                sent += len(out)
                _put(_PIPE, out)
                out = bytearray()
            if count > MOST_ENTRIES or sent > MOST_LISTED:
                raise Refused(TOO_MANY)
    _put(_PIPE, out)


def _entry(info):
    mode = info.st_mode
    kind = b"f" if S_ISREG(mode) else b"d" if S_ISDIR(mode) else b"l" if S_ISLNK(mode) else b"o"
    size = info.st_size if kind == b"f" else 0
    return b"%s %d %d %d " % (kind, size, S_IMODE(mode), info.st_mtime_ns)


def remove(path):
    """A file, or a folder with all in it. Follows no link, and leaves what other file systems are mounted on."""
    info = posix.lstat(path)
    if not S_ISDIR(info.st_mode):
        posix.unlink(path)
        return
    if info.st_dev != posix.stat(_beside(path, b".")).st_dev:
        raise OSError(errno.EBUSY, "")
    _clear(path)
    posix.rmdir(path)


def _clear(path):
    """Empties a folder however deep it is: by going into its folders, since a path has at most 4,096 bytes."""
    trail, names, life = [_enter(path)], [], [0]
    while True:
        name = _clear_files(life)
        if name is not None:
            trail.append(_enter(name))
            names.append(name)
            continue
        trail.pop()
        if not trail:
            return
        posix.chdir("..")
        if _identity(posix.stat(".")) != trail[-1]:
            raise OSError(errno.EAGAIN, "")  # somebody moved it: what is above is not what we came from
        posix.rmdir(names.pop())


def _enter(name):
    fd = posix.open(name, _FOLDER)
    try:
        posix.fchdir(fd)
        return _identity(posix.fstat(fd))
    finally:
        posix.close(fd)


def _identity(info):
    return info.st_dev, info.st_ino


def _clear_files(life):
    """Removes what is no folder here, until there is a folder, whose name it returns, or nothing (None)."""
    found = True
    while found:
        found = False
        with posix.scandir(b".") as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    return entry.name
                posix.unlink(entry.name)
                found = True
                life[0] += 1
                if life[0] % _SIGN_OF_LIFE == 0:
                    posix.write(_PIPE, b".")
    return None


_OPS = {"read": read, "write": write, "sweep": sweep, "entries": entries, "remove": remove}
