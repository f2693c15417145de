"""Commands of a shell that change what others mean, and programs that run what their options say."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from terraphim_rlm.guard.safety.shell_flow import Flow, printf
from terraphim_rlm.guard.safety.shell_words import BREAK, MARKS, UNKNOWN

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.shell_commands import Command


def _eval(command: Command) -> Flow:
    command.run_text(" ".join(command.args))
    return Flow()


def _source(command: Command) -> Flow:
    name = command.args[0] if command.args else ""
    files = command.shell.state.files if command.shell is not None else {}
    if name.startswith("/dev/fd/6") and command.inputs:
        command.run_flow(command.inputs[0], "bash")
    elif name in ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0") and command.given is not None:
        command.run_flow(command.given, "bash")
    elif name in files:
        command.run_flow(files[name], "bash")
    return Flow()


_CHOSEN = frozenset(
    [
        "-name",
        "-iname",
        "-path",
        "-ipath",
        "-regex",
        "-type",
        "-mtime",
        "-mmin",
        "-newer",
        "-size",
        "-empty",
        "-user",
        "-perm",
    ]
)
"""Tests by which `find` takes some of what it finds."""


def _find(command: Command) -> Flow | None:
    args = command.args
    roots = [each for each in args if not each.startswith(("-", "(", "!", ";"))][:1]
    for number, each in enumerate(args):
        if each in ("-exec", "-execdir", "-ok", "-okdir"):
            end = next((at for at in range(number, len(args)) if args[at] in (";", "+", "\\;")), len(args))
            command.again(
                [word.replace("{}", roots[0] if roots else UNKNOWN) for word in args[number + 1 : end]],
                Flow(),
            )
    if "-delete" in args and _CHOSEN.isdisjoint(args):
        command.notes.note("command", "find-delete", command.span, args)
    return Flow()


def _trap(command: Command) -> Flow:
    if command.args:
        command.run_text(command.args[0])
    return Flow()


def _alias(command: Command) -> Flow:
    for each in command.args:
        name, equals, value = each.partition("=")
        if equals:
            command.run_text(value)
            if command.shell is not None and not MARKS.search(value):
                command.shell.state.files.setdefault(name, Flow(value))
    return Flow()


def _embedded(*patterns: str) -> Callable[[Command], Flow | None]:
    """Options of a program that hold a command."""
    compiled = [re.compile(each, re.DOTALL) for each in patterns]

    def look_for(command: Command) -> Flow | None:
        args = command.args
        for number, each in enumerate(args):
            for joined in (each, f"{each} {args[number + 1]}" if number + 1 < len(args) else each):
                for pattern in compiled:
                    if found := pattern.fullmatch(joined):
                        command.notes.note("command", "embedded", command.span, (found[1],), True)
                        command.run_text(found[1])
        return None

    return look_for


def _one_code(flag: str) -> Callable[[Command], Flow | None]:
    def look_for(command: Command) -> Flow | None:
        if flag in command.args[:-1]:
            command.run_text(command.args[command.args.index(flag) + 1])
        return None

    return look_for


def _declare(command: Command) -> Flow | None:
    for each in command.args:
        name, equals, value = each.partition("=")
        if equals and command.shell is not None:
            command.shell.assign(name, value, command.span)
    return Flow()


def _printf_v(command: Command) -> Flow | None:
    if command.args[:1] == ["-v"] and len(command.args) >= 3 and command.shell is not None:
        text = printf(command.args[2:], None)
        command.shell.assign(command.args[1], UNKNOWN if text is None else text, command.span)
        return Flow()
    return None


def _read(command: Command) -> Flow | None:
    """`read NAME <<< TEXT`."""
    text = command.given.text if command.given is not None else None
    names = [each for each in command.args if not each.startswith("-")]
    if command.shell is not None and names:
        words = (
            (text or UNKNOWN).strip().split(None, max(len(names) - 1, 0)) if text else [UNKNOWN] * len(names)
        )
        if "-a" in command.args:
            command.shell.state.variables[names[0]] = (text or "").split()
        else:
            for number, name in enumerate(names):
                command.shell.assign(name, words[number] if number < len(words) else "", command.span)
    return Flow()


def _set_words(command: Command) -> Flow | None:
    """`set -- a b`: the positional parameters."""
    if "--" in command.args and command.shell is not None:
        words = command.args[command.args.index("--") + 1 :]
        for number, each in enumerate(words[:9], 1):
            command.shell.state.variables[str(number)] = each
        command.shell.state.variables |= {"@": BREAK.join(words), "*": " ".join(words)}
    return Flow()


SPECIAL: dict[str, Callable[[Command], Flow | None]] = {
    "eval": _eval,
    "source": _source,
    ".": _source,
    "find": _find,
    "trap": _trap,
    "alias": _alias,
    "declare": _declare,
    "export": _declare,
    "local": _declare,
    "readonly": _declare,
    "typeset": _declare,
    "printf": _printf_v,
    "read": _read,
    "mapfile": _read,
    "readarray": _read,
    "set": _set_words,
    "git": _embedded(r"-c\s*(?:core\.\w+|alias\.\w+|diff\.external|\w+\.\w*(?:command|pager|editor|tool|cmd))=!?(.+)", r"--(?:upload-pack|exec|receive-pack)[= ](.+)", r"--open-files-in-pager=(.+)", r"-O(.+)"),
    "tar": _embedded(r"--checkpoint-action=exec=(.+)", r"--to-command[= ](.+)", r"--(?:use-compress-program|rsh-command)[= ](.+)", r"-I (.+)"),
    "vim": _embedded(r"-c\s*:?!(.+)", r"-c\s*:?call system\(.(.+).\).*", r"\+:?!(.+)", r"--cmd\s*:?!(.+)"),
    "vi": _embedded(r"-c\s*:?!(.+)", r"\+:?!(.+)"),
    "ex": _embedded(r"-c\s*:?!(.+)"),
    "ssh": _embedded(r"-o\s*(?:ProxyCommand|LocalCommand)[= ](.+)"),
    "rsync": _embedded(r"-e\s(.+)", r"--rsh[= ](.+)"),
    "gdb": _embedded(r"-ex\s*(?:shell|!)\s*(.+)", r"--eval-command=(?:shell|!)(.+)", r"-ex\s*python (.+)"),
    "sed": _embedded(r"\d*e\s*(.+)", r"-e\s*\d*e\s+(.+)", r"-n\s+\d*e\s+(.+)"),
    "man": _embedded(r"-P\s*(.+)", r"--pager=(.+)"),
    "zip": _embedded(r"-TT\s*(.+)", r"--unzip-command[= ](.+)"),
    "split": _embedded(r"--filter[= ](.+)"),
    "sort": _embedded(r"--compress-program[= ](.+)"),
    "make": _embedded(r"--eval[= ].*?\n?\t?\$\(shell (.+)\).*", r"--eval[= ]\$\(shell (.+)\)", r"-E\s*\$\(shell (.+)\)"),
    "script": _one_code("-c"),
    "su": _one_code("-c"),
    "runuser": _one_code("-c"),
    "expect": _embedded(r"-c\s*(?:spawn|exec|system) (.+)"),
    "sqlite3": _embedded(r".*\.(?:shell|system) (.+)"),
    "m4": _embedded(r".*esyscmd\((.+)\).*"),
    "ed": _embedded(r"!(.+)"),
    "nmap": _embedded(r"--script=(.+)"),
}  # fmt: skip
