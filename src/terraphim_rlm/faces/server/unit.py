"""A systemd unit for the daemon."""

from __future__ import annotations

from pathlib import Path

_LONGER = 30
"""Seconds after draining until systemd may kill: sessions are ended and written down within them."""
_UNIT = """\
# Of one user: ~/.config/systemd/user/terraphim-rlm.service, then `systemctl --user enable --now terraphim-rlm`.
# `loginctl enable-linger` lets it run without a login. Keys of model providers: `systemctl --user edit terraphim-rlm`,
# with EnvironmentFile= naming a file of mode 0600.
[Unit]
Description=Terraphim RLM
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
ExecStart={python} -P -c "from terraphim_rlm.faces.cli import main; main()" serve --idle-seconds 0 --drain-seconds {drain:g}
Environment={data}
Restart=on-failure
RestartSec=1
TimeoutStopSec={stop:g}
KillMode=mixed
Delegate=yes
LimitNOFILE=1048576
UMask=0077

[Install]
WantedBy=default.target
"""


def unit(python: Path, data: Path, drain_seconds: float) -> str:
    """The text of a unit that serves `data` with the package of `python`."""
    return _UNIT.format(
        python=_quoted(str(python)),
        data=_quoted(f"TRLM_DATA={data}"),
        drain=drain_seconds,
        stop=drain_seconds + _LONGER,
    )


def _quoted(text: str) -> str:
    """One word of a unit file, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
