"""Where things lie on disk: data, configuration, sockets."""

from __future__ import annotations

import os
from pathlib import Path

_NAME = "terraphim-rlm"


def data_dir() -> Path:
    """`$TRLM_DATA`, else `$XDG_DATA_HOME/terraphim-rlm`, else `~/.local/share/terraphim-rlm`."""
    if own := os.environ.get("TRLM_DATA"):
        return Path(own)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / _NAME


def config_file() -> Path:
    """`$TRLM_CONFIG`, else `config.toml` below `$XDG_CONFIG_HOME/terraphim-rlm`."""
    if own := os.environ.get("TRLM_CONFIG"):
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / _NAME / "config.toml"
