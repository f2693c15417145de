"""The laboratory: what a row may try to reach on its host, all of it made for the purpose and watched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from terraphim_rlm.core import process
from terraphim_rlm.sandbox.backends.bubblewrap import host

SECRET_NAME = "TRLM_ATTACK_SECRET"  # noqa: S105 - the name of a canary
_VICTIM = "import signal; print(flush=True); signal.pause()"


class Lab:
    """Canaries, a victim process and listeners. A context manager; leaving it removes all of it.

    While it stands, this process's temporary and data folders lie in it, so that whatever the product leaves
    there is seen, and its environment holds the canary secret.
    """

    def __init__(self, parent: str | None = None) -> None:
        self._stack = ExitStack()
        self._parent = parent
        self.secret = f"canary-{secrets.token_hex(16)}"
        self.root = Path()
        self.canary = self.shared = Path()

    def __enter__(self) -> Self:
        self.root = Path(tempfile.mkdtemp(prefix="trlm-attack-", dir=self._parent))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        self.root.chmod(0o755)  # the sandbox's uid could read the canary, were it in its view
        for name, mode in (("tmp", 0o1777), ("data", 0o700), ("canary", 0o777), ("shared", 0o1777)):
            (self.root / name).mkdir()
            (self.root / name).chmod(mode)
        self.canary = self.root / "canary" / "file"
        self.canary.write_text(self.secret + "\n")
        self.canary.chmod(0o666)
        self.shared = self.root / "shared"
        self._stack.enter_context(_environment(self.root, self.secret))
        self._abstract = self._listen(f"\0{self.secret[:20]}")
        self._agent = self._listen(str(self.root / "canary" / "agent.sock"))
        (self.root / "canary" / "agent.sock").chmod(0o666)
        self._untouched = self._canary_state()
        self.victim: subprocess.Popen[bytes] | None = None
        self._stack.callback(self._end_victim)
        self.renew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def renew(self) -> None:
        """Puts back what a row or its control broke."""
        self.canary.write_text(self.secret + "\n")
        for path in self.shared.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        if self.victim is None or self.victim.poll() is not None:
            self._end_victim()
            self._start_victim()

    def words(self) -> dict[str, str]:
        """What payloads are told, by the word it stands for."""
        assert self.victim is not None
        return {
            "@CANARY@": str(self.canary),
            "@CANARY_FOLDER@": str(self.canary.parent),
            "@SECRET_NAME@": SECRET_NAME,
            "@ABSTRACT@": self.secret[:20],
            "@AGENT@": str(self.root / "canary" / "agent.sock"),
            "@VICTIM@": str(self.victim.pid),
            "@HARNESS@": str(os.getpid()),
        }

    def harm(self) -> list[str]:
        """What has happened to the laboratory since it was made or renewed."""
        found = []
        if self._canary_state() != self._untouched:
            found.append("a host file was changed")
        if self.victim is not None and self.victim.poll() is not None:
            found.append("a host process was ended")
        for name, listener in (("abstract", self._abstract), ("file-system", self._agent)):
            if _accepted(listener):
                found.append(f"the host's {name} Unix socket was reached")
        planted = sorted(path.name for path in self.shared.iterdir())
        if planted:
            found.append(f"files were planted on the host: {', '.join(planted)[:200]}")
        return found

    def _canary_state(self) -> tuple[str, ...]:
        names = sorted(path.name for path in self.canary.parent.iterdir())
        content = self.canary.read_bytes() if self.canary.exists() else b""
        return (hashlib.sha256(content).hexdigest(), *names)

    def _listen(self, address: str) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(address)
        listener.listen(8)
        listener.setblocking(False)
        return listener

    def _start_victim(self) -> None:
        """A process of the sandboxes' own kernel uid, so that only their walls keep them from it."""
        uid = host.drop_uid()
        options: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        python = host.guest_python(uid)
        argv = [python.path, "-I", "-S", "-c", _VICTIM]
        self.victim = process.start(argv, stdout=subprocess.PIPE, cwd="/", **options)
        assert self.victim.stdout is not None
        self.victim.stdout.readline()

    def _end_victim(self) -> None:
        if self.victim is not None:
            self.victim.kill()
            self.victim.wait()
            if self.victim.stdout:
                self.victim.stdout.close()


def _accepted(listener: socket.socket) -> bool:
    met = False
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            met = True
    return met


@contextlib.contextmanager
def _environment(root: Path, secret: str) -> Iterator[None]:
    """This process's temporary and data folders in `root`, and the secret beside them."""
    own = {"TMPDIR": str(root / "tmp"), "TRLM_DATA": str(root / "data"), SECRET_NAME: secret}
    before = {name: os.environ.get(name) for name in own}
    kept, tempfile.tempdir = tempfile.tempdir, None
    os.environ.update(own)
    try:
        yield
    finally:
        tempfile.tempdir = kept
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
