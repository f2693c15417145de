"""The conversation with one model: appended to, never edited, so that a provider's cache of the prefix holds.

The one exception is compaction: when the model's window nears its end, everything behind the system prompt is
replaced by one message that the host writes. What was cacheable then is cacheable up to the system prompt.
"""

from __future__ import annotations

import re
import secrets

from terraphim_rlm.engine.neutral import neutralise
from terraphim_rlm.llm.client import Message
from terraphim_rlm.llm.tokens import estimate, estimate_messages

FULL = 0.8
"""Share of the room for prompts at which a transcript is compacted: our estimate of tokens may be too low."""
_PLAN = 1_500
"""Characters of the model's own words that compaction keeps, of its first reply and of its last each."""
_FENCED = re.compile(r"^[ \t]*(```+|~~~+)[^\n]*\n.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def new_mark() -> str:
    """A run's mark: lines of the host carry it, and nobody outside the host can guess it."""
    return secrets.token_hex(4)


class Transcript:
    """Messages of one node."""

    def __init__(self, system: str) -> None:
        self._messages = [Message("system", system)]
        self._plan = self._last = ""
        self.compactions = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    @property
    def tokens(self) -> int:
        """Of all of it, by our estimate."""
        return estimate_messages(self._messages)

    def tell(self, text: str) -> None:
        """What the host says next."""
        self._messages.append(Message("user", text))

    def heard(self, text: str) -> None:
        """What the model replied."""
        self._messages.append(Message("assistant", text))
        said = _FENCED.sub(" ", text).strip()
        if said:
            self._plan, self._last = self._plan or said, said

    def is_full(self, room: int, said: str) -> bool:
        """Whether `said` should follow only after compaction, for a model with `room` tokens for prompts."""
        return len(self._messages) > 2 and self.tokens + estimate(said) > FULL * room

    def compact(self, opening: str, variables: str, said: str) -> None:
        """Starts again behind the system prompt, with what the model needs to go on.

        Args:
            opening: the question and what the input is, as the first message had it.
            variables: names and sizes, one a line.
            said: the message that would have come next.
        """
        parts = [opening, _REMOVED.format(variables=variables or "  (none)")]
        if self._plan:
            parts.append(f"Your plan was: {neutralise(self._plan, _PLAN)}")
        if self._last != self._plan:
            parts.append(f"What you said last: {neutralise(self._last, _PLAN)}")
        del self._messages[1:]
        self.tell("\n\n".join([*parts, said]))
        self.compactions += 1


_REMOVED = (
    "The turns before this one were removed to make room in your window. The interpreter has not changed; "
    "it holds `context` and these variables:\n{variables}"
)
