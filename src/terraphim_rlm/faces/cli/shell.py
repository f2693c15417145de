"""`trlm shell`: a session's prompt."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from terraphim_rlm.core.errors import (
    DaemonError,
    InputUnreadable,
    InvalidArgument,
    MissingArgument,
    RlmError,
    SessionError,
    UnknownCommand,
)
from terraphim_rlm.faces.cli.jobs import followed, told
from terraphim_rlm.faces.cli.near import near
from terraphim_rlm.faces.cli.options import Debug
from terraphim_rlm.faces.cli.out import Voice, speaking
from terraphim_rlm.faces.cli.reach import SessionArgument, asked, job_in, living, route

if TYPE_CHECKING:
    from terraphim_rlm.core.sessions import Session

_HISTORY_NAME = "shell_history"
_MOST_HISTORY = 2_000
_COMMAND = re.compile(r":([a-z]+)(?:\s+(.*))?")
_HELP = """\
Code runs in the session when a line ends it; end one with \\ to go on. Ctrl-C stops what runs.
  :snapshot NAME   keep files and variables as they are now
  :rollback NAME   go back to them
  :language L      python, bash or another one that the session speaks
  :help            this
  exit             leave (or Ctrl-D); the session goes on"""


def shell(
    session: SessionArgument = None,
    language: Annotated[
        str, typer.Option(metavar="python|bash|..", help="What is typed; :language changes it.")
    ] = "python",
    timeout: Annotated[
        float | None,
        typer.Option(metavar="S", help="Most seconds of one piece of code.  [default: the language's]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Opens a session's prompt: code runs as it is typed. Without a terminal, lines of standard input do."""
    with speaking("shell", "text", debug) as voice:
        if sys.stdin is None:
            raise InputUnreadable("Standard input is closed.", fix="Use: trlm exec --session S -c CODE")
        prompt = _Shell(living(session), timeout, voice)
        prompt.speak(language)
        if code := prompt.run():
            raise typer.Exit(code)


class _Shell:
    """Reads pieces of code and runs them, until there are no more or the session has ended."""

    def __init__(self, session: Session, timeout: float | None, voice: Voice) -> None:
        self._session = session
        self._timeout = timeout
        self._voice = voice
        self._terminal = sys.stdin.isatty()
        self._language = ""
        self._commands: Mapping[str, Callable[[str], None]] = {
            "snapshot": self._snapshot,
            "rollback": self._rollback,
            "language": self.speak,
            "help": lambda _: self._voice.say(_HELP),
        }

    def run(self) -> int:
        """The exit code of the last piece; 0 at a terminal, where somebody saw it.

        Raises:
            SessionError, DaemonError: there is no session any more.
        """
        code = 0
        if self._terminal:
            self._voice.note(f"Session {self._called}. :help shows what else there is; exit leaves.")
        with _remembered(self._terminal):
            while (piece := self._read()) is not None and piece.strip() not in ("exit", ":exit"):
                if piece.strip():
                    code = self._done(piece)
        return 0 if self._terminal else code

    def speak(self, language: str) -> None:
        """Takes what is typed for this language from now on.

        Raises:
            InvalidArgument: there is none of this name.
        """
        from terraphim_rlm.sandbox.languages.table import ALIASES, SPOKEN

        name = ALIASES.get(language.strip(), language.strip())
        if name not in SPOKEN:
            raise InvalidArgument(
                f"There is no language {language[:40]!r} here.", fix=f"Use one of: {', '.join(SPOKEN)}."
            )
        self._language = name

    @property
    def _called(self) -> str:
        return self._session.name or self._session.id

    def _read(self) -> str | None:
        """The next piece of code; None at the end."""
        lines: list[str] = []
        while True:
            prompt = f"{self._called} {self._language}{'.' if lines else '>'} " if self._terminal else ""
            try:
                lines.append(input(prompt))
            except EOFError:
                if self._terminal:
                    self._voice.say("")
                    return None
                return "\n".join(lines) if lines else None
            except KeyboardInterrupt:
                if not self._terminal:
                    raise
                self._voice.say("")
                lines.clear()
                continue
            except UnicodeDecodeError as error:
                raise InputUnreadable(f"Standard input is not text: {error.reason}.") from None
            if _is_whole(lines, self._language):
                return "\n".join(lines)

    def _done(self, piece: str) -> int:
        """Does it; the exit code."""
        try:
            if (command := _COMMAND.fullmatch(piece.strip())) is None:
                return self._executed(piece)
            if (known := self._commands.get(command[1])) is None:
                raise _unknown(command[1], list(self._commands))
            known(command[2] or "")
        except (SessionError, DaemonError):
            raise
        except RlmError as error:
            return self._voice.fail(error)
        return 0

    def _executed(self, code: str) -> int:
        from terraphim_rlm.service.executions import Execution

        job = job_in(self._session, Execution(code, self._language, self._timeout))
        result = followed(job)
        if self._terminal and result.stdout and not result.stdout.endswith("\n"):
            self._voice.say("")
        return told(job, result, self._voice)

    def _snapshot(self, name: str) -> None:
        path = route(self._session.id, "snapshots")
        made = asked(lambda daemon: daemon.post(path, {"name": name or None, "partial": False}))
        self._voice.say(f"Kept as {made['name']}.")

    def _rollback(self, name: str) -> None:
        if not name:
            raise MissingArgument(":rollback takes a snapshot's name.", fix="For example: :rollback NAME")
        path = route(self._session.id, "snapshots", name, "restore")
        asked(lambda daemon: daemon.post(path, {}))
        self._voice.say(f"Back at {name}.")


def _is_whole(lines: list[str], language: str) -> bool:
    """Whether this is to run now, or goes on in the next line. What is wrong is for the session to say."""
    if lines[-1].endswith("\\"):
        return False
    if language != "python" or _COMMAND.fullmatch(lines[0].strip()):
        return True
    import ast
    import codeop
    import warnings

    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compiler("\n".join(lines)) is not None
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return True


def _unknown(word: str, known: list[str]) -> UnknownCommand:
    close = near(word, known)
    fix = f"Did you mean :{close[0]}?" if close else ":help shows what there is."
    return UnknownCommand(f"There is no command :{word[:40]} here.", fix=fix, command=word[:40], near=close)


@contextmanager
def _remembered(terminal: bool) -> Iterator[None]:
    """Line editing, with what was typed before, also in earlier shells."""
    if not terminal:
        yield
        return
    import readline

    from terraphim_rlm.core.paths import data_dir

    file = data_dir() / _HISTORY_NAME
    readline.parse_and_bind("tab: self-insert")  # else it would offer the names of this machine's files
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(_MOST_HISTORY)
        with suppress(OSError):
            readline.write_history_file(file)
