"""What JavaScript code does: modules are followed by their names, constants and look-ups by strings are put together."""

from __future__ import annotations

import re
from typing import Any

from terraphim_rlm.guard.safety import folding
from terraphim_rlm.guard.safety.folding import UNKNOWN
from terraphim_rlm.guard.safety.grammars import Tree, joined, plain
from terraphim_rlm.guard.safety.javascript_values import function_value, method
from terraphim_rlm.guard.safety.python_names import Ref

_GLOBAL = frozenset(["globalThis", "global", "window", "self", "this"])
_ROOTS = frozenset(["require", "process", "eval", "Function", "Reflect", "Buffer", "String", "atob", "unescape", "decodeURIComponent", "setTimeout", "setInterval", "setImmediate", "Object", "JSON", "module", "Array", "WebAssembly", "Deno", "Bun", "Worker", "Number", "parseInt", "queueMicrotask", "import", "escape"])  # fmt: skip
_LINES = frozenset({"child_process.exec", "child_process.execSync"})
_PROGRAMS = frozenset(
    {
        "child_process.spawn",
        "child_process.spawnSync",
        "child_process.execFile",
        "child_process.execFileSync",
        "child_process.fork",
    }
)
_CODE = frozenset(["eval", "Function", "vm.runInThisContext", "vm.runInNewContext", "vm.runInContext", "vm.Script", "setTimeout", "setInterval", "vm.compileFunction", "setImmediate", "Worker", "AsyncFunction", "GeneratorFunction"])  # fmt: skip
_WITH_STRING = frozenset({"setTimeout", "setInterval", "setImmediate"})
_LOADS = frozenset(["require", "process.mainModule.require", "module.require", "import", "process.getBuiltinModule", "module.constructor._load", "module.createRequire.call", "process.mainModule.constructor._load", "require.main.require", "module.Module._load"])  # fmt: skip


