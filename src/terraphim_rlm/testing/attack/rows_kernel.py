"""Group B, the kernel: calls, privileges, devices, terminals, control groups, clocks."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Step

_NAMESPACES = """
count = 0
for flag in (0x10000000, 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x40000000, 0x10020000):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if call(272, flag) == 0 else 1)
    if os.waitpid(pid, 0)[1] == 0: harm("unshared", hex(flag))
    answer = call(56, flag | 17, None, None, None, None)
    if answer == 0: os._exit(0)
    if answer > 0: harm("cloned into", hex(flag)); os.waitpid(answer, 0)
    count += 2
import struct
arguments = struct.pack("11Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)
answer = call(435, arguments, 88)
if answer == 0: os._exit(0)
if answer > 0: harm("clone3 into a user namespace")
tried(count)
"""

_ENTER = """
count = 0
for name in ("mnt", "pid", "net", "user", "uts", "ipc", "cgroup"):
    for pid in ("self", "1", "@HARNESS@"):
        try: fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        except OSError: continue
        if call(308, fd, 0) == 0: harm("entered", name, "of", pid)
        count += 1
tried(count)
"""

_CONTROL_GROUPS = """
count = 0
for line in open("/proc/self/mounts"):
    if line.split()[2].startswith("cgroup"): harm("a control group file system at", line.split()[1])
for top in ("/sys", "/sys/fs/cgroup", "/cgroup", "/mnt", "/run"):
    for folder, names, files in os.walk(top):
        for file in files:
            if file in ("release_agent", "cgroup.procs", "notify_on_release", "tasks"):
                count += 1
                try:
                    with open(f"{folder}/{file}", "r+") as opened: opened.write("0"); harm("wrote", folder, file)
                except OSError: pass
        del names[3:]
        if count > 200: break
for kind in (b"cgroup", b"cgroup2"):
    if call(165, b"none", b"/tmp", kind, 0, None) == 0: harm("mounted", kind)
tried(count)
"""

_KEYS = """
if (key := call(248, b"user", b"attack", b"secret", 6, -4)) > 0: harm("added a key to the user's keyring")
if call(248, b"user", b"attack", b"secret", 6, -3) > 0: harm("added a key to the session's keyring")
if call(250, 0, -3, 1) > 0: harm("has a session keyring")
if call(250, 1, b"attack") > 0: harm("joined a session keyring")
if call(249, b"user", b"attack", None, 0) > 0: harm("found a key")
if read("/proc/keys"): harm("read /proc/keys")
tried(6)
"""

_FAMILIES = """
families = {38: "ALG", 40: "VSOCK", 17: "PACKET", 31: "BLUETOOTH", 44: "XDP", 15: "KEY", 33: "RXRPC", 30: "TIPC", 43: "SMC",
            29: "CAN", 39: "NFC", 21: "RDS", 45: "MCTP", 4: "IPX", 5: "APPLETALK", 9: "X25", 37: "CAIF", 26: "LLC"}
count = 0
for family, name in families.items():
    for kind in (1, 2, 3, 5):
        count += 1
        if (fd := call(41, family, kind, 0)) >= 0: harm("opened a socket of AF_" + name); os.close(fd); break
for protocol in (12, 4, 6, 9, 15, 16, 20):
    count += 1
    if (fd := call(41, 16, 3, protocol)) >= 0: harm("opened netlink protocol", protocol); os.close(fd)
for protocol in (132, 33, 136, 262):
    count += 1
    if (fd := call(41, 2, 1, protocol)) >= 0: harm("opened an internet socket of protocol", protocol); os.close(fd)
tried(count)
"""

_FOREIGN_CALLS = """
import mmap
def machine(code):
    pid = os.fork()
    if pid == 0:
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(code)
        answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(42 if answer == os.getpid() else 3)
    return os.waitpid(pid, 0)[1]
if machine(b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3") == 42 << 8: harm("made an i386 call by int 0x80")
if call(0x40000000 | 39) == os.getpid(): harm("made an x32 call")
if call(0x40000000 | 41, 38, 5, 0) >= 0: harm("opened an AF_ALG socket by x32")
tried(3)
"""

_DEVICES = """
import stat
allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
count = 0
for folder, _names, files in os.walk("/dev"):
    for file in files:
        path = f"{folder}/{file}"
        mode = os.lstat(path).st_mode
        count += 1
        if (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)) and file not in allowed and not folder.startswith("/dev/pts"):
            harm("sees the device", path)
for path in ("kvm", "mem", "kmsg", "port", "loop-control", "fuse", "net/tun", "vsock", "vhost-vsock", "nvidia0", "dri/card0", "uinput"):
    count += 1
    try: os.close(os.open("/dev/" + path, os.O_RDWR | os.O_NONBLOCK)); harm("opened", path)
    except OSError: pass
for number, (mode, device) in enumerate(((stat.S_IFBLK, os.makedev(254, 0)), (stat.S_IFBLK, os.makedev(8, 0)), (stat.S_IFCHR, os.makedev(1, 1)))):
    for place in ("/tmp", "/work", "/dev/shm"):
        count += 1
        try: os.mknod(f"{place}/node{number}", mode | 0o666, device); harm("made a device node in", place)
        except OSError: pass
tried(count)
"""

_PRIVILEGES = """
import shutil, subprocess
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    if int(status.get(name, "0"), 16): harm("has capabilities:", name, status[name])  # gVisor has no ambient ones
import ctypes
if ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) != 1: harm("may gain privileges by exec")
if status["Seccomp"] != "2": harm("has no filter")
if os.getuid() == 0 or os.geteuid() == 0: harm("is root")
shutil.copy("/bin/sh", "/tmp/sh")
for mode in (0o4755, 0o6755):
    try: os.chmod("/tmp/sh", mode)
    except OSError: pass
