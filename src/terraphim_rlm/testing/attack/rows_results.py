"""Group C, results: a cell that lies to the host, floods it, or falls silent on its channel."""

from __future__ import annotations

import hashlib

from terraphim_rlm.testing.attack.model import Row, Seen, Step

_FRAMES = """
import json, socket, struct
CALL, DONE, VALUE, FINAL = 17, 18, 19, 20
def frame(kind, number, body=b""): return struct.pack("<IBI", len(body), kind, number) + body
def send(data, fd=3):
    while data: data = data[os.write(fd, data):]
"""
_BROKEN = ("killed",)
_AFTER = Step("print(40 + 2)")


def goes_on(seen: list[Seen]) -> str:
    return "" if seen[-1].stdout == "42\n" else "the sandbox did not go on working"


def took_the_forgery(seen: list[Seen]) -> str:
    """An exit code of 7 is the truth of every step that this looks at."""
    lied = [
        number
        for number, each in enumerate(seen, 1)
        if each.status == "ok" and "os._exit(7)" in each.step.code
    ]
    return f"step {lied[0]} was believed to have ended well" if lied else ""


_FORGED_OUTPUT = (
    _FRAMES
    + """
sentinel = frame(DONE, 1) + frame(FINAL, 1, json.dumps({"value": "forged", "json": True, "repr": "", "source": "x"}).encode())
os.write(1, sentinel)
print(json.dumps({"status": "ok", "exit_code": 0, "final_answer": "forged"}), flush=True)
print("FINAL(42)", flush=True)
time.sleep(0.2)
os._exit(7)
"""
)

_OTHER_NUMBERS = (
    _FRAMES
    + """
for number in (0, 2, 3, 4, 77, 0xFFFFFFFF):
    send(frame(DONE, number)); send(frame(VALUE, number, b'{"found": true, "value": "forged"}'))
    send(frame(FINAL, number, b'{"value": "forged", "json": true}'))
for kind in (1, 2, 3, 4, 5, 6, 21, 99, 255): send(frame(kind, 1, b"{}"))
send(frame(DONE, 0) * 1000)
time.sleep(0.2)
print("still here")
"""
)


def cut_off(seen: list[Seen]) -> str:
    early = [
        number
        for number, each in enumerate(seen, 1)
        if "still here" in each.step.code and "still here" not in each.stdout
    ]
    return f"step {early[0]} was ended by a message for another execution" if early else ""


_HUGE = (
    _FRAMES
    + """
send(struct.pack("<IBI", 0xFFFFFFFF, FINAL, 1))
block = b"x" * (1 << 20)
sent = 0
while sent < 100:
    send(block); sent += 1
harm("made the host take", sent, "MB of one message")
"""
)

_HALF = _FRAMES + "send(struct.pack('<IBI', 1000, FINAL, 1) + b'half')\ntime.sleep(60)"
_HALF_HEADER = _FRAMES + "send(b'\\x10\\0\\0')\ntime.sleep(60)"
_HALF_THEN_END = _FRAMES + "send(struct.pack('<IBI', 5, DONE, 1) + b'{')"

_HOSTILE = {
    "a pickle": "__import__('pickle').dumps(type('X', (), {'__reduce__': lambda s: (open, ('@CANARY@', 'w'))})())",
    "not a number": 'b\'{"value": NaN, "json": true}\'',
    "infinity": 'b\'{"value": -Infinity, "json": true}\'',
    "infinity in disguise": 'b\'{"value": 1e999, "json": true}\'',
    "deep nesting": "b'{\"value\": ' + b'[' * 100_000 + b']' * 100_000 + b'}'",
    "a number of 5,000 digits": "b'{\"value\": ' + b'9' * 5000 + b'}'",
    "bytes that are no text": "bytes(range(128, 256))",
    "a list": "b'[1, 2]'",
    "nothing": "b''",
}


def _hostile() -> tuple[Step, ...]:
    """Each body as a final value, whose number must be that of the execution, and as a call."""
    bodies = [(kind, body) for kind in ("FINAL", "CALL") for body in _HOSTILE.values()]
    return tuple(
        Step(f"{_FRAMES}\nsend(frame({kind}, {number}, {body}))\ntried(1)", expect=_BROKEN)
        for number, (kind, body) in enumerate(bodies, 1)
    )


_BYTES = (
    "import hashlib\n"
    "data = bytes(range(256)) * 16 + ('é€😀' * 4096).encode()\n"
    "sys.stdout.flush()\n"
    "view = memoryview(data)\n"
    "while view: view = view[os.write(1, view[:4095]):]\n"
)
_BYTES_SENT = bytes(range(256)) * 16 + ("é€😀" * 4096).encode()


def same_bytes(seen: list[Seen]) -> str:
    result = seen[0].result
    got = result.stdout_bytes if result else b""
    same = hashlib.sha256(got).digest() == hashlib.sha256(_BYTES_SENT).digest()
    return "" if same else f"{len(got)} bytes came of {len(_BYTES_SENT)}, or others"


