"""What an owner's ordinary sandboxes are forked from: `python3 -I -S start.py zygote HELLO LINE FILTER`.

It runs in namespaces that bubblewrap made, keeps capabilities in their user namespace only, and has Python and the
guest loaded. For each order it forks a child that makes every namespace of a sandbox once more inside, gives up all
that it could do, and becomes the supervisor. So a sandbox stands behind bubblewrap's wall and behind one of its own;
what it could do beyond that one ends at the other, among the sandboxes of its owner.

No sandbox can name this process: it is not in their pid namespaces. It is not dumpable and holds no secret. Orders are
`marshal` datagrams of the keeper: `{"id", "rlimits", "bounds", "limits"}` with the supervisor's socket, standard input,
standard output, and files of control groups to be joined. Reports are `("here", id)`, by the child, whose pid the
kernel adds, `("gone", id, status)` and `("failed", id, errno)`.
"""

import _signal
import _socket
import ctypes
import fcntl
import gc
import marshal
import posix
import resource
import select
import sys
from struct import pack

from .supervisor import drain, set_dumpable
from .supervisor import main as supervise

_MESSAGE = 1 << 16
_SPACE = _socket.CMSG_SPACE(16 * 4)
_HOST, _STREAMS = 3, 3
"""The supervisor's socket comes after the three standard streams."""

_NEWPID, _NEWUSER = 0x20000000, 0x10000000
_NEWNS, _OTHERS = 0x00020000, 0x04000000 | 0x08000000 | 0x40000000  # mounts; names, System V objects, network
_NEWCGROUP = 0x02000000
_NOSUID, _NODEV, _NOEXEC, _READ_ONLY, _REMOUNT, _BIND, _PRIVATE = 2, 4, 8, 1, 32, 4096, 16384 | 1 << 18
_HIDDEN = ("cmdline", "keys", "key-users", "timer_list", "kcore")
_SIOCSIFFLAGS, _UP = 0x8914, 1
_CAPBSET_DROP, _NO_NEW_PRIVS, _SECCOMP, _AMBIENT, _CLEAR_ALL = 24, 38, 22, 47, 4
_FILTER = 2
_CAPABILITIES_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def main(hello, line, program):
    set_dumpable(0)
    zygote = Zygote(line, program)
    zygote.rehearse()
    _greet(hello)
    born = zygote.serve()
    if born is None:
        return
    try:
        line, program = zygote.leave()
        del zygote  # and with it the frames and the names in them that code in the sandbox could walk up to
        born = _become(*born, line, program)
        del line, program
        supervise(_HOST, born)
    finally:
        posix._exit(1)


def _greet(fd):
    greeting = _socket.socket(fileno=fd)
    greeting.send(b"hello")
    greeting.close()


