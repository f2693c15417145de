"""The names that every cell finds: models, finishing, search in big inputs, shell, combinators.

They are put back before each cell, whatever the code before did to them.
"""

import sys

from . import frames, search
from .library import load, part
from .values import TOO_LARGE, describe


class ModelCallError(Exception):
    """A sub-call failed; its text is never an answer. `.type` names the error's class on the host."""

    def __init__(self, type, message):
        super().__init__(message)
        self.type = type


class BudgetError(ModelCallError):
    """A limit of the run is reached."""


def bind(cell):
    """The helpers of one cell, by name."""
    calls = Calls(cell)
    finish = Finish(cell)
    names = {
        "llm_query": calls.llm_query,
        "query_llm": calls.llm_query,
        "llm_query_batched": calls.llm_query_batched,
        "rlm_query": calls.rlm_query,
        "rlm_query_batched": calls.rlm_query_batched,
        "FINAL": finish.final,
        "FINAL_VAR": finish.final_var,
        "SUBMIT": finish.submit,
        "cite": finish.cite,
        "quote": finish.quote,
        "kg_chunks": calls.kg_chunks,
        "sh": shell,
        "ModelCallError": ModelCallError,
        "BudgetError": BudgetError,
        "true": True,
        "false": False,
        "null": None,
        "print": print,
    }
    names.update(search.bind(cell))
    names.update(calls.combinators())
    return names


class Calls:
    """Sub-calls to the host over the cell's channel."""

    def __init__(self, cell):
        self._cell = cell

    def ask(self, op, **args):
        """One request to the host; its value, or the error that it names raised here."""
        if self._cell.has_forked():
            raise RuntimeError(
                f"{op}: a process that forked away from the interpreter has no calls; use threads"
            )
        body = load("json").dumps({"op": op, **args}).encode("utf-8", "surrogatepass")
        kind, answer = self._cell.channel.call(body)
        value = load("json").loads(answer)
        if kind == frames.REPLY:
            return value
        raise _error(value)

    def llm_query(self, prompt, *, model=None, max_tokens=None, temperature=None, memo=None):
        """Asks a model and returns its text. Raises ModelCallError; error text is never an answer.

        memo: True takes the answer to an identical prompt of this run, if there is one; None does where temperature
        is 0, so that nothing is sampled.
        """
        options = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "memo": memo}
        return self.ask("llm_query", prompt=_text(prompt), **options)

    def llm_query_batched(
        self, prompts, *, model=None, max_tokens=None, temperature=None, memo=None, on_error="raise"
    ):
        """Asks all prompts at once; answers in the order of the prompts.

        on_error: "raise" raises the first failure after all have ended; "return" puts the exception in its place.
        """
        prompts = [_text(prompt) for prompt in prompts]
        if not prompts:
            return []
        options = {"model": model, "max_tokens": max_tokens, "temperature": temperature, "memo": memo}
        return _results(self.ask("llm_query_batched", prompts=prompts, **options), on_error)

    def rlm_query(self, question, context=None, *, isolate=False):
        """Lets a child node, with its own interpreter, answer a question over `context`.

        The input, or files of it, are shared with the child and not copied. isolate: True gives it a sandbox of its
        own, with none of our files and processes, and all of a sandbox's limits.
        """
        asked = {"question": _text(question), "context": self._shipped(context)}
        return self.ask("rlm_query", isolate=isolate is True, **asked)

    def rlm_query_batched(self, questions, contexts=None, *, on_error="raise", isolate=False):
        """One child node for each question, side by side; answers in the order of the questions.

        contexts: one for each question, or one value for all. on_error: as in llm_query_batched. isolate: as in
        rlm_query; each has a sandbox of its own.
        """
        questions = [_text(question) for question in questions]
        if not isinstance(contexts, (list, tuple)):
            contexts = [contexts] * len(questions)
        if len(contexts) != len(questions):
            raise ValueError(f"rlm_query_batched: {len(questions)} questions, but {len(contexts)} contexts")
        if not questions:
            return []
        asked = [
            {"question": question, "context": self._shipped(context)}
            for question, context in zip(questions, contexts)
        ]
        return _results(self.ask("rlm_query_batched", items=asked, isolate=isolate is True), on_error)

    def _shipped(self, context):
        """A child's context: what is part of the input by name, text as it is, JSON as JSON."""
        if context is None:
            return None
        named = self._named(context)
        if named is not None:
            return {"input": named}
        described = describe(context)
        if described["json"]:
            return {"json": described["value"]}
        if hasattr(type(context), "plain") and not hasattr(type(context), "find"):
            raise ValueError(
                f"rlm_query: {len(context.bytes):,} bytes are too much for a child; give it some of the files or lines"
            )
        return {"json": str(context)}

    def _named(self, value):
        """How the host knows a value that is the input or whole files of it; None for anything else."""
        whole = self._cell.helpers.get("context")
        if value is whole and not isinstance(value, (list, dict)):  # these may have been changed since
            return {}
        if not hasattr(type(whole), "spans"):
            return None
        if isinstance(value, dict) and value:
            paths = [path for path, text in value.items() if _is_file(whole, text) and text.path == path]
            return {"paths": paths} if len(paths) == len(value) else None
        return {"paths": [value.path], "one": True} if _is_file(whole, value) else None

    def kg_chunks(self, terms, text=None, *, limit=100, path=None):
        """Paragraphs that name one of these concepts of the knowledge graph, by any of its terms, as a list of Hit.

        The first `limit` of them, None = all. Of `context`, or of the text given; `path` picks one file of it.
        """
        terms = [terms] if isinstance(terms, str) else [_text(term) for term in terms]
        known = part("concepts").Paragraphs(self.ask("kg_terms", terms=terms))
        source = self._cell.namespace.get("context") if text is None else text
        hits, most = [], float("inf") if limit is None else limit
        for name, data in search.parts(source, path):
            for hit in known.hits(name, data):
                if len(hits) >= most:
                    return hits
                hits.append(hit)
        return hits

    def combinators(self):
        """Programs over sub-calls that weak models need not write."""
        from . import queries

        return queries.bind(self)


