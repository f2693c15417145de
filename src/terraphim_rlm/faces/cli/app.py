"""The tree of commands, and what becomes of a command line that is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from terraphim_rlm import __version__
from terraphim_rlm.core.errors import Cancelled, InvalidArgument, MissingArgument, RlmError, UnknownCommand
from terraphim_rlm.faces.cli import (
    again,
    ask,
    attack,
    bench,
    check,
    conform,
    doctor,
    execute,
    export,
    following,
    history,
    image,
    keys,
    kg,
    models,
    parse,
    pool,
    runs,
    serve,
    session,
    session_files,
    shell,
    snapshots,
)
from terraphim_rlm.faces.cli.near import meant, near
from terraphim_rlm.faces.cli.out import Mode, OutputLost, Voice, bug, complain, lost, write_out

_STYLE: dict[str, Any] = {
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "no_args_is_help": True,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
_SENTENCE = 1_000
"""Characters; more than any has. Typer's own list cuts at the width of the terminal."""
_MISSING = ("MissingParameter", "Missing command.")
_FIXES = {"Missing argument 'PATH..|-'": "Name files or folders (. is this one), or - for standard input."}


class Commands(TyperGroup):
    """A group that suggests what a mistyped command may have meant, and shows each one's first sentence whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [
            (name, command.get_short_help_str(_SENTENCE))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            shown = [name for name, command in self.commands.items() if not command.hidden]
            raise _unknown(ctx.command_path, args[0], shown)
        return super().resolve_command(ctx, args)


def _unknown(path: str, word: str, known: list[str]) -> UnknownCommand:
    close = meant(word, known)
    fix = f"Did you mean `{path} {close[0]}`?" if close else f"The commands: {', '.join(known)}."
    return UnknownCommand(
        f"There is no command `{path} {word[:80]}`.", fix=fix, command=word[:80], near=close
    )


def _version(wanted: bool) -> None:
    if wanted:
        write_out(f"trlm {__version__}\n")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Answers about inputs of any size: a language model writes code that runs in a sandbox."""


_COMMANDS: dict[str, Callable[..., None]] = {
    "ask": ask.ask,
    "exec": execute.execute,
    "serve": serve.serve,
    "shell": shell.shell,
    "rollback": snapshots.rollback,
    "branch": snapshots.branch,
    "history": history.history,
    "parse": parse.parse,
    "check": check.check,
    "doctor": doctor.doctor,
    "attack": attack.attack,
    "conform": conform.conform,
}
_HIDDEN: dict[str, Callable[..., None]] = {"run": execute.execute}
_GROUPS: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
    "runs": (
        "Runs, from the journal: looked at, gone on with, gone again.",
        {
            "list": runs.list_runs,
            "show": runs.show,
            "watch": following.watch,
            "cancel": following.cancel,
            "resume": again.resume,
            "fork": again.fork,
            "replay": again.replay,
            "export": export.export,
            "schema": export.schema,
        },
    ),
    "models": (
        "The built-in models, and a test of any model.",
        {"list": models.list_models, "get": models.get, "rm": models.remove, "test": models.try_out},
    ),
    "keys": (
        "Keys of those who reach the daemon over TCP.",
        {"create": keys.create, "list": keys.list_keys, "revoke": keys.revoke},
    ),
    "kg": (
        "Knowledge graphs: the terms of a domain, and how they hang together.",
        {"build": kg.build, "check": kg.check, "search": kg.search, "connect": kg.connect},
    ),
    "session": (
        "Sandboxes that last, shared by everything that this user runs.",
        {
            "new": session.new,
            "list": session.list_sessions,
            "show": session.show,
            "network": session.network,
            "extend": session.extend,
            "destroy": session.destroy,
        },
    ),
    "files": (
        "The files of a session.",
        {"put": session_files.put, "get": session_files.get, "ls": session_files.list_files},
    ),
    "snapshot": (
        "States of a session, kept by name.",
        {
            "create": snapshots.create,
            "list": snapshots.list_snapshots,
            "diff": snapshots.diff,
            "forget": snapshots.forget,
        },
    ),
    "pool": (
        "Sandboxes kept ready for the next sessions.",
        {"status": pool.status, "warm": pool.warm, "drain": pool.drain},
    ),
    "image": (
        "Root filesystems for sandboxes in containers.",
        {"build": image.build, "list": image.list_images, "check": image.check},
    ),
    "bench": (
        "Measures this installation.",
        {"engine": bench.engine, "guard": bench.guard, "sandbox": bench.sandbox, "tasks": bench.tasks},
    ),
}


