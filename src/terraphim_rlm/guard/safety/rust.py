"""What Rust code does: calls by the paths of their names, programs with their arguments, and what the compiler reads."""

from __future__ import annotations

import re
from typing import Any

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.grammars import Tree, joined, plain
from terraphim_rlm.guard.safety.notes import Notes

_MOST_MACROS = 12
_READS = frozenset({"include_str", "include_bytes", "include", "env", "option_env"})


class RustTree(Tree):
    """One Rust program."""

    def __init__(self, code: str, notes: Notes) -> None:
        super().__init__(code, notes)
        self._foreign: set[str] = set()

    def _string(self, node: Any) -> Any:
        text = self.text(node)
        raw = re.fullmatch(r"b?c?r(#*)\"(.*)\"\1", text, re.DOTALL)
        return raw[2] if raw else plain(text.lstrip("bc")[1:-1])

    def _number(self, node: Any) -> Any:
        found = re.match(r"0x[0-9a-fA-F_]+|[0-9_]+", self.text(node))
        return int(found[0].replace("_", ""), 0) if found and not found[0].startswith("0o") else UNKNOWN

    def _use(self, node: Any) -> Any:
        text = re.sub(r"\s+", " ", self.text(node).removeprefix("pub ").removeprefix("use ").rstrip(";"))
        for path, alias in _used(text):
            self.names[alias] = path
        self.notes.note("import", text.partition("{")[0], self.span(node))
        return UNKNOWN

    def _path(self, node: Any) -> str:
        """The path of a function, by what its first part was brought in as."""
        text = re.sub(r"\s+|::<[^()]*>", "", self.text(node)).lstrip(":")
        head, colons, rest = text.partition("::")
        known = self.names.get(head)
        return (
            f"{known}{colons}{rest}"
            if isinstance(known, str) and colons
            else known
            if isinstance(known, str)
            else text
        )

    def _let(self, node: Any) -> Any:
        name, value = node.child_by_field_name("pattern"), self.field(node, "value")
        if (name is not None and not isinstance(value, list)) or name is not None:
            self.names[f"={self.text(name).removeprefix('mut ')}"] = value
        return UNKNOWN

    def _identifier(self, node: Any) -> Any:
        return self.names.get(f"={self.text(node)}", UNKNOWN)

    def _reference(self, node: Any) -> Any:
        return self.field(node, "value")

    def _array(self, node: Any) -> Any:
        return self.values(node)[:1024]

    def _foreign_block(self, node: Any) -> Any:
        self._foreign |= set(re.findall(r"\bfn\s+(\w+)", self.text(node)))
        return UNKNOWN

    def _macro(self, node: Any) -> Any:
        name = re.sub(r"\s", "", self.text(node).partition("!")[0])
        strings = [plain(each) for each in re.findall(r'"((?:[^"\\]|\\.)*)"', self.text(node))]
        if name in _READS:
            self.notes.note("call", f"{name}!", self.span(node), strings)
            for each in strings:
                self.looked_at(each, self.span(node))
        elif name in ("asm", "global_asm", "naked_asm", "core::arch::asm", "std::arch::asm"):
            self.notes.note("call", "asm!", self.span(node), strings)
        elif name == "concat":
            return "".join(strings)
        else:
            self._in_macro(node)
        if name == "vec":
            return strings
        return strings[0] if name == "format" and len(strings) == 1 and "{" not in strings[0] else UNKNOWN

    def _in_macro(self, node: Any) -> None:
        """Calls in a macro's tokens, which the grammar does not parse: parsed again as an expression."""
        from terraphim_rlm.guard.safety.grammars import _parser

        inner = self.text(node)[len(self.text(node).partition("!")[0]) + 2 : -1]
        if "(" in inner:
            self.notes.deeper(_MOST_MACROS)
            pinned, self.notes.pinned = self.notes.pinned, self.notes.pinned or self.span(node)
            tree = RustTree(f"fn f() {{ g({inner}); }}", self.notes)
            tree.names, tree._foreign = self.names, self._foreign
            try:
                tree.visit(_parser("rust").parse(tree.data).root_node)
            finally:
                self.notes.pinned = pinned
                self.notes.depth -= 1

    def _call(self, node: Any) -> Any:
        function, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
        args = [] if arguments is None else self.values(arguments)
        if function is None:
            return UNKNOWN
        if function.type == "field_expression":
            return self._method(function, args, node)
        path = self._path(function).removeprefix("::").removeprefix("core::").removeprefix("std::")
        if path in self._foreign:
            path = f"libc::{path}"
        if path.endswith("CString::new") or path in (
            "String::from",
            "Path::new",
            "path::Path::new",
            "PathBuf::from",
            "Some",
            "OsStr::new",
        ):
            return args[0] if args else UNKNOWN
        self.called(path, args, node)
        if path in ("libc::system", "libc::popen"):
            self.shell(args[0] if args else UNKNOWN, node)
        if path.endswith("process::Command::new") or path == "Command::new":
            return ("command", [args[0] if args else UNKNOWN])
        if (
            path.endswith(("from_utf8", "from_utf8_lossy", "from_utf8_unchecked"))
            and args
            and isinstance(args[0], list)
        ):
            return bytes(each & 255 for each in args[0] if type(each) is int).decode("utf-8", "replace")
        return UNKNOWN

    def _method(self, function: Any, args: list[Any], node: Any) -> Any:
        value, name = self.field(function, "value"), self.text(function.child_by_field_name("field"))
        if isinstance(value, tuple) and value and value[0] == "command":
            argv = value[1]
            if name == "arg" and args:
                return ("command", [*argv, args[0]])
            if name == "args" and args:
                return ("command", [*argv, *(args[0] if isinstance(args[0], list) else [UNKNOWN])])
            if name in ("spawn", "output", "status", "exec"):
                self.called("process::Command::new", [each for each in argv if isinstance(each, str)], node)
                self.program(argv, node)
                return UNKNOWN
            return value
        if name in (
            "to_string",
            "to_owned",
            "into",
            "as_str",
            "clone",
            "unwrap",
            "as_ptr",
            "as_bytes",
            "expect",
            "as_ref",
            "iter",
            "collect",
        ):
            return value
        if (
            name in ("concat", "join")
            and isinstance(value, list)
            and all(isinstance(each, str) for each in value)
        ):
            return (args[0] if args and isinstance(args[0], str) else "").join(value)
        if name in ("rev", "chars"):
            return value[::-1] if name == "rev" and isinstance(value, (str, list)) else value
        if name == "replace" and isinstance(value, str) and len(args) == 2:
            return folding.method(value, "replace", args)
        return UNKNOWN

    def _binary(self, node: Any) -> Any:
        sign = node.child_by_field_name("operator")
        return joined(
            sign.type if sign is not None else "", self.field(node, "left"), self.field(node, "right")
        )

    def _inner(self, node: Any) -> Any:
        values = self.values(node)
        return values[-1] if values else UNKNOWN

    def _attribute(self, node: Any) -> Any:
        text = self.text(node)
        strings = [plain(each) for each in re.findall(r'"((?:[^"\\]|\\.)*)"', text)]
        name = re.sub(r"[#!\[\s]", "", text.partition("(")[0].partition("=")[0])
        self.notes.note("call", f"#{name.rstrip(']')}", self.span(node), strings)
        for each in strings:
            self.looked_at(each, self.span(node))
        return UNKNOWN


