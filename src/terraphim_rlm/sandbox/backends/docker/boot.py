"""The way of the guest into a container: its first program reads the rest of itself from its standard input.

Nothing of ours needs to lie in an image, and no path of the host shows inside.
"""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER

from terraphim_rlm.sandbox.backends.bubblewrap import bundle, seccomp
from terraphim_rlm.sandbox.backends.bubblewrap.host import GuestPython

MAGIC_BYTES = len(MAGIC_NUMBER)
_FIRST = """
import marshal, posix
from _frozen_importlib_external import MAGIC_NUMBER
def take(count):
    data = b""
    while len(data) < count:
        piece = posix.read(0, count - len(data))
        if not piece:
            posix._exit(0)
        data += piece
    return data
uname = posix.uname()
banner = (uname.release + " " + uname.version).encode()[:255]
posix.write(1, MAGIC_NUMBER + bytes([len(banner)]) + banner)
sources, start, packed, limits, most, program = marshal.loads(take(int.from_bytes(take(4), "little")))
if sources:
    code = lambda item: compile(item[1], "/trlm/guest/" + item[0], "exec", dont_inherit=True)
    start = marshal.dumps(code(start))
    packed = marshal.dumps({name: marshal.dumps(code(item)) for name, item in packed.items()})
names = {"__name__": "start", "__file__": "/trlm/guest/start.py"}
exec(marshal.loads(start), names)
names["main_of_tunnel"](packed, limits, most, program)
"""
GREETING_BYTES = MAGIC_BYTES + 1
"""Then comes the kernel's release and version, as many bytes as the last one says."""
COMMAND = ("python3", "-I", "-S", "-c", _FIRST)


def parcel(magic: bytes, most: int = 0, guest: Mapping[str, bytes] | None = None) -> bytes:
    """What the first program reads: the guest, compiled where this Python's code runs in the image's.

    Args:
        magic: of the image's Python, as it told.
        most: bytes of memory to which pid 1 holds the sandbox; 0: the kernel does that.
        guest: sources to run in place of the package's own guest; see `SandboxSpec.guest`.
    """
    if guest is None and magic == MAGIC_NUMBER:
        files = bundle.guest_files(GuestPython("", "", (0, 0, 0), MAGIC_NUMBER))
        start, packed = files["start.pyc"][16:], files["pack"]
        body = marshal.dumps((False, start, packed, "", most, seccomp.program()), 2)
    else:
        sources = bundle.sources() if guest is None else dict(guest)
        modules = {
            bundle.module(name): (name, text) for name, text in sources.items() if name.endswith(".py")
        }
        body = marshal.dumps(
            (True, ("start.py", sources["start.py"]), modules, "", most, seccomp.program()), 2
        )
    return len(body).to_bytes(4, "little") + body
