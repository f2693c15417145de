"""Group A, exhaustion, second part: what is neither heap nor process but still somebody's."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Seen, Step
from terraphim_rlm.testing.attack.rows_resources import ends_within, goes_on
from terraphim_rlm.testing.attack.stage import Stage

_AFTER = Step("print(40 + 2)")
_ENDED = ("ok", "oom", "killed", "exit_nonzero")

_PAGES = """
import fcntl, mmap
held, size = [], 0
fd = os.memfd_create("pages")
try:
    for _ in range(4096): size += os.write(fd, b"x" * (1 << 20))
except OSError: pass
tried(1)
if size > 300 << 20: harm("holds", size >> 20, "MB in a memory file")
os.close(fd)
area = mmap.mmap(-1, 1 << 30)
"""
_PIPES = """
import fcntl
pipes, size = [], 0
try:
    for _ in range(1000):
        pipes.append(os.pipe())
        os.set_blocking(pipes[-1][1], False)
        try: fcntl.fcntl(pipes[-1][1], 1031, 1 << 20)
        except OSError: pass
        try:
            while True: size += os.write(pipes[-1][1], b"x" * 65536)
        except BlockingIOError: pass
except OSError: pass
if size > 300 << 20: harm("holds", size >> 20, "MB in pipes")
tried(len(pipes))
"""
_SYSTEM_V = """
held = 0
for number in range(64):
    found = call(29, 0, 64 << 20, 0o1600)  # shmget(IPC_PRIVATE)
    if found < 0: break
    where = call(30, found, None, 0)
    if where < 0: break
    ctypes.memset(where, 1, 64 << 20)
    held += 64
if held > 320: harm("holds", held, "MB of shared memory")
tried(1)
"""
_SWAP = """
before = int(open("/proc/meminfo").read().split("SwapFree:")[1].split()[0])
held = bytearray()
try:
    while len(held) < 1 << 30: held += b"x" * (16 << 20)
except MemoryError: pass
after = int(open("/proc/meminfo").read().split("SwapFree:")[1].split()[0])
if before - after > 100_000: harm("pushed", before - after, "kB into swap")
"""
_INODES = """
made, end = 0, time.monotonic() + 8
try:
    while made < 10_000_000 and time.monotonic() < end:
        folder = f"/work/many/{made}"
        os.makedirs(folder)
        for number in range(1000): os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY)); made += 1
except OSError: pass
print("made", made)
tried(1)
"""
_BYTES = """
for _ in range(100_000): os.write(1, b"x")
tried(1)
"""
_STILL = """
import fcntl, signal
os.mkfifo("/tmp/pipe")
def child(work):
    pid = os.fork()
    if pid == 0:
        try: work()
        finally: os._exit(0)
    return pid
def traced():
    call(101, 0, 0, 0, 0)  # PTRACE_TRACEME
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)
def leased():
    fd = os.open("/tmp/leased", os.O_CREAT | os.O_RDWR)
    try: fcntl.fcntl(fd, 1024, 1)  # F_SETLEASE, F_WRLCK
    except OSError: pass
    time.sleep(1000)
def vforked():
    if call(58) == 0: time.sleep(1000)
child(lambda: os.open("/tmp/pipe", os.O_RDONLY)); child(traced); child(leased)
child(lambda: os.kill(os.getpid(), signal.SIGSTOP))
time.sleep(0.2)
os.open("/tmp/pipe", os.O_RDONLY) and os.open("/tmp/none", os.O_RDONLY)
"""
_ENDLESS = """
for path, most in (("/dev/urandom", 1 << 24), ("/dev/zero", 1 << 28)):
    with open(path, "rb", buffering=0) as file: got = sum(len(file.read(1 << 20)) for _ in range(most >> 20))
    print(path, got)
for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/proc/kpageflags", "/proc/kpagecount"):
    try: fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError: continue
    try:
        if data := os.read(fd, 64): harm("read", path, len(data))
    except OSError: pass
tried(1)
"""
_WATCHES = """
import ctypes, select
made = {"watches": 0, "queues": 0, "locks": 0}
libc = ctypes.CDLL(None)
queue = libc.inotify_init1(0)
while made["queues"] < 5000 and queue >= 0 and libc.inotify_init1(0) >= 0: made["queues"] += 1
os.makedirs("/tmp/w", exist_ok=True)
for number in range(20_000):
    path = f"/tmp/w/{number}"
    try: os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError: break
    if libc.inotify_add_watch(queue, path.encode(), 2) < 0: break
    made["watches"] += 1
