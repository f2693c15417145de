"""From a name to a model: every form, every default, every mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from terraphim_rlm.core.errors import (
    ConfigInvalid,
    InvalidArgument,
    KeyMissing,
    ModelNotInstalled,
    UnknownModel,
)
from terraphim_rlm.core.paths import config_file
from terraphim_rlm.llm import weights
from terraphim_rlm.llm.select import ModelSettings, open_model, read_settings


@pytest.fixture(autouse=True)
def models_of_others_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening calls nobody; nothing in this module asks a model anything."""
    monkeypatch.delenv("TRLM_FORBID_NETWORK_MODELS")


def test_each_provider_opens_under_its_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENROUTER_API_KEY", "k")
    for name in (
        "openai/gpt-5-mini",
        "openrouter/meta/llama-4",
        "ollama/a:1b",
        "llamacpp/x",
        "vllm/x",
        "lmstudio/x",
    ):
        assert open_model(name).info.name == name


@pytest.mark.parametrize(
    ("name", "variable"), [("openai/x", "OPENAI_API_KEY"), ("openrouter/x", "OPENROUTER_API_KEY")]
)
def test_a_missing_key_names_its_variable(name: str, variable: str):
    with pytest.raises(KeyMissing) as caught:
        open_model(name)
    assert caught.value.details == {"variable": variable}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("olama/llama3.2:3b", "ollama/llama3.2:3b"),
        ("openruter/x", "openrouter/x"),
        ("locl", "local"),
        ("scripted", "scripted:"),
        ("ollama", "ollama/NAME"),
        ("ollama/", "ollama/NAME"),
        ("", "The forms are"),
        ("x" * 10_000, "The forms are"),
    ],
)
def test_an_unknown_name_gets_the_nearest_suggestion(name: str, hint: str):
    with pytest.raises(UnknownModel) as caught:
        open_model(name)
    assert hint in caught.value.fix
    assert len(caught.value.message) < 400


def test_an_unknown_built_in_model_is_an_error_too():
    with pytest.raises(UnknownModel):
        open_model("local/gpt")


@pytest.mark.parametrize("name", ["local", "scripted:x", "manual:x"])
def test_a_base_url_where_none_can_be_is_an_error(name: str):
    with pytest.raises(InvalidArgument):
        open_model(name, base_url="http://127.0.0.1:1")


def test_the_environment_wins_over_the_file_and_the_file_over_local(monkeypatch: pytest.MonkeyPatch):
    config_file().write_text('model = "ollama/from-file"\nbase_url = "http://127.0.0.1:7"\n[other]\nx = 1\n')
    model = open_model()
    assert (model.info.name, model._connection.base_url) == ("ollama/from-file", "http://127.0.0.1:7")
    monkeypatch.setenv("TRLM_MODEL", "ollama/from-env")
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    model = open_model()
    assert (model.info.name, model._connection.base_url) == ("ollama/from-env", "http://127.0.0.1:11434")
    assert open_model("ollama/from-line").info.name == "ollama/from-line"


def test_with_nothing_named_and_no_weights_the_error_names_the_three_ways():
    with pytest.raises(ModelNotInstalled) as caught:
        open_model()
    for way in ("--model", "TRLM_MODEL", str(config_file()), "trlm models get smollm2"):
        assert way in caught.value.fix


def test_with_nothing_named_the_built_in_model_is_taken_if_its_weights_are_there():
    known = weights.KNOWN["smollm2"]
    path = weights.models_dir() / "smollm2" / known.file_name
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(known.bytes)
    assert open_model().info.name == open_model("local").info.name == "local/smollm2"


def test_the_file_says_what_it_says():
    assert read_settings() == ModelSettings()
    config_file().write_text('sub_model = "ollama/b"')
    assert read_settings() == ModelSettings(sub_model="ollama/b")


@pytest.mark.parametrize("text", ["model = ", "model = 3", 'model = " "', "base_url = []"])
def test_a_malformed_file_is_an_error_that_names_it(text: str):
    config_file().write_text(text)
    with pytest.raises(ConfigInvalid) as caught:
        open_model()
    assert str(config_file()) in caught.value.message


def test_opening_a_model_starts_nothing_and_imports_nothing_heavy(tmp_path: Path):
    program = (
        "import sys; import terraphim_rlm.llm.select as s; s.open_model('ollama/x');"
        "import terraphim_rlm.testing, terraphim_rlm.llm.local;"
        "print(sorted({'httpx2', 'xllamacpp', 'genai_prices', 'pytest'} & set(sys.modules)))"
    )
    env = {**os.environ, "TRLM_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env
    )
    assert done.stdout == "[]\n"
