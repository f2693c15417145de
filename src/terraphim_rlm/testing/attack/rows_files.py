"""Group B, what a sandbox may see and change of its host's files."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Step

_READ_HOST = """
paths = ["@CANARY@", "/etc/shadow", "/etc/machine-id", "/etc/hostname", "/root/.ssh/id_rsa", "/root/.bashrc",
         "/home", "/var/lib", "/run", "/boot", "/proc/self/root@CANARY@", "/work/../..@CANARY@",
         "/proc/self/cwd/../@CANARY@", "/tmp/../proc/self/root/@CANARY@"]
for path in paths:
    data = read(path)
    if data and not (path == "/etc/hostname" and data.decode().strip() == os.uname().nodename):  # the sandbox's own
        harm("read", path, data.decode(errors="replace"))
    try:
        if names := os.listdir(path): harm("listed", path, names)
    except OSError: pass
# Two copies that the C library reads of how large pages are; anything else there is the host's.
copies = {f"/sys/kernel/mm/transparent_hugepage/{name}" for name in ("enabled", "hpage_pmd_size")}
for folder, _names, files in os.walk("/sys"):
    if strange := {f"{folder}/{file}" for file in files} - copies: harm("found", sorted(strange)[:5])
if any(line.split()[2:3] == ["sysfs"] for line in open("/proc/self/mounts")): harm("mounted", "/sys")
tried(len(paths) + 1)
"""

_TELLTALES = """
before = []
for name in sorted(os.listdir("/proc")):
    for file in (["cmdline", "cgroup", "mountinfo", "environ", "mounts"] if name.isdigit() else []):
        before.append(read(f"/proc/{name}/{file}"))
everything = b"\\n".join(before)
for word in (b"@CANARY_FOLDER@", b"@SECRET_NAME@", b"canary-"):
    if word in everything: harm("saw", word)
for name in ("cmdline", "keys", "key-users", "timer_list", "kcore"):
    data = read("/proc/" + name, 200)
    if data and b"-gvisor quiet" not in data: harm("read /proc/" + name, len(data), "bytes")  # that is no host's
tried(len(before))
"""

_REMOUNT = """
MS_BIND, MS_REMOUNT = 4096, 32
count = 0
for line in open("/proc/self/mountinfo"):
    point = line.split(" ")[4].encode()
    if call(165, b"none", point, None, MS_REMOUNT | MS_BIND, None) == 0 and "ro," in line:
        harm("remounted", point)
    call(442, -100, point, 0, None, 0)  # mount_setattr
    count += 1
for path in ("@CANARY@", "@CANARY_FOLDER@/new", "/usr/new", "/etc/passwd", "/bin/new"):
    for flags in (os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT, os.O_RDWR | os.O_APPEND):
        try: fd = os.open(path, flags)
        except OSError: continue
        os.write(fd, b"changed"); harm("wrote", path)
if not read("@CANARY@"): print("the input is not there")
tried(count)
"""

_DESCRIPTORS = """
import stat
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
for fd in fds:
    try: what = os.fstat(fd)
    except OSError: continue  # the one that listed them
    if stat.S_ISDIR(what.st_mode): harm("a folder's descriptor", fd)
    if stat.S_ISREG(what.st_mode) or stat.S_ISBLK(what.st_mode): harm("a file's descriptor", fd)
    if fd > 3: harm("a descriptor more than its own", fd, os.readlink(f"/proc/self/fd/{fd}"))
tried(len(fds))
"""

_REOPEN = """
names = os.listdir("/proc/self/fd")
for name in names:
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        try: fd = os.open(f"/proc/self/fd/{name}", flags | os.O_NONBLOCK)
        except OSError: continue
        if name == "0":
            try: os.write(fd, b"changed through descriptor 0")
            except OSError: pass
tried(len(names))
"""

_UNIX_SOCKETS = """
import socket, stat
found = ["@AGENT@", "/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/tmp/.X11-unix/X0",
         "/run/dbus/system_bus_socket", "/run/systemd/private", os.environ.get("SSH_AUTH_SOCK", "/none")]
for top in ("/run", "/var", "/tmp", "/dev", "/work", "/home", "/root", "/mnt", "/etc"):
    for folder, _names, files in os.walk(top):
        for file in files:
            try: mode = os.lstat(f"{folder}/{file}").st_mode
            except OSError: continue
            if stat.S_ISSOCK(mode): found.append(f"{folder}/{file}")
for path in dict.fromkeys(found):
    with socket.socket(socket.AF_UNIX) as client:
        try: client.connect(path)
        except OSError: continue
        harm("connected to", path)
tried(len(found))
"""

_PLANT = """
import pathlib
files = {"sitecustomize.py": "open('/tmp/planted','w')", "usercustomize.py": "", "evil.pth": "import os", "pyproject.toml": "",
         "conftest.py": "", ".mcp.json": "{}", ".git/hooks/pre-commit": "#!/bin/sh", ".config/terraphim-rlm/config.toml": "",
         "posix.py": "", "json.py": "raise SystemExit('shadowed')", "runpy.py": ""}
for name, text in files.items():
    path = pathlib.Path(os.environ["HOME"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
tried(len(files))
"""

_LEAVE = """
for place in ("/tmp", "/dev/shm", "/work", os.environ["HOME"] + "/.cache"):
    os.makedirs(place, exist_ok=True)
    with open(place + "/left-behind", "w") as file: file.write("of the last tenant")
call(248, b"user", b"left-behind", b"secret", 6, -4)
if os.fork() == 0:
    os.setsid()
    for fd in range(4): os.close(fd)
    os.execv("/bin/sleep", ["left-behind", "300"])
tried(4)
"""
_LOOK = """
for place in ("/tmp", "/dev/shm", "/work", os.environ["HOME"] + "/.cache", "/var/tmp", "/var/spool/cron"):
    if read(place + "/left-behind"): harm("found the last tenant's file in", place)
for name in os.listdir("/proc"):
    if name.isdigit() and b"left-behind" in read(f"/proc/{name}/cmdline"): harm("found the last tenant's process", name)
if call(249, b"user", b"left-behind", None, 0) > 0: harm("found the last tenant's key")
tried(6)
"""

ROWS = (
    Row("B01", "P0", "reads files of the host", (Step(_READ_HOST),), off=("own-files",)),
    Row(
        "B04", "P0", "reads command lines, mounts and control groups for what they tell of the host",
        (Step(_TELLTALES),), off=("hidden-proc-files",),
    ),
    Row(
        "B05", "P0", "writes into what is bound read-only, remounting it first",
        (Step(_REMOUNT),), off=("read-only-input",), binds=True,
    ),
    Row("B09", "P0", "looks for inherited descriptors", (Step(_DESCRIPTORS),), off=("closed-descriptors",)),
    Row("B26", "P0", "looks for Unix sockets in the file system", (Step(_UNIX_SOCKETS),), off=("own-files",)),
    Row(
        "B40", "P0", "plants start-up files, hooks and settings in the work folder",
        (Step(_PLANT), Step("import json, runpy\ntried(1)", expect=("ok", "exit_nonzero"))), off=("own-work-folder",),
    ),
    Row(
        "B41", "P0", "leaves files, keys and a process for the next sandbox to find",
        (Step(_LEAVE), Step(_LOOK, sandbox=2)), off=("own-tmp-folder",),
    ),
    Row(
        "B49", "P0", "opens its descriptors again for writing",
        (Step(_REOPEN, stdin=b"an input\n"),), off=("sealed-input",),
    ),
)  # fmt: skip
