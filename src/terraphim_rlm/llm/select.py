"""From a name that the user writes to a model."""

from __future__ import annotations

from collections.abc import Callable

from terraphim_rlm.core.errors import UnknownModel
from terraphim_rlm.llm.client import ModelClient


def _scripted(rest: str) -> ModelClient:
    from terraphim_rlm.llm.scripted import ScriptedModel

    return ScriptedModel.from_file(rest)


def _local(rest: str) -> ModelClient:
    from terraphim_rlm.llm.local import DEFAULT_MODEL, LocalModel

    return LocalModel(rest.removeprefix("/") or DEFAULT_MODEL)


_BY_PREFIX: dict[str, Callable[[str], ModelClient]] = {"scripted:": _scripted, "local": _local}


def open_model(name: str | None = None, *, base_url: str | None = None) -> ModelClient:
    """The model called `name`.

    Raises:
        UnknownModel: no provider answers to that name.
    """
    for prefix, opener in _BY_PREFIX.items():
        if name and name.startswith(prefix):
            return opener(name.removeprefix(prefix))
    raise UnknownModel(f"No model is called {name!r}.", name=name)