class JavaScriptTree(Tree):
    """One program."""

    def _string(self, node: Any) -> Any:
        return plain(self.text(node)[1:-1])

    def _template(self, node: Any) -> Any:
        parts = []
        for child in node.children:
            if child.type == "template_substitution":
                values = self.values(child)
                parts.append(str(values[0]) if values and isinstance(values[0], (str, int)) else UNKNOWN)
            elif child.type in ("string_fragment", "escape_sequence"):
                parts.append(plain(self.text(child)))
        return UNKNOWN if any(each is UNKNOWN for each in parts) else folding.bounded("".join(parts))

    def _number(self, node: Any) -> Any:
        try:
            return int(self.text(node).replace("_", ""), 0)
        except ValueError:
            return UNKNOWN

    def _identifier(self, node: Any) -> Any:
        name = re.sub(r"\\u\{?([0-9a-fA-F]+)\}?", lambda m: chr(int(m[1], 16) % 0x110000), self.text(node))
        if name in self.names:
            return self.names[name]
        if name in _GLOBAL:
            return Ref("~global")
        if name in ("cp", "child_process", "fs", "vm", "os"):
            return Ref("child_process" if name == "cp" else name)
        return Ref(name, name != self.text(node)) if name in _ROOTS else UNKNOWN

    def _this(self, node: Any) -> Any:
        return Ref("~this")

    def _member(self, node: Any) -> Any:
        base = self.field(node, "object")
        name = node.child_by_field_name("property")
        return UNKNOWN if name is None else self._property(base, self.text(name), node, hidden=False)

    def _subscript(self, node: Any) -> Any:
        base, key = self.field(node, "object"), self.field(node, "index")
        if isinstance(base, (str, list)) and type(key) is int:
            return base[key] if -len(base) <= key < len(base) else UNKNOWN
        if isinstance(key, str):
            return self._property(base, key, node, hidden=True)
        if isinstance(base, Ref) and base.path in ("child_process", "~global"):
            return Ref("~of.child_process", True)
        return UNKNOWN

    def _property(self, base: Any, name: str, node: Any, *, hidden: bool) -> Any:
        if name == "constructor" and not (
            isinstance(base, Ref) and base.path in ("~this", "module", "process.mainModule")
        ):
            if isinstance(base, Ref) and base.path in ("~constructor", "~function"):
                return Ref("Function", True)
            return Ref("~constructor", True)
        if isinstance(base, Ref):
            if base.path in ("~global", "~this"):
                return Ref(name, hidden or base.hidden) if name in _ROOTS or hidden else UNKNOWN
            if base.path == "~constructor":
                return UNKNOWN
            return Ref(f"{base.path}.{name}", hidden or base.hidden)
        if isinstance(base, dict):
            return base.get(name, UNKNOWN)
        if isinstance(base, (str, list)):
            if hidden:
                return Ref("~function", True)
            return ("method", base, name)
        return (
            Ref("~function", True)
            if hidden and name in ("flat", "map", "filter", "find", "at", "concat", "sub", "big")
            else UNKNOWN
        )

    def _binary(self, node: Any) -> Any:
        left, right = self.field(node, "left"), self.field(node, "right")
        sign = node.child_by_field_name("operator")
        if (
            isinstance(left, list)
            and left == []
            and sign is not None
            and sign.type == "+"
            and isinstance(right, str)
        ):
            left = ""
        return joined(sign.type if sign is not None else "", left, right)

    def _array(self, node: Any) -> Any:
        return self.values(node)[:4096]

    def _object(self, node: Any) -> Any:
        found: dict[str, Any] = {}
        for child in node.children:
            if child.type == "pair":
                key, value = child.child_by_field_name("key"), self.field(child, "value")
                if key is not None:
                    found[self.text(key).strip("'\"")] = value
            elif child.is_named:
                self.visit(child)
        return found

    def _parenthesis(self, node: Any) -> Any:
        values = self.values(node)
        return values[-1] if values else UNKNOWN

    def _function(self, node: Any) -> Any:
        for child in node.children:
            if child.is_named:
                self.visit(child)
        return Ref("~function")

    def _declared(self, node: Any) -> Any:
        name, value = node.child_by_field_name("name"), self.field(node, "value")
        if name is not None:
            self._bind(name, value)
        return UNKNOWN

    def _bind(self, name: Any, value: Any) -> None:
        if name.type == "identifier":
            self.names[self.text(name)] = value
        elif name.type == "object_pattern":
            for child in name.children:
                if child.type == "shorthand_property_identifier_pattern":
                    key = self.text(child)
                    self.names[key] = self._property(value, key, child, hidden=False)
                elif child.type == "pair_pattern":
                    key, target = child.child_by_field_name("key"), child.child_by_field_name("value")
                    if key is not None and target is not None:
                        known = (
                            self.visit(key.children[1])
                            if key.type == "computed_property_name"
                            else self.text(key).strip("'\"")
                        )
                        if isinstance(known, str):
                            self._bind(
                                target,
                                self._property(value, known, child, hidden=key.type != "property_identifier"),
                            )

    def _assigned(self, node: Any) -> Any:
        left, value = node.child_by_field_name("left"), self.field(node, "right")
        if left is None:
            return value
        if left.type == "identifier":
            self.names[self.text(left)] = value
        else:
            target = self.visit(left)
            if isinstance(target, Ref):
                self.notes.note("hook", target.path, self.span(node))
        return value

    def _added(self, node: Any) -> Any:
        left, value = node.child_by_field_name("left"), self.field(node, "right")
        if left is not None and left.type == "identifier":
            self.names[self.text(left)] = joined("+", self.names.get(self.text(left), UNKNOWN), value)
        return UNKNOWN

    def _import(self, node: Any) -> Any:
        source = node.child_by_field_name("source")
        module = "" if source is None else plain(self.text(source)[1:-1]).removeprefix("node:")
        self.notes.note("import", module, self.span(node))
        for name, alias in re.findall(
            r"(\w+)(?:\s+as\s+(\w+))?",
            self.text(node).partition(" from ")[0].removeprefix("import").replace("* as ", ""),
        ):
            clause = "{" in self.text(node) and re.search(rf"\{{[^}}]*\b{name}\b", self.text(node))
            self.names[alias or name] = Ref(f"{module}.{name}" if clause else module)
        return UNKNOWN

    def _new(self, node: Any) -> Any:
        function, arguments = self.field(node, "constructor"), node.child_by_field_name("arguments")
        return self._done(function, [] if arguments is None else self.values(arguments), node)

    def _call(self, node: Any) -> Any:
        callee, arguments = node.child_by_field_name("function"), node.child_by_field_name("arguments")
        if callee is None:
            return UNKNOWN
        function = Ref("import") if callee.type == "import" else self.visit(callee)
        if arguments is None:
            args = []
        elif arguments.type == "template_string":
            args = [self.visit(arguments)]
        else:
            args = self.values(arguments)
        return self._done(function, args, node)

    def _done(self, function: Any, args: list[Any], node: Any) -> Any:
        """A call of what a function comes to."""
        if isinstance(function, tuple):
            return method(function[1], function[2], args)
        if not isinstance(function, Ref):
            for each in args:
                if isinstance(each, Ref) and not each.path.startswith("~"):
                    self.called(each.path, [], node, hidden=each.hidden)
            return UNKNOWN
        through = self._through(function, args, node)
        if through is not None:
            return through
        path, first = function.path, args[0] if args else UNKNOWN
        if path in _LOADS:
            return self._loaded(function, first, node)
        if path in ("~constructor", "~function"):
            made = path == "~constructor" and isinstance(first, str)
            return self._code("Function", args, node, hidden=True) if made else UNKNOWN
        if path in _WITH_STRING and not isinstance(first, str):
            return UNKNOWN
        self.called(path, args, node, hidden=function.hidden)
        if path in _LINES:
            self.shell(first, node)
        elif path in _PROGRAMS:
            self._started(args, node)
        elif path in _CODE:
            return self._code(path, args, node, hidden=False)
        return function_value(path, args)

    def _through(self, function: Ref, args: list[Any], node: Any) -> Any:
        """Calls through `call`, `apply` and `Reflect`; None when this is none."""
        path, hidden, listed = (
            function.path,
            function.hidden,
            [each for each in args if isinstance(each, list)],
        )
        base, _, last = path.rpartition(".")
        if base and last in ("call", "bind"):
            return self._done(Ref(base, hidden), args[1:], node)
        if base == "Reflect" and last in ("apply", "construct") and args:
            return self._done(args[0], listed[0] if listed else [], node)
        if base and last == "apply":
            return self._done(Ref(base, hidden), listed[0] if listed else [], node)
        if path == "Reflect.get" and len(args) >= 2 and isinstance(args[1], str):
            return self._property(args[0], args[1], node, hidden=True)
        return None

    def _loaded(self, function: Ref, name: Any, node: Any) -> Any:
        """A module."""
        if not isinstance(name, str):
            return UNKNOWN
        module = name.removeprefix("node:")
        self.notes.note("import", module, self.span(node))
        return Ref(module, function.hidden or function.path not in ("require", "import"))

    def _started(self, args: list[Any], node: Any) -> None:
        """A program with a list of arguments."""
        argv = [*args[:1], *(args[1] if len(args) > 1 and isinstance(args[1], list) else [])]
        if any(isinstance(each, dict) and "shell" in each for each in args):
            self.shell(" ".join(each for each in argv if isinstance(each, str)), node)
        self.program(argv, node)

    def _code(self, path: str, args: list[Any], node: Any, *, hidden: bool) -> Any:
        text = args[-1] if path == "Function" and args else args[0] if args else UNKNOWN
        if hidden:
            self.called(path, args, node, hidden=True)
        if isinstance(text, str):
            self.inside(text if path != "Function" else f"(function(){{{text}\n}})", "javascript", node)
            if re.fullmatch(r"\s*return\s+process\s*;?\s*", text):
                return ("made", Ref("process", True))
            if re.fullmatch(r"\s*return\s+(?:this|globalThis|global)\s*;?\s*", text):
                return ("made", Ref("~global", True))
            if re.fullmatch(r"\s*return\s+(?:require|eval)\s*;?\s*", text):
                return ("made", Ref(text.split()[1].rstrip(";"), True))
        return ("made", UNKNOWN)


