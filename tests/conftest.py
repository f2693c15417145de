"""What every test shares: asyncio only, and a data folder of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

pytest_plugins = ("rows",)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def temporary_folders_lie_together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chosen before any test sets `TMPDIR`, which would take the folders of all later tests away with its own."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """Also where the tests run in the background of a shell, which has them ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's journal, configuration or models."""
    data = tmp_path / "trlm-data"
    monkeypatch.setenv("TRLM_DATA", str(data))
    monkeypatch.setenv("TRLM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("TRLM_FORBID_NETWORK_MODELS", "1")
    for name in ("TRLM_MODEL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return data
