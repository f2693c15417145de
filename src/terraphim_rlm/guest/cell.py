"""One Python interpreter of a sandbox: runs cells one after another in one namespace.

What is true after every cell: assignments made before an exception stay; the helpers' names and
the builtins are back; stdout and stderr are flushed before the host is told. Only `KeyboardInterrupt` from the host and the end
of the process stop a cell from outside.
"""

import _signal
import posix
import sys

from . import frames
from .channel import Channel, HostGone
from .library import load, part

_INTERRUPT = 2
_SOON = 0.005
"""Seconds: who made an interpreter to use it at once has asked by then, and does not wait for what takes 20 ms."""
_MOST_OUTPUTS = 32
_STATE_STEPS = {frames.PARK: "park", frames.FREEZE: "freeze", frames.ENTER: "enter"}


class Cell:
    """Serves one channel with one namespace."""

    def __init__(self, fd, env):
        self._pid = posix.getpid()
        self._running = False
        self._count = 0
        self._options = None
        self.number = 0  # of the execution that runs now
        self.sources = {}  # file name of a cell -> its lines, for tracebacks
        # A real module: what code defines can be pickled, and a pool's worker finds it.
        self.module = sys.modules["__main__"] = type(sys)("__main__")
        self.namespace = self.module.__dict__
        self.namespace["__builtins__"] = __builtins__
        self.builtins = dict(__builtins__)
        self.helpers = {}
        self.outputs = {}  # number of a cell -> what it printed, where its model was not shown all
        self.evidence = []  # spans cited so far: [path, first byte, last byte + 1]
        self.loop = None
        self._resource = sys.modules.get(
            "resource"
        )  # there where limits were set; it cannot be loaded without memory
        self.parked = None  # what it holds of the sandbox's files, between PARK and ENTER
        self.channel = Channel(fd)
        _environment(env)
        sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
        sys.__dict__.update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)
        sys.argv = [""]
        _signal.signal(_INTERRUPT, self._interrupt)

    def _interrupt(self, _signal_number, _frame):
        if self._running:
            self.channel.interrupt()

    def serve(self):
        """Until the host closes the channel."""
        self._load_helpers()
        _load_compiler()
        slow = [_load_library, _load_errors, _load_states]
        self._warm_up(slow)
        self.channel.send(frames.HELLO, 0)
        while True:
            try:
                self._warm_up(slow)
                kind, number, body = self.channel.request()
            except HostGone:
                return
            except self.helpers["ModelCallError"]:  # a signal's handler, left behind by a cell, made a call
                continue
            if kind == frames.EXEC:
                self._execute(number, body)
            elif kind == frames.GET:
                self._get(number, body)
            elif kind == frames.OPTIONS:
                self._options = body
            elif kind == frames.CONTEXT:
                self._context(number, body)
            elif kind == frames.OUTPUT:
                self._output(body)
            elif kind in _STATE_STEPS:
                self._step(kind, number, body)

    def has_forked(self):
        """Whether this is a process that code forked: it shares the channel, and would take what is not meant for it."""
        return posix.getpid() != self._pid

    def reconnect(self, fd):
        """In a fork of this interpreter that goes on by itself."""
        self._pid = posix.getpid()
        self.channel.leave()
        self.channel = Channel(fd)

    def _step(self, kind, number, body):
        """One step on the way to a frozen interpreter, or on from it."""
        try:
            answer = getattr(part("states"), _STATE_STEPS[kind])(self, body)
        except Exception as error:  # code in the cell may have replaced anything that a step rests on
            answer = {"failed": f"{type(error).__name__}: {error}"}
        if answer is not None:
            self.channel.send(frames.VALUE, number, load("json").dumps(answer).encode("utf-8", "replace"))

    def _warm_up(self, steps):
        """While nobody waits, loads what the first call, error, context or snapshot would have to wait for."""
        while steps and not self.channel.asked_within(_SOON):
            steps.pop(0)()

    def _load_helpers(self):
        if not self.helpers:
            from . import helpers

            self.helpers = helpers.bind(self)

    def _execute(self, number, body):
        __builtins__.update(
            self.builtins
        )  # else a cell that broke `compile` could never be followed by another
        self.number = number
        self._count += 1
        self._load_helpers()
        self.namespace.update(self.helpers, outputs=dict(self.outputs), __builtins__=__builtins__)
        self.namespace.setdefault("answer", {"content": None, "ready": False})
        report = self._with_options(body.decode("utf-8", "surrogatepass"))
        if self.has_forked():  # the cell did, and this is the child: it ends where its code ends
            posix._exit(0)
        _flush()
        if self.namespace.get("answer") and isinstance(self.namespace["answer"], dict):
            self._check_answer()
        self.channel.send(frames.DONE, number, report)

    def _with_options(self, source):
        """Runs one source in the environment that was asked for, or says why that cannot be had."""
        try:
            restore = self._apply_options()
        except OSError as error:
            return part("errors").report(error, {})
        try:
            return self._run(source)
        finally:
            restore()

    def _run(self, source):
        """Runs one source; the body of its DONE frame."""
        name = f"<cell {self._count}>"
        self._remember(name, source)
        try:
            self._running = True
            try:
                self._evaluate(source, name)
            finally:
                self._running = False
        except HostGone:
            posix._exit(0)
        except BaseException as error:  # whatever user code raises is its result
            if isinstance(error, MemoryError):
                _use_reserve(self._resource)
            return part("errors").report(error, self.sources)
        return b""

    def _remember(self, name, source):
        self.sources[name] = source.splitlines(keepends=True)
        if len(self.sources) > 200:
            del self.sources[next(iter(self.sources))]

    def _evaluate(self, source, name):
        """Statements, then the last expression, whose value is shown as at a prompt."""
        import _ast

        flags = _ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(source, name, "exec", flags | _ast.PyCF_ONLY_AST, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
        if tree.body:
            self._start(compile(tree, name, "exec", flags, True))
        if last is not None:
            value = self._start(compile(_ast.Expression(last.value), name, "eval", flags, True))
            if value is not None:
                self.namespace["_"] = value
                print(repr(value))

    def _start(self, code):
        if not code.co_flags & 0x80:  # CO_COROUTINE
            return eval(code, self.namespace)
        import asyncio

        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        return self.loop.run_until_complete(eval(code, self.namespace))

    def _apply_options(self):
        """Environment, folder and standard input of one execution; returns what puts the old ones back."""
        if self._options is None:
            return _nothing
        import os

        options, self._options = load("json").loads(self._options), None
        stdin = self.channel.take_fd() if options.get("stdin") else None
        env, back = dict(os.environ), _enter(options.get("cwd"), stdin)
        os.environ.update(options.get("env") or {})
        saved = None
        if stdin is not None:
            saved = os.dup(0)
            os.dup2(stdin, 0)
            os.close(stdin)
            sys.stdin = _stream(0, "r")

        def restore():
            os.environ.clear()
            os.environ.update(env)
            if back is not None:
                os.fchdir(back)
                os.close(back)
            if saved is not None:
                os.dup2(saved, 0)
                os.close(saved)
                sys.stdin = _stream(0, "r")

        return restore

    def _check_answer(self):
        answer = self.namespace["answer"]
        if answer.get("ready") is True:
            self.helpers["FINAL"](answer.get("content"), _source="answer")
            answer["ready"] = False

    def _get(self, number, body):
        from . import values

        name = body.decode("utf-8", "replace")
        self.channel.send(frames.VALUE, number, values.described(self.namespace, name, self.evidence))

    def _context(self, number, body):
        from . import values

        fd = self.channel.take_fd()
        self._load_helpers()
        self.helpers["context"] = self.namespace["context"] = part("views").open_context(fd, body)
        self.channel.send(frames.VALUE, number, values.FOUND)

    def _output(self, body):
        """Keeps what a cell printed, for the next ones to page through; the oldest go."""
        fd = self.channel.take_fd()
        self._load_helpers()
        self.outputs[load("json").loads(body)["number"]] = part("views").open_context(fd, body)
        while len(self.outputs) > _MOST_OUTPUTS:
            del self.outputs[min(self.outputs)]


def _nothing():
    return None


def _enter(folder, stdin):
    """Goes into a folder; a descriptor of the one before, or None. When it fails nothing is open or changed."""
    if not folder:
        return None
    back = posix.open(".", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        posix.chdir(folder)
    except BaseException:
        posix.close(back)
        if stdin is not None:
            posix.close(stdin)
        raise
    return back


def _use_reserve(resource):
    """Takes up the memory that the supervisor kept back, where it limits each process: the next cell needs some too."""
    if resource is not None:
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _load_library():
    load("json")
    load("re")


def _load_compiler():
    import _ast

    compile("1", "", "exec", _ast.PyCF_ONLY_AST)


def _load_errors():
    part("errors")
    part("values")
    part("views")


def _load_states():
    part("states")


def _environment(env):
    import os

    os.environ.clear()
    os.environ.update(env)


def _stream(fd, mode):
    """A text stream over a descriptor that round-trips any bytes; lines are written as they end."""
    import io

    raw = io.FileIO(fd, mode, closefd=False)
    if mode == "r":
        return io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", errors="surrogateescape")
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _flush():
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            stream.flush()
        except (ValueError, OSError, AttributeError, TypeError):
            pass  # user code closed or replaced it; its own loss
