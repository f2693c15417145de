"""What a shell's code does: every command of every pipeline, substitution, here-document and function is looked at.

Parsed by tree-sitter; where its grammar and the shell disagree, the text of that statement is divided into words by us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from terraphim_rlm.guard.safety import shell_commands, shell_words, shell_writes
from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.reading import Unparsed
from terraphim_rlm.guard.safety.shell_flow import Flow
from terraphim_rlm.guard.safety.shell_words import BREAK, UNKNOWN, Expander, closing

_WORDS = frozenset(["command_name", "word", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation", "simple_expansion", "expansion", "number", "command_substitution", "process_substitution", "arithmetic_expansion", "brace_expression", "regex", "$", "test_operator", "extglob_pattern", "special_variable_name", "variable_name", "{", "}", ",", "=", "ERROR"])  # fmt: skip
_MOST_CALLS = 4
_MOST_TURNS = 64
_MOST_NESTED = 12
_LEADING = frozenset(["{", "(", "then", "do", "else", "!", "if", "while", "until", "time"])
"""Words that stand before a command."""
_REDIRECTS = ("file_redirect", "heredoc_redirect", "herestring_redirect")
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\])?\+?=(.*)", re.DOTALL)


@cache
def _parser() -> Any:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class State:
    """Variables, functions and files that a shell's code has made so far."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.functions: dict[str, tuple[Shell, Any]] = {}
        self.files: dict[str, Flow] = {}
        self.calls = 0


def read(code: str, notes: Notes, state: State | None = None) -> None:
    """Notes what `code` does.

    Raises:
        Unparsed: the grammar does not know it. What could be told is noted all the same.
    """
    shell = Shell(code, notes, state or State())
    root = _parser().parse(shell.data).root_node
    shell.body(root)
    if root.has_error and not shell.mended:
        raise Unparsed