def build(argv: Sequence[str]) -> typer.Typer:
    """The tree of commands, as far as `argv` can reach it.

    A group has its own options (help, and at the root shell completion) only where the command line does not go on
    to one of its commands: Typer reads options that are not given, too, and that takes it 0.1 s of pydantic.
    """
    completing = "_TRLM_COMPLETE" in os.environ
    own = completing or _stops(argv[:1])
    app = typer.Typer(name="trlm", cls=Commands, add_completion=own, add_help_option=own, **_STYLE)
    app.callback()(root)
    for hidden, commands in ((False, _COMMANDS), (True, _HIDDEN)):
        for name, function in commands.items():
            app.command(name, hidden=hidden)(function)
    own = completing or _stops(argv[1:2])
    for name, (text, commands) in _GROUPS.items():
        group = typer.Typer(cls=Commands, help=text, add_help_option=own, **_STYLE)
        for word, function in commands.items():
            group.command(word)(function)
        app.add_typer(group, name=name)
    return app


def _stops(word: Sequence[str]) -> bool:
    """Whether this word, or its absence, leads to no further command."""
    return not word or word[0].startswith("-")


def run(argv: Sequence[str]) -> int:
    """Runs one command line; the exit code. Nothing is raised."""
    try:
        return _run(list(argv))
    except OutputLost as error:
        return lost(error.why)
    except BrokenPipeError as error:
        return lost(error)
    except KeyboardInterrupt:
        complain("trlm: Interrupted.")
        return 130


def _run(argv: list[str]) -> int:
    voice = Voice(_named(argv), _mode(argv), "--debug" in argv)
    try:
        code = build(argv)(args=argv, prog_name="trlm", standalone_mode=False)
        sys.stdout.flush() if sys.stdout else None
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort as error:
        return voice.fail(Cancelled("Interrupted."), cause=error)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            complain(error.format_message())
            return error.exit_code
        return voice.fail(_usage(error), cause=error)
    except RlmError as error:
        return voice.fail(error)
    except (OutputLost, BrokenPipeError):
        raise
    except Exception as error:
        return voice.fail(bug(error), cause=error)
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> RlmError:
    """Typer's complaint about a command line, as an error of ours."""
    meant = getattr(error, "possibilities", None)
    text = (error.message if meant else error.format_message()).rstrip(".")
    path = getattr(getattr(error, "ctx", None), "command_path", "trlm")
    missing = type(error).__name__ in _MISSING or error.message in _MISSING
    kind: type[RlmError] = MissingArgument if missing else InvalidArgument
    fix = _FIXES.get(text, f"`{path} --help` shows what it takes.")
    if meant:
        # Typer's own order is the alphabet's, which puts --json before --tokens for --token.
        close = near(getattr(error, "option_name", ""), meant)[:1] or sorted(meant)
        fix = f"Did you mean {' or '.join(close)}?"
    return kind(f"{text[:1].upper()}{text[1:]}.", fix=fix)


def _named(argv: list[str]) -> str:
    """The command's words, as far as they are known."""
    words = [word for word in argv[:2] if not word.startswith("-")]
    return " ".join(words[: 2 if words and words[0] in _GROUPS else 1])


def _mode(argv: list[str]) -> Mode:
    own = argv[: argv.index("--")] if "--" in argv else argv
    return "jsonl" if "--jsonl" in own else "json" if "--json" in own else "text"