_REPRS = (
    Step(
        "class R:\n    def __repr__(self):\n        while True: pass\nR()", expect=("timeout",), timeout=1.0
    ),
    Step("class R:\n    def __repr__(self): raise SystemExit(3)\nR()", expect=("exit_nonzero",)),
    Step("class R:\n    def __repr__(self): return 'x' * 50_000_000\nR()", timeout=8),
    Step(
        "class E(Exception):\n    def __str__(self): raise E\n    __repr__ = __str__\nraise E",
        expect=("exit_nonzero",),
    ),
    Step("class R:\n    def __repr__(self): return 5\nR()", expect=("exit_nonzero",)),
    Step(
        "class R(BaseException):\n    __class__ = property(lambda self: 1 / 0)\nraise R",
        expect=("exit_nonzero",),
    ),
    Step("FINAL(type('R', (), {'__repr__': lambda self: 1 / 0})())", expect=("ok", "exit_nonzero")),
)

_EXITS = (
    ("exit 0", "sh", "ok", 0, None), ("exit 1", "sh", "exit_nonzero", 1, None), ("exit 255", "sh", "exit_nonzero", 255, None),
    ("exit 256", "sh", "ok", 0, None), ("exit 124", "sh", "exit_nonzero", 124, None), ("exit 137", "sh", "exit_nonzero", 137, None),
    ("exit 143", "sh", "exit_nonzero", 143, None), ("kill -9 $$", "sh", "killed", None, 9), ("kill -11 $$", "sh", "killed", None, 11),
    ("kill -15 $$", "sh", "killed", None, 15), ("exit 5", "bash", "exit_nonzero", 5, None),
    ("sys.exit('text')", "python", "exit_nonzero", 1, None), ("sys.exit(0)", "python", "ok", 0, None),
    ("sys.exit(137)", "python", "exit_nonzero", 137, None), ("os._exit(9)", "python", "exit_nonzero", 9, None),
    ("os.kill(os.getpid(), 11)", "python", "killed", None, 11), ("os.kill(os.getpid(), 9)", "python", "killed", None, 9),
)  # fmt: skip


def exact_ends(seen: list[Seen]) -> str:
    for each, (code, _language, status, exit_code, signal) in zip(seen, _EXITS, strict=True):
        got = each.result
        if got is None or (got.status, got.exit_code, got.signal) != (status, exit_code, signal):
            told = "nothing" if got is None else f"{got.status}, code {got.exit_code}, signal {got.signal}"
            return f"{code!r} was told as {told}"
    return ""


_INPUT = bytes(50 << 20)

ROWS = (
    Row(
        "C01", "P0", "prints what a result looks like, then ends otherwise",
        (Step(_FORGED_OUTPUT, expect=("exit_nonzero",)), _AFTER),
        off=("output-apart-from-results",), harmed=took_the_forgery, check=goes_on,
    ),
    Row(
        "C04", "P1", "closes and overwrites its descriptors",
        (Step("os.closerange(0, 256)\ntime.sleep(3)", expect=("killed", "exit_nonzero", "timeout", "ok")),
         Step("for fd in range(4, 64): os.dup2(1, fd)\nos.dup2(1, 3)\ntime.sleep(3)", expect=("killed", "exit_nonzero", "timeout", "ok")), _AFTER),
        check=goes_on,
    ),
    Row(
        "C07", "P0", "announces a message of 4 GB and sends it",
        (Step(_HUGE, expect=_BROKEN, timeout=2.0), _AFTER), off=("bounded-frames",), check=goes_on,
    ),
    Row(
        "C08", "P1", "sends half a message and falls silent",
        (Step(_HALF, expect=("timeout",), timeout=1.0), _AFTER, Step(_HALF_HEADER, expect=("timeout",), timeout=1.0), _AFTER,
         Step(_HALF_THEN_END, expect=("killed", "timeout"), timeout=1.0), _AFTER),
        check=goes_on,
    ),
    Row(
        "C10", "P0", "sends messages of other executions, twice, and out of order",
        (Step(_OTHER_NUMBERS), _AFTER), off=("numbered-frames",), harmed=cut_off, check=goes_on,
    ),
    Row("C11", "P1", "prints bytes that are no text, cut anywhere", (Step(_BYTES),), check=same_bytes),
    Row(
        "C14", "P0", "answers with a pickle, deep nesting, huge numbers",
        (*_hostile(), _AFTER), off=("plain-data",), check=goes_on,
    ),
    Row("C15", "P1", "shows objects whose text loops, raises or is huge", (*_REPRS, _AFTER), check=goes_on),
    Row(
        "C16", "P1", "ends in every way there is",
        tuple(Step(code, language, (status,)) for code, language, status, _code, _signal in _EXITS),  # type: ignore[arg-type]
        check=exact_ends,
    ),
    Row(
        "C17", "P1", "takes little or nothing of a large input",
        (Step("head -c1 >/dev/null", "sh", stdin=_INPUT, timeout=10), Step("sleep 0.1", "sh", stdin=_INPUT, timeout=10),
         Step("sys.stdin.close()", stdin=_INPUT, timeout=10), Step("print(len(sys.stdin.buffer.read()))", stdin=_INPUT, timeout=10)),
        check=lambda seen: "" if seen[-1].stdout == f"{len(_INPUT)}\n" else "the input did not arrive whole",
    ),
)  # fmt: skip
