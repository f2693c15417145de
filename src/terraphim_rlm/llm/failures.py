"""A provider's refusals, by status and body, as our errors. Which are worth another try: `retry.TABLE`."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from terraphim_rlm.core.errors import (
    ModelAuth,
    ModelError,
    ModelProtocol,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnreachable,
    PromptTooLong,
)

SHOWN = 300
"""Characters of a provider's own message that are repeated."""


@dataclass(frozen=True, slots=True)
class _Case:
    statuses: frozenset[int]
    sign: re.Pattern[str] | None
    """Must be found in the body; None = whatever it says."""
    error: type[ModelError]
    what: str
    fix: str = ""


def _case(statuses: str, sign: str | None, error: type[ModelError], what: str, fix: str = "") -> _Case:
    codes = frozenset(int(code) for code in statuses.split())
    return _Case(codes, re.compile(sign, re.IGNORECASE) if sign else None, error, what, fix)


_TOO_LONG = r"context_length|context (?:length|size|window)|maximum context|too many tokens|prompt is too long|exceed_context"
_CASES = (
    _case("400 413 422 500", _TOO_LONG, PromptTooLong, "says that the prompt is longer than the model's window"),
    _case("413", None, PromptTooLong, "says that the request is too large"),
    _case("400 403", r"content_filter|content_policy|moderation|safety", ModelRefused, "refused the prompt"),
    _case("402", None, ModelAuth, "wants to be paid", "Add credit to the provider's account, or name another model."),
    _case("400 403", r"credit balance|billing", ModelAuth, "says that the account has no credit",
          "Add credit to the provider's account, or name another model."),
    _case("429", r"insufficient_quota|billing|credit", ModelAuth, "says that the account's quota is used up",
          "Add credit to the provider's account, or name another model."),
    _case("401 403", None, ModelAuth, "does not accept the key"),
    _case("404", None, ModelAuth, "has no such model, or not for this key", "Check the model's name and the base URL."),
    _case("408", None, ModelTimeout, "gave up waiting"),
    _case("409 425 429", None, ModelRateLimited, "limits our rate"),
    _case("500 502 503 504 520 521 522 523 524 529", None, ModelUnreachable, "is out of order or overloaded",
          "Try again later, or name another model."),
)  # fmt: skip


def from_status(status: int, body: str, headers: Mapping[str, str], base_url: str) -> ModelError:
    """The error of a reply whose status is not 200.

    Args:
        body: its text, already without the key.
    """
    said = message_of(body)
    details: dict[str, Any] = {"status": status, "base_url": base_url}
    if (wait := retry_after(headers)) is not None:
        details["retry_after"] = wait
    for case in _CASES:
        if status in case.statuses and (case.sign is None or case.sign.search(body)):
            return case.error(f"{base_url} {case.what} (HTTP {status}): {said}", fix=case.fix, **details)
    if 300 <= status < 400:
        return ModelProtocol(f"{base_url} redirects (HTTP {status}), which is not followed.", **details)
    return ModelProtocol(f"{base_url} answered HTTP {status}: {said}", **details)


def from_error_field(error: Any, base_url: str) -> ModelError:
    """The error inside a reply of status 200: some providers begin a stream before they fail."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) and 300 <= code < 600 else 500
    return from_status(status, json.dumps({"error": error}, default=str), {}, base_url)


def json_object(text: str, base_url: str, protocol: str) -> dict[str, Any]:
    """What a provider sent, which must be one JSON object.

    Args:
        protocol: whose it should have been, for the error.

    Raises:
        ModelProtocol: it is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelProtocol(f"{base_url} does not speak {protocol}: {text[:80]!r} is not JSON") from error
    if not isinstance(found, dict):
        raise ModelProtocol(f"{base_url} does not speak {protocol}: {text[:80]!r} is no object")
    return found


def message_of(body: str) -> str:
    """What a person should read of an error's body, bounded, on one line."""
    text = body
    try:
        found = json.loads(body)
        error = found.get("error", found) if isinstance(found, dict) else body
        text = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    except (ValueError, RecursionError):
        pass
    return (
        " ".join("".join(c if c.isprintable() else " " for c in text[: SHOWN * 4]).split())[:SHOWN]
        or "(no message)"
    )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a provider asks to wait: `retry-after-ms`, or `Retry-After` as seconds or as a date (RFC 9110)."""
    millis, value = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if millis is not None:
            return _sane(float(millis) / 1000)
        return None if value is None else _sane(float(value))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(value or "")
        return _sane(date.timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, OverflowError):
        return None


def _sane(seconds: float) -> float | None:
    return None if math.isnan(seconds) else min(max(seconds, 0.0), 1e9)
