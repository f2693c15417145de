"""Group A, exhaustion: whatever a sandbox uses up is its own."""

from __future__ import annotations

from dataclasses import replace

from terraphim_rlm.testing.attack.model import SMALL, Check, Row, Seen, Step


def ends_within(seconds: float) -> Check:
    """A check: the first step came back no later than `seconds` past its time-out."""

    def check(seen: list[Seen]) -> str:
        late = seen[0].seconds - seen[0].step.timeout
        return f"it came back {late:.1f} s after its time-out" if late > seconds else ""

    return check


def cut_short(seen: list[Seen]) -> str:
    result = seen[0].result
    if result is None or not result.truncated:
        return "the output is not marked as truncated"
    kept = max(len(result.stdout_bytes), len(result.stderr))
    return f"{kept:,} bytes of output were kept" if kept > SMALL.output_bytes * 4 else ""


def goes_on(seen: list[Seen]) -> str:
    return "" if seen[-1].stdout == "42\n" else "the sandbox did not go on working"


_AFTER = Step("print(40 + 2)")

_FORKS = """
import signal
count = 0
end = time.monotonic() + 60
while time.monotonic() < end:
    try: pid = os.fork()
    except OSError: continue
    if pid == 0:
        os.setsid()
        try:
            if os.fork() == 0: os.setsid()
        except OSError: pass
"""
_THREADS = """
import threading
stop = threading.Event()
threads = []
try:
    for _ in range(10_000):
        threads.append(threading.Thread(target=stop.wait, daemon=True)); threads[-1].start()
    harm("started ten thousand threads")
except RuntimeError: pass
count = len(threads)
if count > 64: harm("started", count, "threads")
stop.set()
for thread in threads[:-1]: thread.join()
tried(count)
"""
_MEMORY_TOGETHER = """
children, told = [], os.pipe()
size = 32 << 20
for _ in range(24):
    pid = os.fork()
    if pid == 0:
        held = bytearray(size); held[::4096] = b"x" * len(held[::4096])
        os.write(told[1], b".")
        time.sleep(60)
    children.append(pid)
os.close(told[1])
os.set_blocking(told[0], False)
alive, dead, end = 0, set(), time.monotonic() + 12
while alive + len(dead) < len(children) and time.monotonic() < end:
    time.sleep(0.05)
    try: alive += len(os.read(told[0], 100))
    except OSError: pass
    dead |= {pid for pid in children if pid not in dead and os.waitpid(pid, os.WNOHANG) != (0, 0)}
def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file: return int(file.read().split()[1]) * 4096 >> 20
    except (OSError, IndexError): return 0
held = min(sum(resident(pid) for pid in children) for _ in range(9))  # a sum takes time, in which some go and others grow
if held > 384: harm("processes hold", held, "MB of 256 together")
for pid in children:
    try: os.kill(pid, 9)
    except OSError: pass
tried(len(children))
"""
_MEMORY_FILES = """
written = {}
for place in ("/tmp", "/dev/shm", "/work"):
    fd = os.open(place + "/big", os.O_WRONLY | os.O_CREAT)
    written[place] = 0
    try:
        while written[place] < 1 << 30: written[place] += os.write(fd, b"x" * (1 << 20))
    except OSError as error: pass
    os.close(fd); os.unlink(place + "/big")
    if written[place] > 80 << 20: harm("wrote", written[place] >> 20, "MB into", place)
for place in ("/", "/dev", "/etc", "/trlm", "/proc", "/usr", "/var"):
    try: os.close(os.open(place + "/big", os.O_WRONLY | os.O_CREAT)); harm("wrote into", place)
    except OSError: pass
tried(len(written))
"""
_DESCRIPTORS = """
import socket
held = []
try:
    while len(held) < 100_000: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError as error: pass
if len(held) > 1024: harm("opened", len(held), "files")
for fd in held: os.close(fd)
count, held = len(held), []
try:
    while len(held) < 10_000: held.append(socket.socket(socket.AF_UNIX))
except OSError: pass
if len(held) > 1024: harm("opened", len(held), "sockets")
held.clear()
tried(count)
"""
_SPIN = """
if True:
    for _ in range(7):
        if os.fork() == 0: break
    while True: pass
"""
_STUBBORN = """
import signal
for number in range(1, 65):
    if number not in (9, 19):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
while True:
    try: time.sleep(1)
    except BaseException: pass
"""
_DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    for fd in range(64):
        try: os.close(fd)
        except OSError: pass
    os.chdir("/")
    while True: time.sleep(60)
