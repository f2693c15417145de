"""Group B, other processes: the host's, the supervisor's, and what is told of them."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Seen, Step


def supervisor_gone(seen: list[Seen]) -> str:
    return "" if all(each.alive for each in seen) else "the sandbox's supervisor was ended"


_ROOTS = """
count = 0
for name in os.listdir("/proc"):
    if not name.isdigit(): continue
    for way in ("root", "cwd"):
        count += 1
        base = f"/proc/{name}/{way}"
        if data := read(base + "@CANARY@"): harm("read the canary by", base, data.decode(errors="replace"))
        if data := read(base + "/../" * 8 + "@CANARY@"): harm("read the canary from", base)
for name in ("1", str(os.getppid()), "@HARNESS@", "@VICTIM@"):
    if data := read(f"/proc/{name}/root@CANARY@"): harm("read the canary by", name)
tried(count)
"""

_ENVIRONMENTS = """
count = 0
names = [name for name in os.listdir("/proc") if name.isdigit()] + ["self", "thread-self", "1", str(os.getppid())]
for name in names:
    data = read(f"/proc/{name}/environ")
    count += 1
    if b"@SECRET_NAME@" in data: harm("read the host's environment of", name)
if "@SECRET_NAME@" in os.environ: harm("has the host's environment")
tried(count)
"""

_OTHER_MEMORY = """
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
word = ctypes.create_string_buffer(b"a word of the parent's")
child = os.fork()
if child == 0:
    time.sleep(4); os._exit(0)
