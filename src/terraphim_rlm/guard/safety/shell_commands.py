"""What a command does with its arguments: those that run others, those that run text, and what goes through pipes."""

from __future__ import annotations

import binascii
import posixpath
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from terraphim_rlm.guard.safety import shell_writes
from terraphim_rlm.guard.safety.notes import GaveUp, Notes
from terraphim_rlm.guard.safety.shell_flow import DECODERS, OUTPUTS, Flow
from terraphim_rlm.guard.safety.shell_special import SPECIAL
from terraphim_rlm.guard.safety.shell_words import (
    BREAK,
    DECODED,
    FETCHED,
    MARKS,
    MOST,
    UNKNOWN,
    globbed,
    unescaped,
)
from terraphim_rlm.guard.safety.shell_writes import INTERPRETERS, MOST_DEPTH, inside

if TYPE_CHECKING:
    from terraphim_rlm.guard.safety.shell import Shell

_CODE_FLAGS = {"bash": re.compile(r"-\w*c\w*$"), "python": re.compile(r"-\w*c$"), "javascript": re.compile(r"-e|--eval|-p|--print|-pe"),
               "words": re.compile(r"-\w*[eEr]$|--eval|-R")}  # fmt: skip

_WRAPPERS: dict[str, str] = {
    "env": "uSC", "sudo": "ugphCTD", "doas": "uC", "nohup": "", "nice": "n", "ionice": "cnp", "setsid": "", "stdbuf": "ioe", "command": "",
    "builtin": "", "exec": "a", "time": "fo", "timeout": "sk", "strace": "eopsu", "ltrace": "eop", "unshare": "SGRw", "catchsegv": "", "eatmydata": "",
    "chroot": "", "busybox": "", "toybox": "", "xargs": "InLPdsEa", "parallel": "j", "flock": "wE", "watch": "n", "chrt": "", "taskset": "",
    "nsenter": "tSG", "setpriv": "", "runuser": "u", "linux32": "", "linux64": "", "setarch": "", "torsocks": "", "proxychains": "", "faketime": "",
    "firejail": "", "dbus-run-session": "", "xvfb-run": "", "unbuffer": "", "coproc": "", "noglob": "", "start-stop-daemon": "", "systemd-run": "", "prlimit": "",
}  # fmt: skip
"""Commands that run another one, and their options that take a value."""

_FILE_OPTIONS = frozenset({"--rcfile", "--init-file", "-r", "--require", "-W", "-X", "-o", "-O"})
_SKIP_FIRST = {"timeout": 1, "chroot": 1, "flock": 1, "taskset": 1, "chrt": 1, "faketime": 1}
"""Of those, how many words come before the command."""

_FETCH = frozenset(
    [
        "curl",
        "wget",
        "fetch",
        "aria2c",
        "lwp-request",
        "GET",
        "http",
        "https",
        "lynx",
        "w3m",
        "nc",
        "ncat",
        "netcat",
        "socat",
        "ftp",
        "tftp",
        "scp",
        "ssh",
        "telnet",
        "openssl.s_client",
        "axel",
    ]
)

_SYSTEM = re.compile(
    r"""(?:\b(?:system|exec|popen|spawn|shell_exec|passthru|qx|execute|getline)\b\s*[({]?\s*|`|\bqx[({/]\s*|os\.execute\s*\(\s*)(["'`]?)([^"'`]+)"""
)


def run(argv: Sequence[str | None], span: tuple[int, int], notes: Notes, *, stdin: str | None = None) -> None:
    """A command that other code starts, by its arguments; None where one is not known."""
    words = [UNKNOWN if each is None else each for each in argv]
    if words:
        Command(words, span, notes, None, None if stdin is None else Flow(stdin), []).run()


def is_hidden(raw: str, name: str, variables: Any) -> bool:
    """Whether the name of a command does not stand in the code as it is run."""
    plain = raw.lstrip("\\")
    if plain in (name, f'"{name}"', f"'{name}'") or raw.strip("\"'") == name:
        return False
    simple = re.fullmatch(r'"?\$\{?([A-Za-z_]\w*)\}?"?', raw)
    if simple is not None:
        value = variables.get(simple[1])
        return not (
            isinstance(value, str)
            and re.fullmatch(r"[\w./-]+( .*)?", value) is not None
            and simple[1].isupper()
        )
    return True


