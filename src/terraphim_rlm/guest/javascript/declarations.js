// What a cell declares lives on and may be declared again by a later cell, whichever way each of them does it.
//
// V8's REPL mode allows `let` after `let`, and `function` or `var` after either of the two. This rewrites the rest:
// a `const` becomes a `let`, a declaration whose name stands for the other sort of binding becomes an assignment,
// and `import` becomes what works outside of modules. Lines keep their numbers. The parser is the one inside Node.
const declarations = (() => {
  const TELLING = /\b(?:let|const|class|function|var|import)\b/;
  const PARSING = {
    ecmaVersion: "latest",
    allowAwaitOutsideFunction: true,
    allowImportExportEverywhere: true,
    allowHashBang: true,
  };
  const known = new Map(); // name -> "lexical" (let, class) or "global" (function, var)
  let parser;

  // Acorn, as Node carries it for its own prompt; undefined in a Node that has none.
  function acorn() {
    if (parser === undefined) {
      const text = process.binding("natives")["internal/deps/acorn/acorn/dist/acorn"];
      const module = { exports: {} };
      vm.compileFunction(text, ["exports", "module"])(module.exports, module);
      parser = module.exports;
    }
    return parser;
  }

  function parsed(source) {
    try {
      return acorn().parse(source, PARSING);
    } catch {
      return undefined; // V8 knows the whole language, and says what is wrong with it
    }
  }

  class Rewriting {
    constructor(source, number) {
      this.source = source;
      this.number = number;
      this.edits = []; // [first, last + 1, text]
      this.before = ""; // runs before the cell's first statement
    }

    replace(first, end, text) {
      this.edits.push([first, end, text]);
    }

    blank(first, end, text) {
      this.replace(first, end, text.padEnd(end - first));
    }

    statement(node) {
      if (node.type === "ImportDeclaration") this.import(node);
      else if (node.type === "FunctionDeclaration") this.function(node);
      else if (node.type === "ClassDeclaration") this.class(node);
      else if (node.type === "VariableDeclaration" && (node.kind === "let" || node.kind === "const"))
        this.lexical(node);
      else this.nested(node, undefined);
    }

    lexical(node) {
      const names = namesIn(node);
      if (names.some((name) => known.get(name) === "global")) {
        this.assignments(node, "let");
      } else {
        if (node.kind === "const") this.blank(node.start, node.start + 5, "let");
        for (const name of names) known.set(name, "lexical");
      }
    }

    class(node) {
      if (known.get(node.id.name) === "global") {
        this.replace(node.start, node.start, `;${node.id.name} = `);
        this.replace(node.end, node.end, ";");
      } else known.set(node.id.name, "lexical");
    }

    // Where the name is a variable's, the function has another one and is assigned first thing.
    function(node) {
      const name = node.id.name;
      if (known.get(name) === "lexical") {
        const other = `${name}$${this.number}`;
        this.replace(node.id.start, node.id.end, other);
        this.before += `Object.defineProperty(${name} = ${other}, "name", {value: "${name}", configurable: true});`;
        known.set(other, "global");
      } else known.set(name, "global");
    }

    // `var` belongs to the whole cell wherever it stands, but not out of functions.
    nested(node, parent) {
      if (node.type === "VariableDeclaration" && node.kind === "var") this.var(node, parent);
      for (const child of children(node))
        if (!/Function|^Class/.test(child.type)) this.nested(child, node);
    }

    var(node, parent) {
      const names = namesIn(node);
      if (!names.some((name) => known.get(name) === "lexical")) {
        for (const name of names) known.set(name, "global");
      } else if (/^For/.test(parent?.type ?? "") && parent.body !== node) {
        this.blank(node.start, node.start + 3, "");
        this.declare(names, "var");
      } else this.assignments(node, "var");
    }

    assignments(node, kind) {
      this.blank(node.start, node.start + node.kind.length, ";(");
      for (const each of node.declarations)
        if (each.init === null && kind === "let") this.replace(each.end, each.end, " = undefined");
      this.replace(node.declarations.at(-1).end, node.declarations.at(-1).end, ");");
      this.declare(namesIn(node), kind);
    }

    declare(names, kind) {
      for (const name of names.filter((each) => !known.has(each))) {
        this.before += `${kind} ${name};`;
        known.set(name, kind === "let" ? "lexical" : "global");
      }
    }

    import(node) {
      const from = `await ${IMPORT}(${JSON.stringify(node.source.value)})`;
      const parts = [];
      for (const each of node.specifiers) {
        const local = each.local.name;
        if (each.type === "ImportNamespaceSpecifier") parts.push(`${local} = ${from}`);
        else {
          const wanted = each.type === "ImportDefaultSpecifier" ? "default" : each.imported.name ?? each.imported.value;
          parts.push(`${local} = (${from})[${JSON.stringify(wanted)}]`);
        }
        this.declare([local], "let");
      }
      const lines = this.source.slice(node.start, node.end).split("\n").length - 1;
      this.replace(node.start, node.end, `;void (${parts.join(", ") || from});` + "\n".repeat(lines));
    }

    importCalls(node) {
      if (node.type === "ImportExpression") this.replace(node.start, node.start + 6, IMPORT);
      for (const child of children(node)) this.importCalls(child);
    }

    text(body) {
      let first = /^#!/.test(this.source) ? this.source.search(/\n|$/) : 0;
      for (const node of body) if (node.directive !== undefined) first = node.end;
      if (this.before) this.edits.unshift([first, first, `;${this.before}`]);
      this.edits.sort((a, b) => a[0] - b[0]); // stable: what was put first at a place stays first
      let text = "";
      let at = 0;
      for (const [start, end, put] of this.edits) {
        text += this.source.slice(at, start) + put;
        at = end;
      }
      text += this.source.slice(at);
      return text;
    }
  }

  function* children(node) {
    for (const key of Object.keys(node))
      for (const child of [node[key]].flat()) if (typeof child?.type === "string") yield child;
  }

  function namesIn(node) {
    switch (node.type) {
      case "VariableDeclaration":
        return node.declarations.flatMap((each) => namesIn(each.id));
      case "Identifier":
        return [node.name];
      case "ObjectPattern":
        return node.properties.flatMap((each) => namesIn(each.value ?? each.argument));
      case "ArrayPattern":
        return node.elements.flatMap((each) => (each === null ? [] : namesIn(each)));
      case "AssignmentPattern":
        return namesIn(node.left);
      case "RestElement":
        return namesIn(node.argument);
      default:
        return [];
    }
  }

  // The text to evaluate, and whether its value is to be shown: that of a last expression, as at a prompt.
  function prepared(source, number) {
    const isObject = /^\s*\{/.test(source) && !/;\s*$/.test(source);
    const wrapped = isObject ? parsed(`(${source}\n)`) : undefined;
    if (wrapped !== undefined && !TELLING.test(source)) return { text: `(${source}\n)`, shown: true };
    const tree = parsed(source);
    if (tree === undefined) return { text: source, shown: true };
    const shown = tree.body.at(-1)?.type === "ExpressionStatement";
    if (!TELLING.test(source)) return { text: source, shown };
    const rewriting = new Rewriting(source, number);
    for (const node of tree.body) rewriting.statement(node);
    if (/\bimport\b/.test(source)) rewriting.importCalls(tree);
    return { text: rewriting.text(tree.body), shown };
  }

  return { prepared, load: acorn };
})();