tried(1)
"""
_ZOMBIES = """
count = 0
made = 0
while made < 300:
    try:
        if os.fork() == 0: os._exit(0)
        made += 1
    except OSError:
        count += 1
        if count > 20: break
orphans = 0
while orphans < 200:
    try:
        pid = os.fork()
        if pid == 0:
            try: os.fork()
            finally: os._exit(0)
        os.waitpid(pid, 0); orphans += 1
    except OSError: break
tried(made)
"""
_RECURSION = """
import threading
sys.setrecursionlimit(10**7)
def down(n): return down(n + 1) + [n][0]
class Nest:
    def __repr__(self): return repr([self])
try: down(0)
except (RecursionError, MemoryError): pass
try: repr(Nest())
except (RecursionError, MemoryError): pass
import ast
try: compile("(" * 100_000, "x", "eval")
except (RecursionError, MemoryError, SyntaxError): pass
"""
_ABORT = """
held = bytearray(128 << 20)
import resource
try: resource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30)); harm("raised its limit on core files")
except (ValueError, OSError): pass
print("dying", flush=True)
os.abort()
"""

_QUIET = replace(SMALL, output_bytes=1 << 20)

ROWS = (
    Row(
        "A01", "P1", "fork bomb in bash",
        (Step("bomb() { bomb | bomb & }; bomb; wait; sleep 30", "sh", ("timeout", "exit_nonzero", "killed", "oom", "ok"), 3.0),),
        needs=("pids-group",), check=ends_within(3.0),
    ),
    Row(
        "A02", "P1", "fork bomb whose children leave their session and parent",
        (Step(_FORKS, expect=("timeout", "killed", "oom"), timeout=3.0), _AFTER), needs=("pids-group",), check=goes_on,
    ),
    Row("A03", "P1", "thread bomb", (Step(_THREADS), _AFTER), needs=("pids-group",), check=goes_on),
    Row(
        "A05", "P0", "more memory than its limit, over many processes",
        (Step(_MEMORY_TOGETHER, expect=("ok", "oom", "killed", "exit_nonzero"), timeout=30.0),),
        needs=("memory-group",), off=("memory-of-the-group",),
    ),
    Row("A06", "P1", "fills its file systems in memory", (Step(_MEMORY_FILES), _AFTER), check=goes_on),
    Row(
        "A13", "P1", "floods its output",
        (Step("while True: print('x' * 1_000_000)", expect=("timeout",), timeout=2.0),), check=cut_short,
    ),
    Row("A14", "P1", "floods stderr, stdout idle", (Step("yes >&2", "sh", ("timeout",), 2.0),), check=cut_short),
    Row("A15", "P1", "prints one line of 100 MB", (Step("print('x' * 100_000_000)", timeout=10), _AFTER), check=lambda seen: cut_short(seen) or goes_on(seen)),
    Row("A18", "P1", "opens descriptors until there are no more", (Step(_DESCRIPTORS), _AFTER), check=goes_on),
    Row("A19", "P1", "spins on every CPU", (Step(_SPIN, expect=("timeout",), timeout=3.0), _AFTER), check=goes_on),
    Row("A20", "P1", "sleeps past its time-out", (Step("time.sleep(10**8)", expect=("timeout",), timeout=1.0), _AFTER), check=lambda seen: ends_within(5.0)(seen) or goes_on(seen)),
    Row("A21", "P1", "ignores every signal that can be ignored", (Step(_STUBBORN, expect=("timeout",), timeout=1.0), _AFTER), check=lambda seen: ends_within(5.0)(seen) or goes_on(seen)),
    Row("A23", "P1", "leaves a daemon behind that closed everything", (Step(_DAEMON), _AFTER), check=goes_on),
    Row("A24", "P1", "ends while its child still holds its output", (Step("sleep 1000 & exit 0", "sh"),), check=lambda seen: "" if seen[0].seconds < 3 else f"it took {seen[0].seconds:.1f} s"),
    Row("A25", "P1", "leaves zombies and orphans", (Step(_ZOMBIES), _AFTER), check=goes_on),
    Row("A29", "P1", "recurses until its stack is gone", (Step(_RECURSION, expect=("ok", "killed", "exit_nonzero", "oom", "timeout"), timeout=8), _AFTER), check=goes_on),
    Row("A30", "P1", "dies by abort with a large heap", (Step(_ABORT, expect=("killed",)), _AFTER), check=goes_on),
)  # fmt: skip