class Command:
    """One command with its arguments, and what it is given."""

    def __init__(
        self,
        words: list[str],
        span: tuple[int, int],
        notes: Notes,
        shell: Shell | None,
        given: Flow | None,
        inputs: list[Flow],
    ) -> None:
        self.words = words
        self.span = span
        self.notes = notes
        self.shell = shell
        self.given = given
        self.inputs = inputs
        """Of process substitutions among its arguments."""
        self.hidden = False
        self.name = ""
        self.args: list[str] = []

    def run(self) -> Flow:
        """Notes what it does; what it says on its standard output."""
        if not self._resolve():
            return Flow(None, self._taint())
        name, args = self.name, self.args
        known = [None if each == UNKNOWN else each for each in args]
        self.notes.note("command", name, self.span, known, self.hidden)
        for each in args:
            shell_writes.look(each, self.span, self.notes)
        self._data_flow(name, args)
        special = SPECIAL.get(name)
        if special is not None and (found := special(self)) is not None:
            return found
        if name in _WRAPPERS:
            return self._wrapped()
        if name in INTERPRETERS:
            return self._interpreter(INTERPRETERS[name])
        if name.startswith(("python3.", "python2.")):
            return self._interpreter("python")
        if name in _FETCH or (name == "openssl" and args[:1] == ["s_client"]):
            return self._fetched()
        return self._output()

    def _taint(self) -> str:
        return self.given.origin if self.given is not None else ""

    def _resolve(self) -> bool:
        """The command's name without its path, and its arguments; False when nobody knows it."""
        word = self.words[0]
        if MARKS.search(word):
            if FETCHED in word:
                self.notes.note("pipe", "fetched", self.notes.piped or self.span)
            elif DECODED in word:
                self.notes.note("pipe", "decoded", self.notes.piped or self.span)
            return False
        found = globbed(word)
        if found is not None:
            word, self.hidden = found, True
        if "/" in word:
            path = posixpath.normpath(re.sub(r"^(/proc/(self|\d+|thread-self)/root)+/", "/", word))
            if path != word and path != word.removeprefix("./") and not word.startswith(("./", "../", "~")):
                self.hidden = True
            if not path.startswith(("/bin/", "/usr/")) and (real := self._own_file(word)) is not None:
                return real
            word = posixpath.basename(path)
            if word.startswith(("ld-linux", "ld.so", "ld-musl")):
                self.notes.note("command", "ld-linux", self.span, self.words[1:], True)
                rest = [each for each in self.words[1:] if not each.startswith("-")]
                if rest:
                    self.words, self.hidden = rest, True
                    return self._resolve()
        self.name, self.args = word, self.words[1:]
        return True

    def _own_file(self, word: str) -> bool | None:
        """A file that this code made and now runs; None when it is none, else whether a command is left to look at."""
        files = {} if self.shell is None else self.shell.state.files
        known = files.get(word.removeprefix("./")) or files.get(word)
        if known is None:
            return None
        if known.origin == "copy":
            self.words, self.hidden = [(known.text or "").split()[0], *self.words[1:]], True
            return self._resolve()
        self.run_flow(known, "bash")
        return None

    def again(self, words: list[str], given: Flow | None = None) -> Flow:
        """Another command that this one runs."""
        if not words:
            return Flow()
        inner = Command(
            words, self.span, self.notes, self.shell, self.given if given is None else given, self.inputs
        )
        inner.hidden = self.hidden
        self.notes.deeper(MOST_DEPTH)
        try:
            return inner.run()
        finally:
            self.notes.depth -= 1

    def run_text(self, text: str, language: str = "bash") -> None:
        """Text that is run.

        Raises:
            GaveUp: it is so long that its end may not be known.
        """
        if len(text) >= MOST:
            raise GaveUp("it runs a text that is too long to be put together")
        if FETCHED in text:
            self.notes.note("pipe", "fetched", self.notes.piped or self.span)
        if DECODED in text:
            self.notes.note("pipe", "decoded", self.notes.piped or self.span)
        if language == "words":
            for found in _SYSTEM.finditer(text):
                self.notes.note("command", "system-in-script", self.span, (found[2],), True)
                inside(unescaped(found[2]), "bash", self.notes, self.span)
        elif MARKS.sub("", text).strip():
            inside(
                MARKS.sub("", text) if MARKS.fullmatch(text.strip()) is None else "",
                language,
                self.notes,
                self.span,
                self.shell,
            )

    def run_flow(self, flow: Flow, language: str) -> None:
        """Text from a pipe or a file that is run."""
        where = self.notes.piped or self.span
        if flow.origin in ("fetched", "decoded"):
            self.notes.note("pipe", flow.origin, where)
        elif flow.text:
            pinned, self.span = self.span, where
            self.run_text(flow.text, language)
            self.span = pinned

    def _interpreter(self, language: str) -> Flow:
        """A shell or another interpreter: its code is an argument, a file that we know, or its input."""
        args = list(self.args)
        if self.name in ("awk", "gawk", "mawk"):
            for each in args:
                if not each.startswith("-"):
                    self.run_text(each, "words")
            return self._output()
        while args and args[0].startswith(("-", "+")) and len(args[0]) > 1:
            option = args.pop(0)
            if _CODE_FLAGS[language].fullmatch(option):
                if args:
                    self._bound(args[1:])
                    self.run_text(args[0], language)
                return Flow()
            if option in _FILE_OPTIONS and args:
                self._run_file(args.pop(0), language)
        script = args[0] if args else "-"
        if script in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
            if self.given is not None:
                self.run_flow(self.given, language)
        else:
            self._run_file(script, language)
        return Flow()

    def _run_file(self, name: str, language: str) -> None:
        """A file that is run, where its text or its origin is known."""
        if name.startswith("/dev/fd/6") and self.inputs:
            self.run_flow(self.inputs[0], language)
        elif self.shell is not None:
            files = self.shell.state.files
            known = files.get(name.removeprefix("./")) or files.get(name)
            if known is not None:
                self.run_flow(known, language)

    def _bound(self, args: list[str]) -> None:
        """`sh -c CODE NAME ARGS`: its positional parameters."""
        if self.shell is not None:
            for number, each in enumerate(args[:10]):
                self.shell.state.variables[str(number)] = each
            self.shell.state.variables |= {"@": BREAK.join(args[1:]), "*": " ".join(args[1:])}

    def _wrapped(self) -> Flow:
        """The command that a wrapper runs."""
        args, valued = list(self.args), _WRAPPERS[self.name]
        while args and (args[0].startswith("-") or (self.name in ("env", "sudo") and "=" in args[0])):
            option = args.pop(0)
            if self.name == "env" and "=" in option and not option.startswith("-"):
                name, _, value = option.partition("=")
                if self.shell is not None:
                    shell_writes.assigned(name, value, self.span, self.notes, self.shell)
                continue
            if self.name == "env" and (option.startswith("-S") or option.startswith("--split-string")):
                text = option.removeprefix("-S").removeprefix("--split-string=") or (
                    args.pop(0) if args else ""
                )
                return self.again([*text.split(), *args])
            if option == "--":
                break
            if len(option) == 2 and option[1] in valued and args:
                args.pop(0)
        args = args[_SKIP_FIRST.get(self.name, 0) :]
        if (self.name in ("flock", "watch") and len(args) >= 1 and args[0] == "-c") or self.name == "watch":
            self.run_text(" ".join(args).removeprefix("-c "))
            return Flow()
        if self.name in ("xargs", "parallel"):
            return self._xargs(args)
        return self.again(args)

    def _xargs(self, args: list[str]) -> Flow:
        """What is read becomes arguments."""
        text = self.given.text if self.given is not None else None
        if self._taint():
            shells = args and INTERPRETERS.get(posixpath.basename(args[0]))
            if shells:
                self.notes.note("pipe", self._taint(), self.notes.piped or self.span)
        more = text.split() if text is not None else [UNKNOWN]
        marker = next(
            (self.args[number + 1] for number, each in enumerate(self.args[:-1]) if each in ("-I", "-i")),
            "{}",
        )
        where, self.span = self.span, self.notes.piped or self.span
        try:
            if not args:
                return Flow(text)
            if any(marker in each for each in args):
                return self.again([each.replace(marker, " ".join(more)) for each in args], Flow())
            return self.again([*args, *more], Flow())
        finally:
            self.span = where

    def _data_flow(self, name: str, args: list[str]) -> None:
        """Files that come over the network, or are copies of others."""
        if self.shell is None:
            return
        files = self.shell.state.files
        if name in ("curl", "wget"):
            for target in _saved(name, args):
                files[target] = Flow(None, "fetched")
        elif name in ("cp", "ln", "mv", "install") and len(args) >= 2:
            source, target = args[-2], args[-1]
            base = posixpath.basename(source)
            if source in files:
                files[target] = files[source]
            elif source.startswith(("/bin/", "/usr/bin/", "/sbin/")) and base not in ("", "*"):
                files.setdefault(target, Flow(f'{base} "$@"', "copy"))
        elif name == "tee" and self.given is not None:
            where = self.notes.piped or self.span
            for each in args:
                if not each.startswith("-"):
                    files[each] = self.given
                    shell_writes.wrote(each, self.given, where, self.notes)
                    self.notes.note("redirect", each, where, (each,))
                    shell_writes.look(each, where, self.notes, writes=True)

    def _fetched(self) -> Flow:
        return Flow(None, "fetched")

    def _output(self) -> Flow:
        """What a command says, where that is known."""
        known = OUTPUTS.get(self.name)
        text = self.given.text if self.given is not None else None
        if known is not None:
            try:
                said = known(self.args, text)
            except (ValueError, IndexError, binascii.Error, OverflowError, re.error):
                said = None
            if said is not None and len(said) <= MOST:
                return Flow.of(said)
        if self._taint() == "fetched":
            return Flow(None, "fetched")
        if self.name in DECODERS:
            return Flow(None, "decoded")
        return Flow(None, self._taint())


def _saved(name: str, args: list[str]) -> list[str]:
    """The files that a download is saved to."""
    named = [posixpath.basename(word) for word in args if "/" in word]
    takes = ("-o", "--output") if name == "curl" else ("-O", "--output-document")
    found = [args[number + 1] for number, each in enumerate(args[:-1]) if each in takes]
    if name == "curl":
        return found + (named if any(re.fullmatch(r"-\w*O|--remote-name", each) for each in args) else [])
    return found or named
