"""A living process of an interpreter, with what it speaks through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

from terraphim_rlm.sandbox.link.channel import Channel
from terraphim_rlm.sandbox.link.guest import Child
from terraphim_rlm.sandbox.link.room import Room
from terraphim_rlm.sandbox.link.streams import both


class Body:
    """One process with its channel and its two streams; `end` it.

    Args:
        on_frame: as of `Channel`, after the body.
        on_end: as of `Channel`, after the body.

    Raises:
        SandboxBusy: there is no room for what it needs.
    """

    def __init__(
        self,
        on_frame: Callable[[Body, int, int, bytes], None],
        on_end: Callable[[Body, str | None], None],
        output_bytes: int,
    ) -> None:
        self.child: Child | None = None
        with ExitStack() as undone:
            self.channel = Channel(lambda *frame: on_frame(self, *frame), lambda reason: on_end(self, reason))
            undone.callback(self.channel.close)
            self.streams = both(output_bytes)
            undone.pop_all()

    async def begin(self, make: Callable[[Sequence[int]], Awaitable[Child]]) -> None:
        """Has the process made, by `make` of its standard streams and channel. Closed when that fails."""
        with ExitStack() as undone, Room() as room:
            undone.callback(self.close)
            out, err = self.streams
            self.child = await make((room.null(), out.child_fd, err.child_fd, self.channel.child_fd))
            undone.pop_all()
        self.channel.release_child_end()
        for stream in self.streams:
            stream.release_child_end()
        self.child.exited.add_done_callback(lambda _: self.channel.finish())

    def close(self) -> None:
        self.channel.close()
        for stream in self.streams:
            stream.close()

    def end(self) -> None:
        self.close()
        if self.child is not None:
            self.child.kill()