pids = {child, 1, os.getppid(), @HARNESS@, @VICTIM@, *(int(n) for n in os.listdir("/proc") if n.isdigit())} - {os.getpid()}
for pid in sorted(pids):
    into = ctypes.create_string_buffer(32)
    local, remote = Vector(ctypes.addressof(into), 8), Vector(ctypes.addressof(word), 8)
    if call(310, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0: harm("read memory of", pid, "by process_vm_readv")
    if call(311, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0) > 0: harm("wrote memory of", pid)
    if call(101, 0x4206, pid, 0, 0) == 0: harm("seized", pid, "by ptrace")
    if call(312, os.getpid(), pid, 0, 0, 0) >= 0: harm("compared with", pid, "by kcmp")
    pidfd = call(434, pid, 0)
    if pidfd >= 0:
        if call(438, pidfd, 0, 0) >= 0: harm("took a descriptor of", pid)
        if call(440, pidfd, None, 0, 0, 0) >= 0: harm("advised memory of", pid)
        os.close(pidfd)
os.kill(child, 9); os.waitpid(child, 0)
tried(len(pids))
"""

_SIGNALS = """
import signal
signal.signal(15, signal.SIG_IGN)
count = 0
for pid in (1, -1, @VICTIM@, @HARNESS@, os.getppid(), -@VICTIM@):
    for number in (15, 9) if pid != @VICTIM@ else (0, 15, 9):
        count += 1
        try: os.kill(pid, number)
        except OSError: continue
        if pid == @VICTIM@: harm("signalled a process of the host")
try:
    fd = os.pidfd_open(@VICTIM@)
    signal.pidfd_send_signal(fd, 9); harm("signalled a process of the host by its descriptor")
except OSError: pass
tried(count)
"""

_SUPERVISOR = """
count = 0
for file in ("mem", "maps", "environ", "auxv", "io", "syscall", "stack", "pagemap"):
    count += 1
    try:
        with open(f"/proc/1/{file}", "rb", buffering=0) as opened:
            if file == "mem": harm("opened the supervisor's memory")
            elif data := opened.read(64): harm("read the supervisor's", file, len(data))
    except OSError: pass
for folder in ("fd", "map_files", "cwd", "root"):
    count += 1
    try: harm("listed the supervisor's", folder, os.listdir(f"/proc/1/{folder}")[:3])
    except OSError: pass
    try: harm("followed the supervisor's", folder, os.readlink(f"/proc/1/{folder}"))
    except OSError: pass
try: open("/proc/1/mem", "wb").close(); harm("opened the supervisor's memory for writing")
except OSError: pass
tried(count)
"""

_LIMITS_OF_PID_1 = """
import struct
zero = struct.pack("QQ", 0, 0)
count = 0
if call(141, 0, 1, 19) == 0: harm("changed the supervisor's priority")
if call(141, 2, 0, 19) == 0: harm("changed everybody's priority")
if call(251, 1, 1, 3 << 13) == 0: harm("changed the supervisor's disk priority")
mask = struct.pack("Q", 1)
if call(203, 1, 8, mask) == 0: harm("bound the supervisor to one CPU")
if call(144, 1, 5, struct.pack("i", 0)) == 0: harm("changed the supervisor's scheduling")
if call(434, 1, 0) >= 0: harm("holds a descriptor of the supervisor")
if call(302, 1, 7, zero, None) == 0: harm("took the supervisor's descriptors away")
tried(7)
"""

_FOREIGN_DESCRIPTORS = """
import socket, struct
forged = struct.pack("<IBI", 0, 18, 1)  # DONE of execution 1, in the name of another cell
count = 0
for name in sorted(os.listdir("/proc"), key=str):
    if not name.isdigit() or int(name) == os.getpid(): continue
    count += 1
    try: pidfd = os.pidfd_open(int(name))
    except OSError: continue
    for number in range(3, 8):
        fd = call(438, pidfd, number, 0)
        if fd >= 0:
            harm("took descriptor", number, "of process", name)
            try: os.write(fd, forged)
            except OSError: pass
    for number in range(3, 8):
        try: fd = os.open(f"/proc/{name}/fd/{number}", os.O_WRONLY | os.O_NONBLOCK)
        except OSError: continue
        try: os.write(fd, forged); harm("wrote into descriptor", number, "of process", name)
        except OSError: pass
own = [n for n in os.listdir("/proc/self/fd")]
tried(count)
"""

_KILL_THE_SUPERVISOR = """
import struct, subprocess
for number in (9, 15, 11, 6, 19):
    for pid in (1, -1):
        try: os.kill(pid, number)
        except OSError: pass
for number in (200, 129): call(number, 1, 9, None)
call(234, 1, 1, 9)
subprocess.run(["/bin/sh", "-c", "kill -9 1; kill -9 -1"], capture_output=True)
for path in ("/trlm/guest/supervisor.pyc", "/trlm/guest/start.pyc", "/trlm/guest"):
    try: os.unlink(path); harm("removed", path)
    except OSError: pass
    try: os.rename(path, path + "x"); harm("moved", path)
    except OSError: pass
call(302, 1, 0, struct.pack("QQ", 0, 0), None)  # prlimit(1, RLIMIT_CPU): a limit of 0 kills whom no signal can
end = time.monotonic() + 2
while time.monotonic() < end:  # orphans to reap, for the kernel looks at a limit of CPU time while its bearer runs
    pid = os.fork()
    if pid == 0:
        try: os.fork()
        finally: os._exit(0)
    os.waitpid(pid, 0)
tried(1)
"""

ROWS = (
    Row(
        "B02", "P0", "reads the host through other processes' roots and folders",
        (Step(_ROOTS),),
        no_control="needs the process and the user namespace both away; each alone holds, and bubblewrap makes the second always",
    ),
    Row("B03", "P0", "reads every process's environment", (Step(_ENVIRONMENTS),), off=("own-environment",)),
    Row("B14", "P0", "reads and stops other processes", (Step(_OTHER_MEMORY),), off=("filter:other-memory",)),
    Row("B15", "P0", "signals the host's processes", (Step(_SIGNALS),), off=("own-processes",), harmed=supervisor_gone),
    Row("B39", "P0", "reads the supervisor's memory and descriptors", (Step(_SUPERVISOR),), off=("undumpable-supervisor",)),
    Row("B51", "P0", "changes the supervisor's limits, priority and CPUs", (Step(_LIMITS_OF_PID_1),), off=("filter:priority-of-pid-1",)),
    Row(
        "C03", "P0", "writes into other cells' channels",
        (Step(_FOREIGN_DESCRIPTORS, beside="time.sleep(1)\nprint('beside is done')"),),
        off=("filter:other-descriptors",),
        check=lambda seen: "" if seen[0].beside and "beside is done" in seen[0].beside.stdout else "the other cell was disturbed",
    ),
    Row(
        "C05", "P0", "kills the supervisor",
        (Step(_KILL_THE_SUPERVISOR, expect=("ok",)), Step("print(40 + 2)")),
        off=("filter:limits-of-pid-1",), harmed=supervisor_gone,
        check=lambda seen: "" if seen[-1].stdout == "42\n" else "the sandbox did not go on working",
    ),
)  # fmt: skip
