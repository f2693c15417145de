"""Pid 1 of a sandbox: starts cells and programs, kills whole trees, reaps, and tells the host.

It handles no signal but SIGCHLD (so the kernel drops all others from inside), is not dumpable (so nobody inside
opens its memory or descriptors), and holds no secret. Requests are datagrams that the host makes,
`marshal` version 4; descriptors ride along. What it sends is packed `<BIiii`: op, id, exit code, signal, pid.
Imports only builtin modules: that is most of a sandbox's start-up time.
"""

import _signal
import _socket
import marshal
import posix
import sys
from struct import Struct

REPORT = Struct("<BIiii")
HELLO, STARTED, EXITED, FAILED, KILLED, PAUSED = 1, 2, 3, 4, 5, 6
_SPACE = _socket.CMSG_SPACE(16 * 4)
_DUMPABLE = 4  # PR_SET_DUMPABLE
_EXITING = 4  # PF_EXITING
_MEMORY_KEPT_BACK = 16 << 20
_LOOKS, _SOON = 50, 4  # until all that were told to stop have done so; a millisecond apart after the first


def main(fd, limits):
    """Serves the host until its socket closes; then the sandbox ends with this process."""
    host = _socket.socket(fileno=fd)
    posix.set_inheritable(fd, False)
    children, paused = {}, {}
    wake = prepare(limits)
    host.send(REPORT.pack(HELLO, 0, *sys.version_info[:3]))
    poller = _poller(host.fileno(), wake)
    while True:
        for ready, _event in poller.poll():
            if ready == wake:
                drain(wake)
                reap(host, children)
            elif not _serve(host, children, paused):
                posix._exit(0)


def prepare(limits):
    """Makes this process one that nobody inside can look into or end; what turns readable when a child ends."""
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    set_dumpable(0)
    _limit(limits)
    posix.umask(0o022)
    return _child_events()


def _poller(*fds):
    import select

    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return poller