def _used(text: str) -> list[tuple[str, str]]:
    """Paths and the names that a `use` gives them; one level of braces."""
    head, brace, rest = text.partition("{")
    parts = rest.rstrip("}").split(",") if brace else [""]
    found = []
    for part in parts:
        path, _, alias = (head + part.strip()).partition(" as ")
        path = path.strip().removesuffix("::self").replace(" ", "")
        found.append((path, alias.strip() or path.rpartition("::")[2]))
    return found


RustTree.cases = {
    "string_literal": RustTree._string,
    "raw_string_literal": RustTree._string,
    "integer_literal": RustTree._number,
    "use_declaration": RustTree._use,
    "let_declaration": RustTree._let,
    "const_item": lambda tree, node: tree.names.__setitem__(
        f"={tree.text(node.child_by_field_name('name'))}", tree.field(node, "value")
    ),
    "static_item": lambda tree, node: tree.names.__setitem__(
        f"={tree.text(node.child_by_field_name('name'))}", tree.field(node, "value")
    ),
    "identifier": RustTree._identifier,
    "reference_expression": RustTree._reference,
    "array_expression": RustTree._array,
    "foreign_mod_item": RustTree._foreign_block,
    "macro_invocation": RustTree._macro,
    "call_expression": RustTree._call,
    "binary_expression": RustTree._binary,
    "parenthesized_expression": RustTree._inner,
    "try_expression": RustTree._inner,
    "attribute_item": RustTree._attribute,
    "inner_attribute_item": RustTree._attribute,
}
