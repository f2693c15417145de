"""What JavaScript, Rust and Go code does, by tree-sitter: calls by the path of their names, constants put together."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, ClassVar

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.notes import Notes
from terraphim_rlm.guard.safety.reading import Unparsed
from terraphim_rlm.guard.safety.rules import rule_set

_MOST_TEXT = 4096


@cache
def _parser(language: str) -> Any:
    from importlib import import_module

    import tree_sitter

    grammar = import_module(f"tree_sitter_{language}")
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def read(code: str, language: str, notes: Notes) -> None:
    """Notes what `code` does.

    Raises:
        Unparsed: the grammar does not know it. What could be told is noted all the same.
    """
    from terraphim_rlm.guard.safety.golang import GoTree
    from terraphim_rlm.guard.safety.javascript import JavaScriptTree
    from terraphim_rlm.guard.safety.rust import RustTree

    kind: Any = {"javascript": JavaScriptTree, "rust": RustTree, "go": GoTree}[language]
    tree = kind(code, notes)
    root = _parser(language).parse(tree.data).root_node
    tree.visit(root)
    if root.has_error:
        raise Unparsed


class Tree:
    """Goes through one tree; the languages differ in `_CASES`, by node type."""

    cases: ClassVar[dict[str, Any]] = {}

    def __init__(self, code: str, notes: Notes) -> None:
        self.code = code
        self.data = code.encode("utf-8", "surrogatepass")
        self.notes = notes
        self.names: dict[str, Any] = {}
        self._ascii = len(self.data) == len(code)

    def span(self, node: Any) -> tuple[int, int]:
        if self._ascii:
            return node.start_byte, node.end_byte
        start = len(self.data[: node.start_byte].decode("utf-8", "replace"))
        return start, start + len(self.text(node))

    def text(self, node: Any) -> str:
        text: bytes = self.data[node.start_byte : node.end_byte]
        return text.decode("utf-8", "replace")

    def visit(self, node: Any) -> Any:
        """A node and all below it; the value that it has."""
        known = self.cases.get(node.type)
        if known is not None:
            return known(self, node)
        for child in node.children:
            if child.is_named or child.has_error:
                self.visit(child)
        return UNKNOWN

    def field(self, node: Any, name: str) -> Any:
        """The value of a field; `UNKNOWN` when there is none."""
        child = node.child_by_field_name(name)
        return UNKNOWN if child is None else self.visit(child)

    def values(self, node: Any) -> list[Any]:
        """The values of what a node lists."""
        return [
            self.visit(child) for child in node.children if child.is_named and "comment" not in child.type
        ]

    def called(self, path: str, args: list[Any], node: Any, *, hidden: bool = False) -> None:
        """Notes a call."""
        said: list[str | None] = []
        for each in args:
            inner = each if isinstance(each, list) else [each]
            said += [str(one) if isinstance(one, (str, int)) else None for one in inner]
        span = self.span(node)
        self.notes.note("call", path, span, said[:64], hidden)
        for text in said[:64]:
            if text is not None:
                self.looked_at(text, span)

    def looked_at(self, text: str, span: tuple[int, int]) -> None:
        if len(text) < _MOST_TEXT:
            for rule in rule_set().broken("argument", self.notes.language, text):
                self.notes.find(rule, span)

    def shell(self, line: Any, node: Any) -> None:
        """A line for the shell."""
        if isinstance(line, str):
            self.inside(line, "bash", node)

    def program(self, argv: list[Any], node: Any) -> None:
        """A program and its arguments."""
        from terraphim_rlm.guard.safety import shell_commands

        words = [each if isinstance(each, str) else None for each in argv]
        shell_commands.run(words, self.span(node), self.notes)

    def inside(self, text: str, language: str, node: Any) -> None:
        from terraphim_rlm.guard.safety.reading import inside

        inside(text, language, self.notes, self.span(node))


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "v": "\v", "f": "\f"}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]{1,6})\}|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(\r?\n)|(.))",
    re.DOTALL,
)


def plain(text: str) -> str:
    """The inside of a string literal with its escapes done."""

    def one(found: re.Match[str]) -> str:
        digits = found[1] or found[2] or found[3] or found[4]
        if digits:
            number = int(digits, 16)
            return chr(number) if number < 0x110000 else "\ufffd"
        if found[5]:
            return chr(int(found[5], 8))
        return "" if found[6] else _ESCAPES.get(found[7], found[7])

    return _ESCAPE.sub(one, text)


def joined(kind: str, left: Any, right: Any) -> Any:
    """A sum of two constants."""
    if kind == "+" and isinstance(left, (str, int)) and isinstance(right, (str, int)):
        if isinstance(left, str) or isinstance(right, str):
            return folding.bounded(f"{left}{right}")
        return folding.operation("Add", left, right)
    names = {"-": "Sub", "*": "Mult", "^": "BitXor", "|": "BitOr", "&": "BitAnd", ">>": "RShift", "%": "Mod"}
    if kind in names and type(left) is int and type(right) is int:
        return folding.operation(names[kind], left, right)
    return UNKNOWN