def _child_events():
    """A descriptor that turns readable when a child ends: the wake-up pipe of a do-nothing handler."""
    reader, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    _signal.signal(_signal.SIGCHLD, lambda number, frame: None)
    _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def drain(fd):
    try:
        while posix.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def set_dumpable(value):
    """prctl(PR_SET_DUMPABLE) without the weight of ctypes."""
    import _ctypes

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 2), "prctl")
    if _ctypes.call_function(prctl, (_DUMPABLE, value, 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def _limit(limits):
    if not limits:
        return
    import resource

    for part in limits.split(","):
        name, _, value = part.partition("=")
        which = getattr(resource, "RLIMIT_" + name)
        hard = resource.getrlimit(which)[1]
        value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(which, (value, value))
    _keep_memory_back(resource)


def _keep_memory_back(resource):
    """Where each process has its own limit of memory: a cell that ran out of it needs some to say so and to go on."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (hard - min(hard // 8, _MEMORY_KEPT_BACK), hard))


def _serve(host, children, paused):
    """One request; False when the host is gone."""
    try:
        data, ancillary, _flags, _address = host.recvmsg(1 << 20, _SPACE)
    except OSError:
        return False
    fds = _descriptors(ancillary)
    if not data:
        return False
    request = marshal.loads(data)  # made by the host, never by code in the sandbox
    carry_out(host, children, paused, request, fds)
    return True


def carry_out(host, children, paused, request, fds):
    """One request. Closes its descriptors."""
    number = request["id"]
    try:
        if request["op"] in _STARTS:
            children[number] = pid = _STARTS[request["op"]](host, request, fds)
            host.send(REPORT.pack(STARTED, number, 0, 0, pid))
        elif request["op"] in _GROUPS:
            _GROUPS[request["op"]](host, children, paused, request)
        elif number in children:
            posix.kill(children[number], request["signal"])
    except OSError as error:
        host.send(REPORT.pack(FAILED, number, error.errno or 0, 0, 0))
    finally:
        for fd in fds:
            posix.close(fd)


def _descriptors(ancillary):
    found = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            usable = len(data) - len(data) % 4
            found += [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, usable, 4)]
    return found


def _child_setup(host, request, fds):
    """In the child: own session, the descriptors of its request at 0, 1, 2, .., own directory."""
    host.close()
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    posix.setsid()
    high = [_raised(fd) for fd in fds]
    for target, fd in enumerate(high):
        posix.dup2(fd, target)
    posix.closerange(len(high), 1024)
    posix.chdir(request["cwd"])


def _raised(fd):
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD, 16)  # no request has more; the hard limit may be as low as 64


def _make_folder(path):
    if posix.access(path, posix.F_OK):
        return
    parent = path.rsplit("/", 1)[0]
    if parent:
        _make_folder(parent)
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another interpreter that starts now was first


def _fork(host, request, fds):
    """Forks a Python cell; fds: stdin, stdout, stderr, channel."""
    _prepare()
    pid = posix.fork()
    if pid:
        return pid
    status = 70
    try:
        _make_folder(request["cwd"])
        _child_setup(host, request, fds)
        set_dumpable(1)
        from guest.cell import Cell

        Cell(3, request["env"]).serve()
        status = 0
    finally:
        posix._exit(status)


def _prepare():
    """From the second interpreter on, loads here what each would load for itself, in 20 ms: children come in dozens.

    The first one does not wait for it, and many a sandbox has no second.
    """
    _made["interpreters"] += 1
    if _made["interpreters"] == 2:
        from guest import cell, helpers, library, values  # noqa: F401

        for name in ("json", "re"):
            library.load(name)
        for name in ("errors", "views", "states", "queries"):
            library.part(name)
        compile("1", "", "exec", 0x400)  # the syntax tree alone, as a cell asks for it


def _spawn(host, request, fds):
    """Runs a program; fds become its 0, 1, 2 and on."""
    pid = posix.fork()
    if pid:
        return pid
    status = 127
    try:
        _child_setup(host, request, fds)
        for ignored in (_signal.SIGPIPE, _signal.SIGXFSZ):  # by Python; a program would inherit that
            _signal.signal(ignored, _signal.SIG_DFL)
        posix.execve(request["argv"][0], request["argv"], request["env"])
    except OSError as error:
        posix.write(2, f"{error.filename or request['argv'][0]}: {posix.strerror(error.errno)}\n".encode())
        status = 126 if error.errno == 13 else 127
    finally:
        posix._exit(status)


def _transfer(host, request, fds):
    """One transfer of files, see files.py; fds: the pipe, and null devices so that no file becomes 1 or 2."""
    from guest import files  # here and not in the child: the next one has it already

    pid = posix.fork()
    if pid:
        return pid
    status = files.CRASHED
    try:
        _child_setup(host, request, fds)
        status = files.main(request["transfer"], request["arguments"])
    finally:
        posix._exit(status)


def _adopt(host, request, fds):
    """A child of ours that no request started: an interpreter that forked away from another one."""
    pid = request["pid"]
    state, parent = _state(str(pid))
    if state in ("Z", "X", "") or parent != 1:
        raise OSError(3, "no such child")
    return pid


def _kill(host, children, paused, request):
    _kill_tree(children, paused, request["id"])
    paused.pop(request["id"], None)
    host.send(REPORT.pack(KILLED, request["id"], 0, 0, 0))


def _kill_tree(children, paused, number):
    """Kills one child, if it still lives, with all that came of it: also what left its session or lost its parent.

    Processes whose parent is pid 1 and that were not started by a request are somebody's orphans: of the group that
    is paused with the child, else of who runs now. Whose of these, nobody can tell any more, so they all go.
    `number` may be a group's own. Stopping before killing keeps a fork bomb from outrunning this.
    """
    victim = children.get(number)
    group = next((each for each in paused.values() if number in each.numbers), None)
    kept = {pid for pid in children.values() if pid != victim}
    others = set().union(*(each.pids for each in paused.values())) - {victim}
    for _round in range(100):
        doomed = [
            pid
            for pid, top in _tops(_living())
            if top == victim
            or (top not in kept and (top not in others if group is None else top in group.pids))
        ]
        if not doomed:
            return
        for signal in (_signal.SIGSTOP, _signal.SIGKILL):
            for pid in doomed:
                _send(signal, pid)


class _Group:
    """What stands still together."""

    def __init__(self, number, own):
        self.numbers = {number, *own}
        self.pids = {}  # with whether it ran when it was paused: what had been stopped before is not woken


def _pause(host, children, paused, request):
    own = {children.get(number) for number in request["own"]}
    others = set(children.values()).difference(own).union(*(each.pids for each in paused.values()))
    paused[request["id"]] = group = _Group(request["id"], request["own"])
    _stop(group.pids, lambda top: top in own or (request["orphans"] and top not in others))
    for pid in (*group.pids, 0):  # 0 is the end
        host.send(REPORT.pack(PAUSED, request["id"], 0, 0, pid))


def _stop(pids, belongs):
    """Stops what came of the processes that belong, and notes it in `pids`.

    Waits until it has stopped: what is in a system call goes on to its end.
    """
    for look in range(_LOOKS):
        living = _living()
        running = []
        for pid, top in _tops(living):
            if (
                belongs(top)
                and pids.setdefault(pid, living[pid][0] not in "Tt")
                and living[pid][0] not in "Tt"
            ):
                running.append(pid)
        if not running:
            return
        for pid in running:
            _send(_signal.SIGSTOP, pid)
        _poller().poll(look > _SOON)  # milliseconds


def _resume(host, children, paused, request):
    group = paused.pop(request["id"], None)
    for pid, ran in group.pids.items() if group else ():
        if ran:
            _send(_signal.SIGCONT, pid)


def _send(signal, pid):
    try:
        posix.kill(pid, signal)
    except ProcessLookupError:
        pass


def _living():
    """State and parent of every other process that can still run code of its own, by its pid."""
    found = {}
    for name in posix.listdir("/proc"):
        if name.isdigit() and name != "1":
            state = _state(name)
            if state[0] not in ("Z", "X", ""):
                found[int(name)] = state
    return found


def _tops(living):
    """Each living process, with the one of its ancestors, or itself, whose parent is pid 1."""
    for pid in living:
        top = pid
        while top in living and living[top][1] != 1:
            top = living[top][1]
        yield pid, top


def _state(name):
    """State letter and parent of a process; ('', 0) when it is gone.

    One that is exiting counts as dead: it runs no code of its own any more, though its memory may take a while to go.
    """
    try:
        fd = posix.open(f"/proc/{name}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return "", 0
    try:
        fields = posix.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return "", 0
    finally:
        posix.close(fd)
    if len(fields) < 7:
        return "", 0
    return "X" if int(fields[6]) & _EXITING else fields[0].decode(), int(fields[1])


def reap(host, children):
    """Tells of the children that have ended."""
    while True:
        try:
            pid, status = posix.waitpid(-1, posix.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for number in [n for n, child in children.items() if child == pid]:
            del children[number]
            code, signal = (
                (-1, posix.WTERMSIG(status)) if posix.WIFSIGNALED(status) else (posix.WEXITSTATUS(status), 0)
            )
            host.send(REPORT.pack(EXITED, number, code, signal, pid))


_made = {"interpreters": 0}
_STARTS = {"fork": _fork, "spawn": _spawn, "files": _transfer, "adopt": _adopt}
_GROUPS = {"kill": _kill, "pause": _pause, "resume": _resume}