import fcntl
try:
    for number in range(5_000):
        fd = os.open(f"/tmp/w/l{number}", os.O_CREAT | os.O_WRONLY)
        fcntl.flock(fd, fcntl.LOCK_EX); made["locks"] += 1
except OSError: pass
print(made)
tried(1)
"""
_STORM = """
import signal
hits = 0
def hit(number, frame):
    global hits
    hits += 1
signal.signal(signal.SIGALRM, hit); signal.signal(signal.SIGUSR1, hit)
signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
while True: os.kill(os.getpid(), signal.SIGUSR1)
"""
_DIGITS = """
try: int("9" * 10**7)
except ValueError: print("refused")
9**9**9
"""


async def asks_for_too_much(stage: Stage) -> None:
    """Arguments and variables past what a system takes: each is refused or runs, none is an error of ours."""
    async with stage.box() as box:
        for length in (100_000, 131_071, 131_072, 2_000_000):
            with stage.refusing():
                found = await box.sh("echo " + "x" * length, timeout=10)
                stage.expect(found.status == "ok", f"a command of {length} ended as {found.status}")
        many = {f"V{number}": "x" * 100 for number in range(10_000)}
        for env in (
            many,
            {"BIG": "x" * 131_072},
            {"X" * 200_000: ""},
            {"A=B": "c"},
            {"NUL": "a\0b"},
            {"": "x"},
        ):
            with stage.refusing():
                await box.sh("true", env=env, timeout=10)
                await box.run("print(1)", env=env, timeout=10)
        with stage.refusing():
            await box.run("x = 1\n" * 1_000_000, timeout=20)
        again = await box.run("print(40 + 2)")
        stage.expect(again.stdout == "42\n", "the sandbox did not go on working")


def slow(seen: list[Seen]) -> str:
    return "" if seen[0].seconds < 15 else f"a hundred thousand bytes took {seen[0].seconds:.0f} s"


def whole(seen: list[Seen]) -> str:
    got = seen[0].stdout.count("x")
    return "" if got >= 100_000 else f"{got} bytes of 100,000 arrived"


def timed_out(seen: list[Seen]) -> str:
    return ends_within(5.0)(seen) or goes_on(seen)


ROWS = (
    Row(
        "A07", "P1", "fills memory files, shared memory and pipes instead of its heap",
        (Step(_PAGES, expect=_ENDED, timeout=15), Step(_PIPES, expect=_ENDED, timeout=15), Step(_SYSTEM_V, expect=_ENDED, timeout=15),
         Step("print(40 + 2)")), needs=("memory-group",), check=goes_on,
    ),
    Row("A08", "P1", "uses swap once its memory is full", (Step(_SWAP, expect=_ENDED, timeout=15), _AFTER), needs=("memory-group",), check=goes_on),
    Row("A09", "P1", "makes empty files without end", (Step(_INODES, expect=_ENDED, timeout=20),)),
    Row("A17", "P1", "writes a hundred thousand single bytes", (Step(_BYTES, timeout=20),), check=lambda seen: slow(seen) or whole(seen)),
    Row(
        "A26", "P1", "waits where a signal does not wake it: pipes, leases, a stopped or traced child",
        (Step(_STILL, expect=("timeout",), timeout=1.5), _AFTER), check=timed_out,
    ),
    Row("A27", "P1", "reads devices and kernel files that never end", (Step(_ENDLESS, timeout=15), _AFTER), check=goes_on),
    Row("A31", "P1", "matches a pattern that takes for ever", (Step("import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", expect=("timeout",), timeout=1.0), _AFTER), check=timed_out),
    Row("A33", "P1", "computes numbers of a billion digits", (Step(_DIGITS, expect=("timeout", "oom", "killed", "exit_nonzero"), timeout=1.0), _AFTER), check=timed_out),
    Row("A35", "P1", "asks for more arguments and variables than a system takes", act=asks_for_too_much),
    Row("A38", "P1", "fires timers and signals at itself as fast as it can", (Step(_STORM, expect=("timeout",), timeout=1.5), _AFTER), check=timed_out),
    Row("A39", "P1", "uses up watches, locks and event queues", (Step(_WATCHES, timeout=15), _AFTER), check=goes_on),
)  # fmt: skip
