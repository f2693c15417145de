"""A script, and the model that plays it. Standard library only: it also runs in the environments of other engines.

A script is JSON:

    {"question", "context": {"text" | "base64" | "json" | "repeat": [text, times]},
     "turns": [[marker, [step, ..]], ..],      # a conversation that holds the marker gets these, the last ones for ever
     "subs": [[text, reply], ..],              # a sub-call whose prompt holds the text; "" fits all
     "latency": seconds of a sub-call, "fail_first": sub-calls that fail before one succeeds,
     "limits": {"turns", "seconds", "calls", "tokens"}}

A step is `{"code", "final"}`: a cell, and the expression that it gives as the answer, if any; or `{"text"}`: the reply
as it stands. A reply `{"fail": status}` in place of a text is a provider's failure.
"""

from __future__ import annotations

import base64
import threading
import time
from typing import Any

_MOST_TOLD = 40
_MOST_TEXT = 60_000


class ProviderFailed(Exception):
    """What a provider's failure is where an engine gives no class for it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the provider answered {status}")
        self.status_code = status


class Play:
    """The model of one script. Safe for threads.

    Args:
        script: see the module.
        write: a step as this engine's model would write it.
    """

    def __init__(self, script: dict[str, Any], write: Any) -> None:
        self.script = script
        self._write = write
        self._used: dict[str, int] = {}
        self._first: dict[str, int] = {}
        self._lock = threading.Lock()
        self._failed = 0
        self.requests: list[dict[str, Any]] = []
        self.calls = 0

    def reply(self, messages: list[dict[str, Any]]) -> str:
        """What the model says to a conversation; raises `ProviderFailed`. Waits for nothing."""
        with self._lock:
            self.calls += 1
            turns = self._turns(messages)
            if turns is not None:
                return self._turn(*turns, messages)
            self._note("query", messages)
            return self._sub("\n".join(str(message["content"]) for message in messages))

    def _turns(self, messages: list[dict[str, Any]]) -> tuple[str, list[Any]] | None:
        """Marker and steps of the node whose conversation this is; None for a sub-call.

        Some engines show a child node nothing of its question: a conversation of several messages is that of the
        last node of the script.
        """
        whole = "\n".join(str(message["content"]) for message in messages)
        turns = self.script.get("turns", [])
        for marker, steps in turns:
            if marker in whole:
                return marker, steps
        return tuple(turns[-1]) if len(messages) > 1 and len(turns) > 1 else None

    def _turn(self, marker: str, steps: list[Any], messages: list[dict[str, Any]]) -> str:
        self._note(marker, messages)
        used = self._used.get(marker, 0)
        self._used[marker] = used + 1
        if (
            marker != self.script["turns"][0][0]
        ):  # several nodes may follow these steps: each is where its model is
            used = sum(message["role"] == "assistant" for message in messages)
            first = self._first.setdefault(marker, used)  # some engines begin with a message of their own
            used -= first
        return str(self._write(steps[min(used, len(steps) - 1)]))

    def _sub(self, prompt: str) -> str:
        if self._failed < self.script.get("fail_first", 0):
            self._failed += 1
            raise ProviderFailed(503)
        for text, reply in self.script.get("subs", []):
            if text in prompt:
                if isinstance(reply, dict):
                    raise ProviderFailed(int(reply["fail"]))
                return str(reply).replace("{prompt}", prompt)
        return "yes"

    def is_sub(self, messages: list[dict[str, Any]]) -> bool:
        """Whether a conversation is a sub-call: those take `latency`."""
        return self._turns(messages) is None

    def latency(self, messages: list[dict[str, Any]]) -> float:
        """Seconds that the reply to a conversation takes."""
        return float(self.script.get("latency", 0)) if self.is_sub(messages) else 0.0

    def slow_reply(self, messages: list[dict[str, Any]]) -> str:
        """The same, after the script's latency; for engines that call in threads."""
        pause = self.latency(messages)
        if pause:
            time.sleep(pause)
        return self.reply(messages)

    def _note(self, who: str, messages: list[dict[str, Any]]) -> None:
        if len(self.requests) < _MOST_TOLD:
            said = [[str(m["role"]), str(m["content"])[:_MOST_TEXT]] for m in messages]
            self.requests.append({"who": who, "messages": said})


def context_of(script: dict[str, Any]) -> Any:
    """The input that a script names."""
    about: dict[str, Any] = script.get("context") or {"text": "some input"}
    if "base64" in about:
        return base64.b64decode(about["base64"])
    if "json" in about:
        return about["json"]
    if "repeat" in about:
        text, times = about["repeat"]
        return str(text) * int(times)
    return about["text"]
