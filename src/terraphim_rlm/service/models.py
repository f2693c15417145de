"""The use cases of models: the built-in ones on this machine, and a tiny request to any."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from terraphim_rlm.core.values import SCHEMA_VERSION, Usage, to_json
from terraphim_rlm.llm import weights
from terraphim_rlm.llm.client import Message, ModelRequest
from terraphim_rlm.llm.select import open_model
from terraphim_rlm.llm.weights import ModelFiles, Progress

__all__ = [
    "ModelFiles",
    "ModelTest",
    "get_model",
    "list_models",
    "models_to_json",
    "remove_model",
    "try_model",
]

PROMPT = "Reply with the single word: ready"
_MOST_REPLY = 32


@dataclass(frozen=True, slots=True)
class ModelTest:
    """What a model said to one tiny request."""

    model: str
    reply: str
    usage: Usage
    seconds: float
    """From the request to the whole reply; loading a local model counts."""
    local: bool
    """True when the model runs in this process."""

    def to_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


def list_models() -> list[ModelFiles]:
    """Every built-in model, installed or not."""
    return weights.list_models()


def models_to_json(models: list[ModelFiles]) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "models": to_json(models)}


def get_model(name: str, progress: Progress) -> Path:
    """Fetches a built-in model's weights unless they are there and whole. Blocking.

    Raises:
        UnknownModel, ModelUnreachable, ModelNotInstalled, StoreError: see `llm.weights.get`.
    """
    return weights.get(name, progress)


def remove_model(name: str) -> bool:
    """Deletes a built-in model's weights; False when there were none."""
    return weights.remove(name)


async def try_model(name: str | None, *, base_url: str | None = None) -> ModelTest:
    """Sends one tiny request, which costs a few tokens.

    Args:
        name: as `--model` takes it; None = the default one.

    Raises:
        UsageError, ModelError: it cannot be opened, reached or understood.
    """
    model = open_model(name, base_url=base_url)
    try:
        request = ModelRequest((Message("user", PROMPT),), purpose="direct", max_tokens=_MOST_REPLY)
        started = time.monotonic()
        reply = await model.complete(request)
        elapsed = time.monotonic() - started
        return ModelTest(
            model.info.name, reply.text.strip(), reply.usage, round(elapsed, 4), model.info.local
        )
    finally:
        await model.aclose()