def _call_of_made(tree: JavaScriptTree, node: Any) -> Any:
    """A call, the function of which may itself be the result of making one."""
    callee = node.child_by_field_name("function")
    if callee is not None and callee.type in (
        "call_expression",
        "new_expression",
        "parenthesized_expression",
    ):
        made = tree.visit(callee)
        if isinstance(made, tuple) and made and made[0] == "made":
            arguments = node.child_by_field_name("arguments")
            if arguments is not None:
                tree.values(arguments)
            return made[1]
    return tree._call(node)


JavaScriptTree.cases = {
    "string": JavaScriptTree._string,
    "template_string": JavaScriptTree._template,
    "number": JavaScriptTree._number,
    "identifier": JavaScriptTree._identifier,
    "this": JavaScriptTree._this,
    "member_expression": JavaScriptTree._member,
    "subscript_expression": JavaScriptTree._subscript,
    "binary_expression": JavaScriptTree._binary,
    "array": JavaScriptTree._array,
    "object": JavaScriptTree._object,
    "parenthesized_expression": JavaScriptTree._parenthesis,
    "sequence_expression": JavaScriptTree._parenthesis,
    "arrow_function": JavaScriptTree._function,
    "function_expression": JavaScriptTree._function,
    "generator_function": JavaScriptTree._function,
    "variable_declarator": JavaScriptTree._declared,
    "assignment_expression": JavaScriptTree._assigned,
    "augmented_assignment_expression": JavaScriptTree._added,
    "import_statement": JavaScriptTree._import,
    "new_expression": JavaScriptTree._new,
    "call_expression": _call_of_made,
    "await_expression": JavaScriptTree._parenthesis,
}
