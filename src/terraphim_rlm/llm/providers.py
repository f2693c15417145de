"""Where the providers are and what each wants, as a table; and what a base URL may be."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from terraphim_rlm.core.errors import InvalidArgument, KeyMissing

FORBID_NETWORK = "TRLM_FORBID_NETWORK_MODELS"
"""Set to 1, only providers on this machine's loopback are called. Tests set it."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One service."""

    name: str
    base_url: str
    key_env: str | None = None
    """Environment variable of the key; None = none is sent."""
    key_required: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """More fields of every request's body."""
    max_tokens_field: str = "max_tokens"
    takes_grammar: bool = False
    """Whether a GBNF `grammar` in the body is obeyed."""
    takes_anchors: bool = False
    """Whether it passes `cache_control` on to models that want to be told what to cache."""
    key_header: tuple[str, str] = ("Authorization", "Bearer {key}")
    """Name and form of the header that carries the key."""


PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            "openai",
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            key_required=True,
            max_tokens_field="max_completion_tokens",
        ),
        Provider(
            "openrouter",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
            key_required=True,
            headers={"X-Title": "terraphim-rlm"},
            extra={"usage": {"include": True}},
            takes_anchors=True,
        ),
        Provider("llamacpp", "http://127.0.0.1:8080/v1", takes_grammar=True),
        Provider("vllm", "http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
        Provider("lmstudio", "http://127.0.0.1:1234/v1"),
    )
}

ANTHROPIC = Provider(
    "anthropic",
    "https://api.anthropic.com/v1",
    "ANTHROPIC_API_KEY",
    key_required=True,
    headers={"anthropic-version": "2023-06-01"},
    key_header=("x-api-key", "{key}"),
)
"""Speaks a format of its own; see `anthropic`."""


class Key:
    """A provider's key. Never printed: only `reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def scrub(self, text: str) -> str:
        """`text` without the key; some providers repeat it in their errors."""
        return text.replace(self._value, "***") if self._value else text

    def __repr__(self) -> str:
        return "Key(***)" if self._value else "Key()"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A key is not copied out of its process.")


def key_for(provider: Provider, base_url: str) -> Key:
    """The provider's key from the environment; an empty one where none is needed.

    With a base URL of the user's own, the key is optional, and sent only where nobody on the way can read it.

    Raises:
        KeyMissing: it is needed and not there, or holds what a header cannot carry.
    """
    own = base_url == provider.base_url
    value = os.environ.get(provider.key_env or "", "").strip()
    if not value and provider.key_required and own:
        raise KeyMissing(
            f"{provider.name} needs a key, and {provider.key_env} is not set.",
            fix=f"Run: export {provider.key_env}=YOUR_KEY",
            variable=provider.key_env,
        )
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise KeyMissing(
            f"The key in {provider.key_env} has characters that no key has (a space, a line break or a letter beyond ASCII).",
            variable=provider.key_env,
        )
    safe = own or base_url.startswith("https:") or is_loopback(base_url)
    return Key(value if safe else "")


def checked_base_url(url: str) -> str:
    """`url` without a trailing slash.

    Raises:
        InvalidArgument: it is no http(s) URL, holds a login, or is off this machine while that is forbidden.
    """
    parts = urlsplit(url.strip())
    try:
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        port_ok = False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        raise InvalidArgument(
            f"The base URL {url!r} is not an http or https address.",
            fix="Give it as http://127.0.0.1:8000/v1.",
        )
    if parts.username or parts.password:
        raise InvalidArgument(
            "The base URL holds a login.", fix="Put the key into the provider's environment variable."
        )
    clean = url.strip().rstrip("/")
    if os.environ.get(FORBID_NETWORK) == "1" and not is_loopback(clean):
        raise InvalidArgument(
            f"{FORBID_NETWORK}=1 forbids calling a model at {parts.hostname}.",
            fix=f"Use a double or a server on 127.0.0.1, or unset {FORBID_NETWORK}.",
            host=parts.hostname,
        )
    return clean


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine itself, by its literal address or the name localhost."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
