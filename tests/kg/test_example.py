"""The worked example of docs/knowledge-graph.md: real documents, fetched by the project's own script, and a run over them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
SCRIPT = HOME / "scripts" / "example-graph"


def example(folder: Path, data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TRLM_DATA": str(data), "TRLM_CONFIG": str(data / "none")}
    return subprocess.run(
        [str(SCRIPT), str(folder), *more], capture_output=True, text=True, timeout=100, check=False, env=env, stdin=subprocess.DEVNULL
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (HOME / ".venv" / "bin" / "trlm").exists():
        pytest.skip("this checkout has no .venv: scripts/setup makes it")
    place = tmp_path_factory.mktemp("example")
    built = example(place, place / "data")
    if (built.returncode and "pip" in built.stderr + built.stdout) or "Could not" in built.stderr:
        pytest.skip(f"Starlette's documents cannot be had: {built.stderr.strip().splitlines()[-1:]}")
    assert built.returncode == 0, built.stderr
    return place


@pytest.mark.sandbox
def test_the_documents_become_a_graph_and_a_scripted_model_is_held_to_it(
    folder: Path, tmp_path: Path
) -> None:
    graph = json.loads((folder / "starlette.kg.json").read_text())
    assert len(graph["graph"]["documents"]) >= 20
    assert graph["data"]["background task"]["nterm"] == graph["data"]["BackgroundTasks"]["nterm"]

    refused = example(folder, tmp_path, "--run", "--json")
    assert refused.returncode == 10
    [error] = json.loads(refused.stdout[refused.stdout.index("{") :])["errors"]
    assert (error["code"], error["details"]["unknown"]) == ("E504", ["jobs", "lines"])

    warned = example(folder, tmp_path, "--run", "--strictness", "permissive", "--json")
    assert warned.returncode == 0
    answer = json.loads(warned.stdout[warned.stdout.index("{") :])["data"]
    assert "will run only once the response has been sent" in answer["text"]
    assert answer["confidence"] == "verified"