class Finish:
    """What ends a run, and the spans that its answer rests on."""

    def __init__(self, cell):
        self._cell = cell

    def final(self, value, *, _source="FINAL"):
        """Gives the answer. The last call of a cell counts."""
        described = describe(value)
        if described.pop("cut", False):
            raise ValueError(f"{_source}: {TOO_LARGE}")
        body = {**described, "evidence": self._cell.evidence, "source": _source}
        data = load("json").dumps(body).encode("utf-8", "surrogatepass")
        self._cell.channel.send(frames.FINAL, self._cell.number, data)

    def final_var(self, name):
        """Gives the value of a variable, named or passed, as the answer."""
        if isinstance(name, str):
            written = _argument(self._cell.sources, sys._getframe(1))
            if written != "Name" and name in self._cell.namespace:
                name = self._cell.namespace[name]
            elif written == "Constant" and name.isidentifier():
                raise NameError(f"FINAL_VAR: there is no variable {name!r}")
        self.final(name, _source="FINAL_VAR")

    def submit(self, **fields):
        """Gives an answer of several named fields."""
        self.final(fields, _source="SUBMIT")

    def cite(self, start, end, path=None):
        """Names a span of the input, in bytes, that the answer rests on; returns its text."""
        data, path = search.span_of(self._cell.namespace.get("context"), path)
        if not 0 <= start < end <= len(data):
            raise ValueError(f"cite: {start}..{end} is not inside the {len(data):,} bytes of {path!r}")
        self._cell.evidence.append([path, start, end])
        return str(data[start:end], "utf-8", "replace")

    def quote(self, text, path=None):
        """Finds `text` word for word in the input and cites it; raises when it is not there."""
        found = search.find_exact(self._cell.namespace.get("context"), text, path)
        if found is None:
            raise ValueError(f"quote: the input does not hold {text[:80]!r} word for word")
        self._cell.evidence.append(list(found))
        return text


def shell(command, timeout=30):
    """Runs a shell command in the cell's folder; returns its output, stderr after stdout."""
    import subprocess

    done = subprocess.run(
        ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout
    )
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    return text if done.returncode == 0 else f"{text}[exit code {done.returncode}]\n"


def _argument(sources, frame):
    """How the argument of the FINAL_VAR that a frame calls is written: `Constant`, `Name`, .. None where that is not seen.

    The text "Paris" may be a variable's name, or the value of one that was passed: only the code tells.
    """
    ast = load("ast")
    try:
        tree = ast.parse("".join(sources[frame.f_code.co_filename]))
    except (KeyError, SyntaxError, ValueError, RecursionError):
        return None
    found = {
        type(call.args[0]).__name__
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") == "FINAL_VAR"
        and call.args
        and call.lineno <= frame.f_lineno <= call.end_lineno
    }
    return found.pop() if len(found) == 1 else None


def _text(value):
    return value if type(value) is str else str(value)


def _results(answers, on_error):
    """What each item of a batch came to, in order."""
    results = [answer["value"] if "value" in answer else _error(answer) for answer in answers]
    if on_error == "raise":
        for result in results:
            if isinstance(result, Exception):
                raise result
    return results


def _is_file(folder, value):
    """Whether a value is a whole file of the folder that is the input."""
    data = getattr(type(value), "plain", None) and value.bytes
    return data is not None and data.obj is folder.bytes.obj and getattr(value, "path", None) in folder


def _error(value):
    kind = BudgetError if value.get("budget") else ModelCallError
    return kind(value.get("type", "Error"), value.get("message", ""))