class Shell:
    """Goes through one tree."""

    def __init__(self, code: str, notes: Notes, state: State) -> None:
        self.code = code
        self.data = code.encode("utf-8", "surrogatepass")
        self.notes = notes
        self.state = state
        self.mended = False
        """Whether statements that the grammar does not know were divided into words."""
        self._places: list[int] | None = None
        self._expander = Expander(state.variables, self._substituted)
        self._function = ""

    # places

    def place(self, offset: int) -> int:
        """The character at a byte."""
        if len(self.data) == len(self.code):
            return offset
        if self._places is None:
            self._places = [0]
            for number, letter in enumerate(self.code):
                self._places.extend([number + 1] * len(letter.encode("utf-8", "surrogatepass")))
            for number in range(len(self._places) - 1):
                self._places[number] = min(self._places[number], len(self.code))
        return self._places[offset]

    def span(self, node: Any) -> tuple[int, int]:
        return self.place(node.start_byte), self.place(node.end_byte)

    def raw(self, node: Any) -> str:
        text: bytes = self.data[node.start_byte : node.end_byte]
        return text.decode("utf-8", "surrogatepass")

    # statements

    def body(self, node: Any) -> Flow:
        """Everything below a node, in order; what it says on its standard output, as far as that is known."""
        return Flow.joined(
            [self.statement(child) for child in node.children if child.is_named or child.type == "ERROR"]
        )

    def statement(self, node: Any, given: Flow | None = None) -> Flow:
        """One statement."""
        if node.has_error and node.type in (
            "ERROR",
            "command",
            "redirected_statement",
            "pipeline",
            "list",
            "compound_statement",
        ):
            return self._loose(node)
        known = _STATEMENTS.get(node.type)
        if known is not None:
            found: Flow = known(self, node, given)
            return found
        if node.type in _WORDS:
            if node.type not in ("word", "raw_string", "number", "command_name"):
                self._expander.text(self.raw(node))
            return Flow()
        return Flow.joined([self.statement(child, given) for child in node.children if child.is_named])

    def _command(self, node: Any, given: Flow | None = None) -> Flow:
        """A simple command."""
        raws, own = list(self._raw_words(node)), given
        for child in node.children:
            if child.type in _REDIRECTS:
                own = self._redirect(child, own) or own
        while raws and (found := _ASSIGNED.fullmatch(raws[0])) and not raws[0].startswith(("'", '"')):
            self.assign(found[1], self._expander.text(found[2]).replace("\ue000", " "), self.span(node))
            raws.pop(0)
        return self.command(raws, self.span(node), own)

    def command(self, raws: list[str], span: tuple[int, int], given: Flow | None) -> Flow:
        """A simple command by its raw words."""
        words: list[str] = []
        first = ""
        inputs: list[Flow] = []
        for raw in raws[:512]:
            if raw.startswith(("<(", ">(")):
                inputs.append(self._nested(raw[2 : closing(raw, 1)]))
                words.append(f"/dev/fd/{60 + len(inputs)}")
                continue
            found = self._expander.fields(raw)
            if found and not words:
                first = raw
            words += found
        if not words:
            return Flow()
        command = shell_commands.Command(words, span, self.notes, self, given, inputs)
        command.hidden = shell_commands.is_hidden(first, words[0], self.state.variables)
        own = self.state.functions.get(words[0])
        if own is not None:
            return self._called(own, words, span, given)
        return command.run()

    def _called(
        self, own: tuple[Shell, Any], words: list[str], span: tuple[int, int], given: Flow | None
    ) -> Flow:
        shell, node = own
        if self._function == words[0] or self.state.calls >= _MOST_CALLS:
            return Flow()
        variables, outer = self.state.variables, self._function
        kept = {name: variables.get(name) for name in ("@", "*", *map(str, range(1, 10)))}
        variables |= {str(number): word for number, word in enumerate(words[1:10], 1)}
        variables |= {"@": BREAK.join(words[1:]), "*": " ".join(words[1:])}
        self.state.calls += 1
        shell._function = words[0]
        try:
            return shell.statement(node, given)
        finally:
            self.state.calls -= 1
            shell._function = outer
            for name, value in kept.items():
                if value is None:
                    variables.pop(name, None)
                else:
                    variables[name] = value

    def _raw_words(self, node: Any) -> Iterator[str]:
        """Raw words; what stands together without a gap is one."""
        start = end = -1
        for child in node.children:
            if child.type in _REDIRECTS:
                continue
            if start >= 0 and not self.data[end : child.start_byte].replace(b"\\\n", b""):
                end = child.end_byte
                continue
            if start >= 0:
                yield self.data[start:end].decode("utf-8", "surrogatepass")
            start, end = child.start_byte, child.end_byte
        if start >= 0:
            yield self.data[start:end].decode("utf-8", "surrogatepass")

    def _redirect(self, node: Any, given: Flow | None) -> Flow | None:
        """A redirection: what a command is given, where there is one."""
        if node.type == "herestring_redirect":
            raw = self.raw(node)[3:].strip()
            return Flow.of(self._expander.text(raw).replace("\ue000", " ") + "\n")
        if node.type == "heredoc_redirect":
            return self._heredoc(node)
        target = node.child_by_field_name("destination")
        if target is None:
            return None
        raw = self.raw(target)
        sign = next((child.type for child in node.children if not child.is_named), "")
        if raw.startswith("<("):
            return self._nested(raw[2 : closing(raw, 1)])
        if raw.startswith(">("):
            self._nested(raw[2 : closing(raw, 1)])
            return None
        path = self._expander.text(raw)
        self.notes.note("redirect" if ">" in sign else "argument", path, self.span(node), (path,))
        shell_writes.look(path, self.span(node), self.notes, writes=">" in sign)
        return self.state.files.get(path) if sign == "<" else None

    def _heredoc(self, node: Any) -> Flow:
        start = next((self.raw(child) for child in node.children if child.type == "heredoc_start"), "")
        body = next((self.raw(child) for child in node.children if child.type == "heredoc_body"), "")
        if any(quote in start for quote in "'\"\\"):
            return Flow.of(body)
        return Flow.of(self._expander.text(body, quoted=True).replace("\ue000", " "))

    def _redirected(self, node: Any, given: Flow | None) -> Flow:
        """A statement with redirections, and here-documents that hide the rest of their line."""
        inner = node.child_by_field_name("body")
        own, targets, rest = given, [], []
        for child in node.children:
            if child.type in _REDIRECTS:
                own = self._redirect(child, own) or own
                if (
                    child.type == "file_redirect"
                    and ">" in self.raw(child)[:3]
                    and (name := child.child_by_field_name("destination"))
                ):
                    targets.append(self._expander.text(self.raw(name)))
                if child.type == "heredoc_redirect":
                    rest += [
                        each
                        for each in child.children
                        if each.is_named and not each.type.startswith("heredoc")
                    ]
        outer, self.notes.piped = self.notes.piped, self.notes.piped or self.span(node)
        said = Flow() if inner is None else self.statement(inner, own)
        self.notes.piped = outer
        for name in targets:
            self.state.files[name] = said
            shell_writes.wrote(name, said, self.span(node), self.notes)
        for each in rest:
            if each.type == "pipeline":
                for stage in each.children:
                    if stage.is_named:
                        said = self._fed(stage, said, self.span(node))
            elif each.type in _REDIRECTS:
                if (name := each.child_by_field_name("destination")) is not None:
                    path = self._expander.text(self.raw(name))
                    self.notes.note("redirect", path, self.span(node), (path,))
                    self.state.files[path] = said
                    shell_writes.wrote(path, said, self.span(node), self.notes)
            else:
                self.statement(each)
        return said if not targets else Flow()

    def _pipeline(self, node: Any, given: Flow | None) -> Flow:
        said = given
        for child in node.children:
            if child.is_named:
                said = self._fed(child, said, self.span(node))
        return said or Flow()

    def _fed(self, stage: Any, given: Flow | None, span: tuple[int, int]) -> Flow:
        pinned = self.notes.piped
        self.notes.piped = span
        try:
            return self.statement(stage, given)
        finally:
            self.notes.piped = pinned

    def _assignment(self, node: Any, given: Flow | None = None) -> Flow:
        name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name is None:
            return Flow()
        key = self.raw(name)
        if value is not None and value.type == "array":
            items = [
                field
                for child in value.children
                if child.is_named
                for field in self._expander.fields(self.raw(child))
            ]
            self.state.variables[key] = items[:256]
            return Flow()
        text = "" if value is None else self._expander.text(self.raw(value)).replace("\ue000", " ")
        if "+=" in self.raw(node)[: len(key) + 2]:
            before = self.state.variables.get(key, "")
            text = (before if isinstance(before, str) else "") + text
        self.assign(key, text, self.span(node))
        return Flow()

    def assign(self, name: str, value: str, span: tuple[int, int]) -> None:
        self.state.variables[name] = value[: shell_words.MOST]
        shell_writes.assigned(name, value, span, self.notes, self)

    def _defined(self, node: Any, given: Flow | None) -> Flow:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is None or body is None:
            return Flow()
        called = self.raw(name)
        self.state.functions[called] = (self, body)
        outer, self._function = self._function, called
        try:
            if self._forks(body, called):
                self.notes.note("huge", "fork", self.span(node))
            self.statement(body)
        finally:
            self._function = outer
        return Flow()

    def _forks(self, body: Any, name: str) -> bool:
        """Whether a function calls itself in a pipeline or in the background: it multiplies."""
        text = self.raw(body)
        own = re.escape(name)
        return re.search(rf"(?:^|[\s;{{(|&]){own}\s*(?:\|\s*{own}|&\s*{own}|&)", text) is not None

    def _for(self, node: Any, given: Flow | None) -> Flow:
        variable, body = node.child_by_field_name("variable"), node.child_by_field_name("body")
        if variable is None or body is None:
            return self.body(node)
        values: list[str] = []
        for child in node.children_by_field_name("value"):
            values += self._expander.fields(self.raw(child))
        said = []
        for value in (values or [UNKNOWN])[:_MOST_TURNS]:
            self.state.variables[self.raw(variable)] = value
            said.append(self.statement(body, given))
        return Flow.joined(said)

    def _loose(self, node: Any) -> Flow:
        """A statement that the grammar does not know, divided at the signs that end commands."""
        self.mended = True
        said: Flow | None = None
        text, start = self.raw(node), self.place(node.start_byte)
        for raws, sign, low, high in shell_words.divided(text):
            words = raws[1:] if raws[:1] and raws[0] in _LEADING else raws
            given = said if sign == "|" else None
            if words:
                said = self.command(words, (start + low, start + high), given)
        return said or Flow()

    # substitutions

    def _substituted(self, code: str) -> str:
        """The output of `$(..)`, with marks."""
        return self._nested(code).marked().rstrip("\n")

    def _nested(self, code: str) -> Flow:
        """Code in a substitution; it is found where the statement around it stands."""
        self.notes.deeper(_MOST_NESTED)
        inner = Shell(code, self.notes, self.state)
        inner._function = self._function
        pinned = self.notes.pinned
        self.notes.pinned = pinned or self._where(code)
        try:
            return inner.body(_parser().parse(inner.data).root_node)
        finally:
            self.notes.pinned = pinned
            self.notes.depth -= 1

    def _where(self, code: str) -> tuple[int, int]:
        start = self.code.find(code)
        return (start, start + len(code)) if start >= 0 else (0, len(self.code))


_STATEMENTS: dict[str, Any] = {
    "command": Shell._command,
    "redirected_statement": Shell._redirected,
    "pipeline": Shell._pipeline,
    "variable_assignment": Shell._assignment,
    "function_definition": Shell._defined,
    "for_statement": Shell._for,
}
