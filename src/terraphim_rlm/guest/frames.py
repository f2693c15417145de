"""Frames of a cell's channel: a 9-byte header `<IBI` (body length, type, id), then the body.

The host never unpickles or evaluates what a cell sends: bodies upward are JSON or empty.
"""

from struct import Struct

HEADER = Struct("<IBI")
MAX_BODY = 64 << 20
"""Bytes of one body, both ways; a longer one ends the cell."""

# host to cell
EXEC = 1  # body: source, UTF-8 with surrogates passed; id: number of the execution
REPLY = 2  # body: JSON value; id: of the call
FAIL = 3  # body: JSON {"type", "message"}; id: of the call
GET = 4  # body: name of a variable; answered by VALUE
CONTEXT = 5  # body: JSON description (see views.py); carries the descriptor of a sealed memory file
PARK = 7  # body: JSON {"roots", "known"}; answered by VALUE: {"problems", "variables"}. See freeze.py
FREEZE = 8  # carries the descriptor of the frozen one's socket; answered by VALUE: {"pid"}
OUTPUT = 10  # body: JSON description as of CONTEXT, and "number"; carries a sealed memory file of what a cell printed
ENTER = 9  # after PARK, or in an interpreter that was frozen; answered by VALUE: {}
OPTIONS = 6  # body: JSON {"env", "cwd", "stdin"} for the next EXEC; carries a descriptor when stdin is given

# cell to host
HELLO = 16
CALL = 17  # body: JSON {"op", ..}; answered by REPLY or FAIL
DONE = 18  # body: empty when the cell ran to its end, else JSON {"type", "message", "traceback", "exit_code", "errno"}
VALUE = 19  # body: JSON; the answer to GET is {"found", "value", "repr", "json"}
FINAL = 20  # body: JSON {"value", "repr", "json", "evidence", "source"}; id: number of the execution


def pack(kind: int, number: int, body: bytes = b"") -> bytes:
    """One frame as bytes."""
    if len(body) > MAX_BODY:
        raise ValueError(f"{len(body):,} bytes are more than a message may hold ({MAX_BODY:,}).")
    return HEADER.pack(len(body), kind, number) + body
