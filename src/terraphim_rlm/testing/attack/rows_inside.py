"""Group B, what is inside a sandbox beside its own: masked files, layers, devices, descriptors, the supervisor's line."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Step

_MASKED = """
count = 0
for name in ("kcore", "keys", "key-users", "timer_list", "sched_debug", "latency_stats", "kpagecount", "kallsyms", "cmdline", "iomem", "vmallocinfo"):
    count += 1
    try:
        with open("/proc/" + name, "rb", buffering=0) as file: data = file.read(200)
    except OSError: continue
    if name == "kallsyms": data = data.replace(b"0000000000000000", b"") if b"ffffffff" in data else b""
    if data.strip() and b"-gvisor quiet" not in data and not (name == "iomem" and b"00000000-00000000" in data): harm("read /proc/" + name, len(data), "bytes")
for path in ("/sys/firmware", "/sys/kernel/security", "/sys/kernel/debug", "/sys/module", "/sys/fs/bpf", "/proc/acpi", "/proc/scsi"):
    count += 1
    try:
        if names := os.listdir(path): harm("listed", path, names[:3])
    except OSError: pass
for path in ("sysrq-trigger", "sys/kernel/core_pattern", "sys/vm/drop_caches", "sys/kernel/sysrq", "irq/default_smp_affinity", "sys/kernel/hostname",
             "sys/net/ipv4/ip_forward", "sys/fs/binfmt_misc/register", "1/oom_score_adj", "mtrr"):
    count += 1
    try: os.close(os.open("/proc/" + path, os.O_WRONLY)); harm("opened /proc/" + path + " for writing")
    except OSError: pass
tried(count)
"""

_FINGERPRINTS = """
for path in ("/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/class/dmi/id/board_serial",
             "/sys/firmware/devicetree/base/serial-number", "/etc/hostname", "/etc/ssh/ssh_host_rsa_key.pub"):
    if data := read(path): harm("read", path, data[:80])
import socket, uuid
if socket.gethostname() != "sandbox": harm("is called", socket.gethostname())
if os.path.isdir("/sys/class/net"): harm("sees interfaces", os.listdir("/sys/class/net"))
try: harm("has interfaces", [name for _, name in socket.if_nameindex() if name != "lo"] or 1 / 0)
except (OSError, ZeroDivisionError): pass
if os.path.ismount("/home") or os.path.exists("/home"): harm("sees /home", os.listdir("/home"))
tried(9)
"""

_ASK_THE_SUPERVISOR = """
import stat, struct
count = 0
forged = struct.pack("<BIiii", 3, 999, 0, 0, 1)  # that a child has ended
own = os.fstat(3).st_ino
for fd in range(1024):
    try: found = os.fstat(fd)
    except OSError: continue
    count += 1
    if not stat.S_ISSOCK(found.st_mode) or found.st_ino == own: continue
    try: os.write(fd, forged); harm("wrote into the supervisor's line, descriptor", fd)
    except OSError: pass
for name in (n for n in os.listdir("/proc") if n.isdigit()):
    for fd in range(16):
        try: end = os.open(f"/proc/{name}/fd/{fd}", os.O_RDWR | os.O_NONBLOCK)
        except OSError: continue
        if stat.S_ISSOCK(os.fstat(end).st_mode): harm("opened descriptor", fd, "of", name)
        os.close(end)
    try: status = open(f"/proc/{name}/status").read()
    except OSError: continue
    uids = status.split("Uid:")[1].split("\\n")[0].split()
    if "0" in uids or "NoNewPrivs:\\t0" in status: harm("process", name, "has more rights:", uids)  # gVisor has no such line
for kind in range(256):  # what a cell may ask for has no such verb
    for body in (b'{"op": "setuid", "uid": 0}', b'{"op": "spawn", "argv": ["/bin/id"], "uid": 0}'):
        if kind in (17,): os.write(3, struct.pack("<IBI", len(body), kind, 70_000 + count) + body); count += 1
tried(count)
"""

_WRITE_BELOW = """
import shutil
count = 0
tops = ["/usr", "/usr/bin", "/usr/lib", "/bin", "/lib", "/etc", "/trlm", "/trlm/guest", "/trlm/packages", "/", "/dev", "/proc", "/sys", "@CANARY_FOLDER@", sys.prefix]
tops += [place for place in sys.path if place.startswith("/") and not place.startswith(("/work", "/tmp"))]
for top in dict.fromkeys(tops):
    for flags in (os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_APPEND):
        count += 1
        try: os.close(os.open(top + "/planted.py", flags)); harm("made a file in", top)
        except OSError: pass
    try: names = os.listdir(top)[:40]
    except OSError: continue
    for name in names:
        path = f"{top}/{name}"
        if not os.path.isfile(path) or top == "/proc": continue  # files of /proc are nobody's but the process's
        count += 1
        try: os.close(os.open(path, os.O_WRONLY)); harm("opened for writing", path)
        except OSError: pass
        for change in (lambda: os.utime(path), lambda: os.chmod(path, 0o777), lambda: os.setxattr(path, "user.x", b"1"), lambda: os.rename(path, path + ".x")):
            try: change(); harm("changed", path)
            except OSError: pass
tried(count)
"""
_LOOK_BELOW = """
found = [place for place in sys.path if os.path.exists(place + "/planted.py")]
if found: harm("the next sandbox finds what the last one planted in", found)
tried(1)
"""

_CARDS = """
import glob
count = 0
for pattern in ("nvidia*", "dri/*", "kfd", "cpu/*/msr", "cpu/*/cpuid", "sgx_*", "accel/*", "vfio/*", "infiniband/*", "mei*", "tpm*", "hwrng", "nvram", "video*", "snd/*"):
    count += 1
    for path in glob.glob("/dev/" + pattern): harm("sees", path)
for path in ("/sys/class/drm", "/sys/class/nvidia", "/proc/driver/nvidia", "/sys/bus/pci/devices"):
    count += 1
    if os.path.exists(path): harm("sees", path)
if call(298, b"\\0" * 128, 0, -1, -1, 0) >= 0: harm("counts events of the processor")
tried(count)
"""

_FOLDER_DESCRIPTORS = """
count = 0
for fd in range(1024):
    for name in ("..", ".", "file", "../../../../../../etc/shadow"):
        try: end = os.open(name, os.O_RDONLY, dir_fd=fd)
        except OSError: continue
        count += 1
        harm("opened", name, "below descriptor", fd)
        os.close(end)
        if name == "file": print(read(f"/proc/self/fd/{fd}/file"))
tried(count + 1)
"""

ROWS = (
    Row("B11", "P0", "reads and writes the kernel's files that are masked", (Step(_MASKED),), off=("hidden-proc-files",)),
    Row("B31", "P2", "tells this machine from others by what it is called", (Step(_FINGERPRINTS),)),
    Row("B38", "P0", "asks the supervisor for what only the host may ask", (Step(_ASK_THE_SUPERVISOR),), off=("no-line-to-the-host", "closed-descriptors")),
    Row(
        "B45", "P0", "writes into what all sandboxes are made from",
        (Step(_WRITE_BELOW), Step(_LOOK_BELOW, sandbox=2)), off=("read-only-input",), binds=True,
    ),
    Row("B47", "P0", "uses graphics cards and model-specific registers", (Step(_CARDS),), off=("no-devices-passed",)),
    Row(
        "B50", "P0", "opens files below an inherited folder", (Step(_FOLDER_DESCRIPTORS),),
        off=("no-folder-descriptors", "closed-descriptors"),
    ),
)  # fmt: skip
