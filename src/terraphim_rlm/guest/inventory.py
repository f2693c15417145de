"""What an interpreter and its sandbox hold besides memory: files, sockets, threads, children, other processes."""

import os

_FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK
_CHANNEL = 3
_ELSEWHERE = ("/dev/", "/proc/", "/memfd:")  # what is no file that could be opened again by its path
_MOST = 50  # things that are named
_PATIENCE = 20  # milliseconds that an ended thread may still be listed


class File:
    """An open file of the sandbox, as it can be opened again."""

    def __init__(self, fd, path, flags, offset, inheritable):
        self.fd = fd
        self.path = path
        self.flags = flags
        self.offset = offset
        self.inheritable = inheritable

    def reopen(self):
        """Puts it back under its number; one that is gone stays a null device, so that its number is not taken."""
        try:
            fd = os.open(self.path, self.flags | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            return
        if self.offset is not None:
            os.lseek(fd, self.offset, os.SEEK_SET)
        if fd == self.fd:
            os.set_inheritable(fd, self.inheritable)
        else:
            os.dup2(fd, self.fd, inheritable=self.inheritable)
            os.close(fd)


def own_files(roots):
    """This process's open files and folders, and a phrase for each below `roots` that has no path any more."""
    files, stuck = [], []
    for fd, target in _descriptors("self"):
        if fd <= _CHANNEL or not target.startswith("/") or target.startswith(_ELSEWHERE):
            continue
        try:
            flags = _flags("self", fd)
            here, there = os.fstat(fd), os.stat(target)
        except OSError:
            here = there = None
        if there is None or (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            if _below(target, roots):
                stuck.append(f"the open file {target}, which has no name any more")
            continue
        offset = None
        if not os.path.isdir(target):
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        files.append(File(fd, target, flags, offset, os.get_inheritable(fd)))
    return files, stuck


def unkept(roots, known, loop):
    """What a fork of this process does not take along, one phrase each.

    known: process ids that the host knows to be interpreters or frozen.
    loop: the event loop of cells that await, or None.
    """
    return (_threads() + _tasks(loop) + _connections() + _shared() + _processes(roots, known))[:_MOST]


def _threads():
    if _alone():
        return []
    import threading

    names = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    if names:
        return [f"the thread {name}" for name in names]
    return [] if _alone_after_a_fork() else ["a thread that Python did not start"]


def _alone():
    return len(os.listdir("/proc/self/task")) == 1


def _alone_after_a_fork():
    """Whether whoever started the other threads ends them before a fork, as libraries do that must survive one."""
    import time

    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for _ in range(_PATIENCE):
        if _alone():
            return True
        time.sleep(0.001)
    return False


def _connections():
    """Sockets, pipes and the like would be shared by the one that goes on and each that comes back."""
    found = []
    for fd, target in _descriptors("self"):
        kind = target.partition(":")[0]
        if fd > _CHANNEL and kind in ("socket", "pipe", "anon_inode"):
            found.append(
                f"descriptor {fd}, {'an event loop or timer' if kind == 'anon_inode' else f'a {kind}'}"
            )
    return found


def _shared():
    """Memory that is written through to others: it does not go back with this process."""
    found = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(None, 5)
            if fields[1][1] == "w" and fields[1][3] == "s":
                found.append(f"shared memory ({fields[5].strip() if len(fields) > 5 else 'without a name'})")
    try:
        if os.listdir("/dev/shm"):  # noqa: S108 - the sandbox's own
            found.append("files in /dev/shm")
    except OSError:
        pass
    return found


def _tasks(loop):
    if loop is None:
        return []
    import asyncio

    return [f"the asyncio task {task.get_name()}" for task in asyncio.all_tasks(loop) if not task.done()]


def _processes(roots, known):
    """Other processes of the sandbox: those below this one, and those whose files could change meanwhile."""
    found = []
    own = os.getpid()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, own) or int(name) in known:
            continue
        words = _command(name)
        if words is None:
            continue
        written = [
            path for fd, path in _descriptors(name) if _below(path, roots) and _flags(name, fd) & os.O_ACCMODE
        ]
        also = f", which has {written[0]} open for writing" if written else ""
        found.append(f"the process {name} ({words}){also}")
    return found


def _command(pid):
    """A process's command line; None when it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(200).replace(b"\0", b" ").decode("utf-8", "backslashreplace").strip()
    except (OSError, IndexError):
        return None
    return None if state in (b"Z", b"X") else words or "without a name"


def _descriptors(pid):
    found = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for name in names:
        try:
            found.append((int(name), os.readlink(f"/proc/{pid}/fd/{name}")))
        except OSError:
            continue
    return sorted(found)


def _flags(pid, fd):
    """The flags a file was opened with, as far as they can be asked for again."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            for line in file:
                if line.startswith("flags:"):
                    return int(line.split()[1], 8) & (_FLAGS | os.O_DIRECTORY)
    except OSError:
        pass
    return 0


def _below(path, roots):
    return any(path == root or path.startswith(root + "/") for root in roots)
