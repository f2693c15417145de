"""Where things lie on disk: data, configuration, sockets."""

from __future__ import annotations

import hashlib
import os
import pwd
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


def runtime_dir() -> Path:
    """Where sockets lie: `$XDG_RUNTIME_DIR/terraphim-rlm`, else `run` in the data folder.

    `/tmp` was rejected: anybody may take a name there first. Whoever makes the folder makes it private (0700).
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(base) / _NAME if os.path.isabs(base) else data_dir().absolute() / "run"


def socket_path() -> Path:
    """The socket of the daemon that serves the data folder; each data folder has one of its own.

    The account's usual data folder has the plain name; a hash of its real path tells others apart.
    """
    folder = Path(os.path.realpath(data_dir()))
    try:
        usual = Path(os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)) / ".local/share" / _NAME
    except KeyError:  # an account without an entry
        usual = None
    mark = "" if folder == usual else f"-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    return runtime_dir() / f"trlm{mark}.sock"
