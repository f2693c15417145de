"""The configuration file, read for whoever has keys in it; what they mean each room says of its own."""

from __future__ import annotations

import tomllib
from typing import Any

from terraphim_rlm.core.errors import ConfigInvalid
from terraphim_rlm.core.paths import config_file


def read_config() -> dict[str, Any]:
    """All that the configuration file says, unchecked; nothing where there is none.

    Raises:
        ConfigInvalid: the file cannot be read, or is not TOML.
    """
    path = config_file()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(
            f"The configuration file {path} cannot be read: {error}", path=str(path)
        ) from error
