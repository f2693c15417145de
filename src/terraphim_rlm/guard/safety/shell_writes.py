"""What a shell's words go to: paths and hosts of note, files that are scripts, variables that are run."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.rules import rule_set
from terraphim_rlm.guard.safety.shell_flow import Flow
from terraphim_rlm.guard.safety.shell_words import MARKS

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.shell import Shell

MOST_DEPTH = 8
"""Of commands that run commands."""

INTERPRETERS = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "ash", "rbash", "mksh", "busybox.sh"), "bash"),
    **dict.fromkeys(("python", "python2", "python3", "pypy", "pypy3"), "python"),
    **dict.fromkeys(("node", "nodejs", "deno", "bun"), "javascript"),
    **dict.fromkeys(("perl", "ruby", "php", "lua", "tclsh", "awk", "gawk", "mawk"), "words"),
}

_ASSIGNED_HOOKS = frozenset(["PROMPT_COMMAND", "BASH_ENV", "ENV", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS", "GIT_SSH_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_PAGER", "PAGER", "EDITOR", "VISUAL", "MANPAGER", "LESSOPEN", "PS1", "PS4", "PS0", "PYTHONWARNINGS"])  # fmt: skip

_RUN_AT_ONCE = frozenset(
    [
        "PROMPT_COMMAND",
        "GIT_SSH_COMMAND",
        "GIT_PAGER",
        "PAGER",
        "MANPAGER",
        "PS1",
        "PS4",
        "PS0",
        "LESSOPEN",
        "EDITOR",
    ]
)
"""Variables whose value is a command."""
_SCRIPTS = {
    ".sh": "bash",
    ".bash": "bash",
    ".py": "python",
    ".js": "javascript",
    ".bashrc": "bash",
    ".profile": "bash",
    ".bash_profile": "bash",
    ".zshrc": "bash",
}


def look(text: str, span: tuple[int, int], notes: Notes, *, writes: bool = False) -> None:
    """Paths and hosts of note in a word."""
    if len(text) < 4096:
        rules = rule_set()
        for rule in rules.broken("argument", "bash", text):
            notes.find(rule, span)
        for rule in rules.broken("write", "bash", text) if writes else ():
            notes.find(rule, span)


def wrote(path: str, said: Flow, span: tuple[int, int], notes: Notes) -> None:
    """A file was written: a script whose text is known is read as what it is."""
    language = _SCRIPTS.get(posixpath.splitext(path)[1]) or _SCRIPTS.get(posixpath.basename(path))
    if said.text and language is None and said.text.startswith("#!"):
        language = next(
            (kind for name, kind in INTERPRETERS.items() if name in said.text.split("\n", 1)[0]), None
        )
    if said.text and language in ("bash", "python", "javascript"):
        inside(said.text, language, notes, span)


def assigned(name: str, value: str, span: tuple[int, int], notes: Notes, shell: Shell) -> None:
    """A variable was set: some are run, or change what is."""
    if name in _ASSIGNED_HOOKS:
        notes.note("variable", name, span, (value,))
        if name in _RUN_AT_ONCE and not MARKS.search(value):
            inside(value.lstrip("|"), "bash", notes, span)
        known = shell.state.files.get(value)
        if name in ("BASH_ENV", "ENV") and known is not None and known.text:
            inside(known.text, "bash", notes, span)


def inside(text: str, language: str, notes: Notes, span: tuple[int, int], shell: Any = None) -> None:
    from terraphim_rlm.guard.safety import reading

    known = {"state": shell.state} if shell is not None and language == "bash" else {}
    reading.inside(text, language, notes, span, **known)