for command in (["/tmp/sh", "-p", "-c", "id -u"], ["/bin/su", "-c", "id -u"], ["/usr/bin/sudo", "-n", "id", "-u"]):
    try: out = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=2).stdout
    except (OSError, subprocess.TimeoutExpired): continue
    if out.strip() == "0": harm("became root by", command[0])
for identity in (0, 1, 65533):
    for change in (os.setuid, os.setgid, lambda n: os.setgroups([n])):
        try: change(identity); harm("changed identity to", identity)
        except OSError: pass
tried(5)
"""

_TERMINALS = """
import fcntl, pty, select, termios
count = 0
for fd in (0, 1, 2):
    count += 1
    if os.isatty(fd): harm("has a terminal on", fd)
try: os.close(os.open("/dev/tty", os.O_RDWR)); harm("has a controlling terminal")
except OSError: pass
ours, theirs = pty.openpty()
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
    bad = 0
    for request, argument in ((0x5412, b"x"), (0x541c, b"\\x02"), (0x541d, b""), (0x5423, (0).to_bytes(4, "little"))):
        try: fcntl.ioctl(theirs, request, argument); bad |= 1 << (request & 15)
        except OSError: pass
    os._exit(1 if bad else 0)
if os.waitpid(pid, 0)[1] >> 8: harm("typed into a terminal, or changed its driver")
tried(count + 4)
"""

_CLOCKS = """
import struct
now = struct.pack("qq", int(time.time()) + 3600, 0)
if call(227, 0, now) == 0: harm("set the clock")
if call(164, now, None) == 0: harm("set the time of day")
for number, arguments in ((159, ()), (305, (0,))):
    state = ctypes.create_string_buffer(256)
    if call(number, *arguments, state) >= 0: harm("reached the kernel's clock control by call", number)
try:
    with open("/dev/rtc0", "wb"): harm("opened the hardware clock")
except OSError: pass
for name in ("core_pattern", "hostname", "modprobe", "sysrq"):
    try:
        with open("/proc/sys/kernel/" + name, "r+") as file: harm("opened", name, "for writing")
    except OSError: pass
tried(8)
"""

ROWS = (
    Row("B07", "P0", "makes namespaces", (Step(_NAMESPACES),), off=("filter:namespaces", "no-user-namespaces")),
    Row(
        "B08", "P0", "enters namespaces", (Step(_ENTER),),
        no_control="the filter, no capabilities and two nested user namespaces of bubblewrap's each hold alone",
    ),
    Row("B13", "P0", "looks for control groups to write into", (Step(_CONTROL_GROUPS),), off=("no-control-groups",)),
    Row("B16", "P0", "uses kernel keyrings", (Step(_KEYS),), off=("filter:keyrings",)),
    Row("B17", "P0", "opens sockets of unusual families", (Step(_FAMILIES),), off=("filter:sockets",)),
    Row("B19", "P0", "makes calls of other architectures", (Step(_FOREIGN_CALLS),), off=("filter:architecture",)),
    Row("B20", "P0", "opens and makes device nodes", (Step(_DEVICES),), off=("own-devices",)),
    Row("B21", "P0", "gains privileges by setuid, capabilities or identity", (Step(_PRIVILEGES),), off=("no-capabilities",)),
    Row("B22", "P0", "types into terminals", (Step(_TERMINALS),), off=("filter:terminals",)),
    Row("B29", "P0", "sets the clock and the kernel's settings", (Step(_CLOCKS),), off=("filter:clocks",)),
)  # fmt: skip