class Zygote:
    """Forks sandboxes, and tells of their ends, until its line closes."""

    def __init__(self, line, program):
        self._line = _socket.socket(fileno=line)
        posix.set_inheritable(line, False)
        self._own = posix.open("/proc/self/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
        self._filter = _Filter(program)
        self._sandboxes = {}
        self._reports = []
        self._wake, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        _signal.signal(_signal.SIGCHLD, lambda number, frame: None)
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        _load()

    def rehearse(self):
        """Makes one that ends before it runs anything; where that fails, so does this process, and says why."""
        if shared := [
            line for line in _read_all("/proc/self/maps").splitlines() if line.split()[1][1::2] == "ws"
        ]:
            _complain(2, OSError(f"its forks could write into memory of each other: {shared[0]}"))
        pid = self._forked()
        if pid == 0:
            self._become_nothing()
        if posix.waitpid(pid, 0)[1] != 0:
            posix._exit(1)

    def _become_nothing(self):
        try:
            _isolate("size=1048576", {}, self._filter)
        except BaseException as error:
            _complain(2, error)
        posix._exit(0)

    def serve(self):
        """Until the line closes; in a child until it is forked: then its order, and its descriptors."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        while True:
            poller.register(self._line.fileno(), select.POLLIN | (select.POLLOUT if self._reports else 0))
            for ready, event in poller.poll():
                if ready == self._wake:
                    drain(ready)
                    self._reap()
                elif event & (select.POLLIN | select.POLLHUP):
                    found = self._receive()
                    if found is not None:
                        return found or None
            self._flush()

    def leave(self):
        """In a child: the line and the filter. Nothing of the others is left here."""
        self._sandboxes.clear()
        self._reports.clear()
        return self._line, self._filter

    def _receive(self):
        """Takes an order: None, in the child that it makes that and its descriptors, and False at the line's end."""
        data, ancillary, _flags, _address = self._line.recvmsg(_MESSAGE, _SPACE)
        if not data:
            return False
        fds = [
            int.from_bytes(raw[i : i + 4], sys.byteorder)
            for _level, _kind, raw in ancillary
            for i in range(0, len(raw), 4)
        ]
        order = marshal.loads(data)
        try:
            pid = self._forked()
        except OSError as error:
            self._reports.append(("failed", order["id"], error.errno or 0))
        else:
            if pid == 0:
                return order, fds
            self._sandboxes[pid] = order["id"]
        for fd in fds:
            posix.close(fd)
        return None

    def _forked(self):
        """The pid of a child in a pid namespace of its own; 0 in it."""
        _check(_libc.unshare(_NEWPID), "unshare pids")
        pid = -1
        try:
            pid = posix.fork()
            return pid
        finally:
            if pid != 0:
                self._come_back()

    def _come_back(self):
        """Else the next child would be in the same namespace."""
        try:
            _check(_libc.setns(self._own, _NEWPID), "setns")
        except OSError:
            posix._exit(1)  # nothing that is forked from now on would be apart

    def _reap(self):
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._reports.append(("gone", self._sandboxes.pop(pid), status))

    def _flush(self):
        """Never waits for the keeper, which may be waiting for us."""
        while self._reports:
            try:
                self._line.send(marshal.dumps(self._reports[0]), _socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            del self._reports[0]


def _become(order, fds, line, program):
    """In a child, which is pid 1 of its namespace: makes it a sandbox. The limits of its supervisor."""
    complain = fds[2]
    try:
        for fd in fds[3:]:  # its control groups, before it takes memory of its own
            posix.write(fd, b"0")
        posix.setsid()  # and so out of the zygote's process group, to which it could send signals
        line.send(marshal.dumps(("here", order["id"])))
        line.detach()  # it is closed with all others
        _signal.set_wakeup_fd(-1)
        _lay_out(fds)
        complain = 2
        _isolate(order["bounds"], order["rlimits"], program)
    except BaseException as error:
        _complain(complain, error)
    return order["limits"]


def _isolate(bounds, rlimits, program):
    set_dumpable(1)  # else the files of its user namespaces are not its own to write
    _separate(bounds)
    _give_up(rlimits, program)


def _complain(fd, error):
    try:
        posix.write(fd, f"zygote: {type(error).__name__}: {error}\n".encode())
    finally:
        posix._exit(127)


def _load():
    """All that cells load, once for all of them; nothing in it will be looked at by the collector again."""
    from . import cell, files, helpers, library, values  # noqa: F401

    for name in ("json", "re"):
        library.load(name)
    for name in ("errors", "views", "states", "queries"):
        library.part(name)
    compile("1", "", "exec", 0x400)
    gc.collect()
    gc.freeze()


def _lay_out(fds):
    """Standard streams and the supervisor's socket at their numbers; nothing else stays open."""
    host, stdin, stdout = (fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in fds[:_STREAMS])
    for target, fd in enumerate((stdin, stdout, stdout, host)):
        posix.dup2(fd, target)
    posix.closerange(_HOST + 1, 1024)


def _separate(bounds):
    """Namespaces, mounts and a network of its own, made while it still can.

    `/proc` belongs to the pid namespace, which the zygote made; so it is mounted while we are in its user namespace.
    All else belongs to a user namespace of this sandbox alone, which has a root, for devices of terminals need one.
    """
    _check(_libc.unshare(_NEWNS), "unshare mounts")
    _mount("none", "/", None, _PRIVATE)
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for path in [f"/proc/{name}" for name in _HIDDEN if posix.access(f"/proc/{name}", posix.F_OK)]:
        _mount("/dev/null", path, None, _BIND)
        _mount("none", path, None, _BIND | _REMOUNT | _READ_ONLY | _NOSUID | _NODEV)
    cgroups = _NEWCGROUP if posix.access("/proc/self/ns/cgroup", posix.F_OK) else 0
    _own_users(_NEWNS | _OTHERS | cgroups, "0 65534 1")
    _mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    for path, mode in (("/work", "0700"), ("/tmp", "1777"), ("/dev/shm", "1777")):  # noqa: S108
        _mount("tmpfs", path, "tmpfs", _NOSUID | _NODEV, f"{bounds},mode={mode}")
    posix.chdir("/work")
    network = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    fcntl.ioctl(network, _SIOCSIFFLAGS, pack("16sH14x", b"lo", _UP))
    network.close()


def _own_users(more, mapped):
    """A new user namespace, and `more` with it."""
    _check(_libc.unshare(_NEWUSER | more), "unshare users")
    for name, text in (("setgroups", "deny"), ("gid_map", mapped), ("uid_map", mapped)):
        _write(f"/proc/self/{name}", text)


def _give_up(rlimits, program):
    """One more user namespace, in which there are no capabilities and no further ones; limits, and the filter."""
    _write("/proc/sys/user/max_user_namespaces", "1")  # of the namespace that we leave, for good
    _own_users(0, "65534 0 1")
    for name, value in rlimits.items():
        which = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(which)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (most, most))
    _check(_libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0), "clear ambient capabilities")
    for capability in range(int(_read("/proc/sys/kernel/cap_last_cap")) + 1):
        _check(_libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0), "drop a capability")
    _check(_libc.capset(pack("Ii", _CAPABILITIES_3, 0), bytes(24)), "capset")
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    program.install()


class _Filter:
    """A seccomp program, ready to be installed."""

    def __init__(self, fd):
        size = posix.fstat(fd).st_size
        self._program = ctypes.create_string_buffer(posix.read(fd, size), size)
        self._pointer = pack("HP", size // 8, ctypes.addressof(self._program))
        posix.close(fd)

    def install(self):
        _check(_libc.prctl(_SECCOMP, _FILTER, self._pointer, 0, 0), "seccomp")


def _mount(source, target, kind, flags, options=""):
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(result, f"mount {kind or ''} on {target}")


def _write(path, text):
    fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    posix.write(fd, text.encode())
    posix.close(fd)


def _read(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    text = posix.read(fd, 4096)
    posix.close(fd)
    return text


def _read_all(path):
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    text = b""
    while block := posix.read(fd, 65536):
        text += block
    posix.close(fd)
    return text.decode("utf-8", "replace")


def _check(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, posix.strerror(number), what)
