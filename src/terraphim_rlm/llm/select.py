"""From a name that the user writes to a model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from terraphim_rlm.core.config import read_config
from terraphim_rlm.core.errors import ConfigInvalid, InvalidArgument, ModelNotInstalled, UnknownModel
from terraphim_rlm.core.paths import config_file
from terraphim_rlm.llm.client import ModelClient
from terraphim_rlm.llm.providers import PROVIDERS

Opener = Callable[[str, str | None], ModelClient]
"""From what follows the provider's name, and the base URL, to the model."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What the configuration file says of models; None where it says nothing."""

    model: str | None = None
    sub_model: str | None = None
    """The model that answers sub-calls; None = `model`."""
    base_url: str | None = None
    """Of `model`, when that is taken from the file too."""
    speculate: bool = False
    """Whether what a reply will ask for is begun while it still streams."""


def read_settings() -> ModelSettings:
    """`model`, `sub_model`, `base_url` and `speculate` of the configuration file; other keys belong to others.

    Raises:
        ConfigInvalid: the file cannot be read, is not TOML, or one of them is not of its kind.
    """
    path, table = config_file(), read_config()
    found = {field.name: table[field.name] for field in fields(ModelSettings) if field.name in table}
    for key, value in found.items():
        if key == "speculate":
            if not isinstance(value, bool):
                raise ConfigInvalid(f"{path}: speculate must be true or false.", path=str(path), key=key)
        elif not isinstance(value, str) or not value.strip():
            raise ConfigInvalid(
                f'{path}: {key} must be a text, as in: {key} = "ollama/llama3.2:3b".', path=str(path), key=key
            )
    return ModelSettings(**found)


def open_model(name: str | None = None, *, base_url: str | None = None) -> ModelClient:
    """The model called `name`; without one, that of `TRLM_MODEL`, else the configuration file's, else `local`.

    Names: `ollama/N`, `anthropic/N`, `openrouter/N`, `openai/N`, `llamacpp/N`, `vllm/N`, `lmstudio/N`, `local` or `local/N`,
    `scripted:FILE`, `manual:DIR`.

    Args:
        base_url: in place of the provider's own address.

    Raises:
        UnknownModel: no provider answers to that name; the fix has the nearest one.
        KeyMissing: the provider's key is not in the environment.
        ModelNotInstalled: nothing is named, and the built-in model's weights are not there.
        InvalidArgument, ConfigInvalid: the base URL or the configuration file is malformed.
    """
    if name is None:
        name, base_url = _default(base_url)
    name = name.strip()
    for prefix, opener in _OPENERS.items():
        if name.startswith(prefix) and len(name) > len(prefix):
            return opener(name.removeprefix(prefix), base_url)
    if name == "local":
        return _local("smollm2", base_url)
    raise _unknown(name)


def _default(base_url: str | None) -> tuple[str, str | None]:
    if named := os.environ.get("TRLM_MODEL", "").strip():
        return named, base_url
    settings = read_settings()
    if settings.model is not None:
        return settings.model, base_url or settings.base_url
    from terraphim_rlm.llm import weights

    if weights.installed_path("smollm2") is not None:
        return "local", base_url
    raise ModelNotInstalled(
        "No model is named, and the built-in one is not on this machine.",
        fix='Name one (`--model ollama/llama3.2:3b`, or TRLM_MODEL), write `model = ".."` into '
        f"{config_file()}, or get the built-in one: `trlm models get smollm2`.",
    )


def _unknown(name: str) -> UnknownModel:
    forms = [*_OPENERS, "local"]
    provider, slash, model = name.partition("/")
    near = difflib.get_close_matches(f"{provider}{slash}", forms, n=1, cutoff=0.5)
    if name in _OPENERS:
        return UnknownModel(f"{name!r} names no model.", fix=f"Write it as {name}NAME.", name=name)
    if f"{name}/" in _OPENERS:
        return UnknownModel(
            f"{name!r} is a provider, not a model.", fix=f"Write it as {name}/NAME.", name=name
        )
    suggestion = f"Did you mean {near[0]}{model}? " if near else ""
    if not slash and ":/" not in name and not near:
        suggestion = f"Name its provider too, as in openai/{name[:80]} or ollama/{name[:80]}. "
    return UnknownModel(
        f"No model is called {name[:200]!r}.",
        fix=f"{suggestion}The forms are {', '.join(_forms())}.",
        name=name[:200],
    )


def _forms() -> list[str]:
    """Each form with its placeholder, as it would be typed."""
    holes = {"scripted:": "FILE", "manual:": "DIR"}
    return ["local", *(f"{prefix}{holes.get(prefix, 'NAME')}" for prefix in _OPENERS if prefix != "local/")]


def _local(rest: str, base_url: str | None) -> ModelClient:
    from terraphim_rlm.llm.local import LocalModel

    _refuse_base_url("local", base_url)
    return LocalModel(rest)


def _scripted(rest: str, base_url: str | None) -> ModelClient:
    from terraphim_rlm.llm.scripted import ScriptedModel

    _refuse_base_url("scripted", base_url)
    return ScriptedModel.from_file(Path(rest).expanduser())


def _manual(rest: str, base_url: str | None) -> ModelClient:
    from terraphim_rlm.llm.manual import ManualModel

    _refuse_base_url("manual", base_url)
    return ManualModel(Path(rest).expanduser())


def _ollama(rest: str, base_url: str | None) -> ModelClient:
    from terraphim_rlm.llm.ollama import OllamaModel

    return OllamaModel(rest, base_url=base_url)


def _openai_compatible(provider: str) -> Opener:
    def open_one(rest: str, base_url: str | None) -> ModelClient:
        from terraphim_rlm.llm.openai_compatible import OpenAICompatible

        return OpenAICompatible(PROVIDERS[provider], rest, base_url=base_url)

    return open_one


def _anthropic(rest: str, base_url: str | None) -> ModelClient:
    from terraphim_rlm.llm.anthropic import AnthropicModel

    return AnthropicModel(rest, base_url=base_url)


def _refuse_base_url(kind: str, base_url: str | None) -> None:
    if base_url is not None:
        raise InvalidArgument(
            f"A {kind} model has no base URL.", fix="Leave --base-url out, or name a model as provider/model."
        )


_OPENERS: dict[str, Opener] = {
    "scripted:": _scripted,
    "manual:": _manual,
    "local/": _local,
    "ollama/": _ollama,
    "anthropic/": _anthropic,
    **{f"{provider}/": _openai_compatible(provider) for provider in PROVIDERS},
}
