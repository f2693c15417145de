"""What Go code does: calls by the paths of their names, programs with their arguments, and what the compiler reads."""

from __future__ import annotations

import base64
import re
from typing import Any

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.grammars import Tree, joined, plain


class GoTree(Tree):
    """One Go program."""

    def _string(self, node: Any) -> Any:
        text = self.text(node)
        return text[1:-1] if text.startswith("`") else plain(text[1:-1])

    def _number(self, node: Any) -> Any:
        try:
            return int(self.text(node).replace("_", ""), 0)
        except ValueError:
            return UNKNOWN

    def _rune(self, node: Any) -> Any:
        text = plain(self.text(node)[1:-1])
        return ord(text) if len(text) == 1 else UNKNOWN

    def _import(self, node: Any) -> Any:
        name, path = node.child_by_field_name("name"), node.child_by_field_name("path")
        module = "" if path is None else self.text(path).strip('"`')
        self.names[self.text(name) if name is not None else module.rpartition("/")[2]] = module
        self.notes.note("import", module, self.span(node))
        return UNKNOWN

    def _comment(self, node: Any) -> Any:
        text = self.text(node)
        found = re.search(r"//go:(linkname|embed|generate|cgo_\w+)[^\n]*|#\s*(include|cgo)[^\n]*", text)
        if found is not None:
            kind = found[1] or found[2]
            self.notes.note("call", f"//go:{kind}", self.span(node), (found[0],))
            self.looked_at(found[0], self.span(node))
        return UNKNOWN

    def _declared(self, node: Any) -> Any:
        left, right = (
            node.child_by_field_name("left") or node.child_by_field_name("name"),
            node.child_by_field_name("right") or node.child_by_field_name("value"),
        )
        if left is None or right is None:
            for child in node.children:
                if child.is_named:
                    self.visit(child)
            return UNKNOWN
        names = (
            [child for child in left.children if child.is_named] if left.type == "expression_list" else [left]
        )
        values = self.values(right) if right.type == "expression_list" else [self.visit(right)]
        for number, name in enumerate(names):
            self.names[f"={self.text(name)}"] = (
                values[number]
                if len(values) == len(names)
                else (values[0] if number == 0 and values else UNKNOWN)
            )
        return UNKNOWN

    def _identifier(self, node: Any) -> Any:
        return self.names.get(f"={self.text(node)}", UNKNOWN)

    def _path(self, node: Any) -> str:
        text = re.sub(r"\s", "", self.text(node))
        head, dot, rest = text.partition(".")
        known = self.names.get(head)
        value = self.names.get(f"={head}")
        if isinstance(value, str) and value.startswith("~") and not dot:
            return value[1:]
        return f"{known}{dot}{rest}" if isinstance(known, str) else text

    def _selector(self, node: Any) -> Any:
        return f"~{self._path(node)}" if self.text(node).partition(".")[0] in self.names else UNKNOWN

    def _call(self, node: Any) -> Any:
        function, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
        args = [] if arguments is None else self.values(arguments)
        if function is None:
            return UNKNOWN
        if function.type not in ("identifier", "selector_expression"):
            self.visit(function)
        if (
            function.type == "selector_expression"
            and (operand := function.child_by_field_name("operand")) is not None
            and operand.type == "call_expression"
        ):
            self.visit(operand)
        path = self._path(function)
        self.called(path, args, node)
        if path == "os/exec.Command":
            self.program(args, node)
        elif path == "os/exec.CommandContext":
            self.program(args[1:], node)
        elif path in ("syscall.Exec", "syscall.ForkExec", "os.StartProcess") and len(args) > 1:
            self.program(args[1] if isinstance(args[1], list) else [args[0]], node)
        return _go_value(path, args)

    def _literal(self, node: Any) -> Any:
        kind, body = node.child_by_field_name("type"), node.child_by_field_name("body")
        values = [] if body is None else self.values(body)
        if kind is not None and self._path(kind) == "os/exec.Cmd" and body is not None:
            strings = [plain(each) for each in re.findall(r'"((?:[^"\\]|\\.)*)"', self.text(body))]
            self.called("os/exec.Command", strings, node)
            if strings:
                self.program([strings[0], *strings[2:]], node)
        return values

    def _element(self, node: Any) -> Any:
        values = self.values(node)
        return values[-1] if values else UNKNOWN

    def _binary(self, node: Any) -> Any:
        sign = node.child_by_field_name("operator")
        return joined(
            sign.type if sign is not None else "", self.field(node, "left"), self.field(node, "right")
        )


def _go_value(path: str, args: list[Any]) -> Any:
    first = args[0] if args else UNKNOWN
    if path in ("string", "[]byte", "[]rune"):
        if isinstance(first, list) and all(type(each) is int for each in first):
            return "".join(chr(each % 0x110000) for each in first)
        return chr(first % 0x110000) if type(first) is int and path == "string" else first
    if path == "strings.Join" and len(args) == 2 and isinstance(first, list):
        return (
            args[1].join(first)
            if isinstance(args[1], str) and all(isinstance(each, str) for each in first)
            else UNKNOWN
        )
    if path == "strings.ReplaceAll" and len(args) == 3:
        return folding.method(first, "replace", args[1:]) if isinstance(first, str) else UNKNOWN
    if path.startswith("encoding/base64.") and path.endswith("DecodeString") and isinstance(first, str):
        try:
            return base64.b64decode(first + "==").decode("utf-8", "replace")
        except ValueError:
            return UNKNOWN
    if path.startswith("encoding/hex.") and isinstance(first, str):
        try:
            return bytes.fromhex(first).decode("utf-8", "replace")
        except ValueError:
            return UNKNOWN
    if path == "fmt.Sprint" and all(isinstance(each, str) for each in args):
        return "".join(args)
    return UNKNOWN


GoTree.cases = {
    "interpreted_string_literal": GoTree._string,
    "raw_string_literal": GoTree._string,
    "int_literal": GoTree._number,
    "rune_literal": GoTree._rune,
    "import_spec": GoTree._import,
    "comment": GoTree._comment,
    "short_var_declaration": GoTree._declared,
    "assignment_statement": GoTree._declared,
    "var_spec": GoTree._declared,
    "const_spec": GoTree._declared,
    "identifier": GoTree._identifier,
    "selector_expression": GoTree._selector,
    "call_expression": GoTree._call,
    "composite_literal": GoTree._literal,
    "literal_element": GoTree._element,
    "binary_expression": GoTree._binary,
    "parenthesized_expression": GoTree._element,
    "type_conversion_expression": lambda tree, node: _go_value(
        re.sub(r"\s", "", tree.text(node.child_by_field_name("type"))), [tree.field(node, "operand")]
    ),
}
