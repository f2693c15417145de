"""Input that no honest caller gives, and code that means harm: each has its end, and the sandbox works on."""

from __future__ import annotations

from terraphim_rlm.core.errors import InvalidArgument, NotSupported
from terraphim_rlm.testing.conformance.checks import holds, like, raised, refused, same, within
from terraphim_rlm.testing.conformance.model import Box, Group

HOSTILE = Group("hostile input")
ENDS = ("exit_nonzero", "killed", "oom", "timeout", "ok")


async def _works(box: Box) -> None:
    like(await within(10, box.run("print(1 + 1)"), "the next execution"), status="ok", stdout="2\n")
    like(await within(10, box.sh("echo fine"), "the next command"), status="ok", stdout="fine\n")


@HOSTILE.shared()
async def code_that_is_no_text_is_refused(box: Box) -> None:
    for code in (None, b"1", 1, ["1"]):
        await refused(box.run(code), InvalidArgument)
        await refused(box.sh(code), InvalidArgument)
    await _works(box)


@HOSTILE.shared()
async def a_language_that_is_none_is_refused_and_those_there_are_named(box: Box) -> None:
    for language in ("cobol", "", "Python", "../python", "x" * 10_000, None, 3):
        error = await refused(box.run("1", language), InvalidArgument, NotSupported)
        told = str(error) + getattr(error, "fix", "")
        holds("python" in told and len(told) < 2000, f"{told[:200]!r} does not name the languages")


@HOSTILE.shared()
async def an_option_that_there_is_none_of_is_refused(box: Box) -> None:
    await refused(box.run("1", tiemout=3), TypeError)


@HOSTILE.shared()
async def variables_that_a_program_cannot_take_are_refused(box: Box) -> None:
    for env in ({"A\0": "b"}, {"A": "b\0"}, {"A=B": "c"}, {"": "x"}, {"A": 1}, {1: "a"}, {"A": "\ud800"}):
        await refused(box.sh("true", env=env), InvalidArgument)
        await refused(box.run("1", env=env), InvalidArgument)
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV"):
        await refused(box.sh("true", env={name: "/tmp/x"}), InvalidArgument)
    await _works(box)


@HOSTILE.shared()
async def a_folder_or_input_that_is_none_is_refused(box: Box) -> None:
    for cwd in ("a\0b", "\ud800", 3):
        await refused(box.sh("true", cwd=cwd), InvalidArgument)
        await refused(box.run("1", cwd=cwd), InvalidArgument)
    for stdin in (3, ["x"]):
        await refused(box.sh("true", stdin=stdin), InvalidArgument)
    await _works(box)


@HOSTILE.shared()
async def shell_commands_with_nul_bytes_or_half_characters_are_refused(box: Box) -> None:
    for command in ("echo a\0b", "echo \ud800"):
        await refused(box.sh(command), InvalidArgument)
        await refused(box.run(command, "bash"), InvalidArgument)


@HOSTILE.shared()
async def odd_source_is_an_error_of_the_code_and_not_of_the_sandbox(box: Box) -> None:
    for code in (
        "x = 1\0",
        "(" * 50_000,
        "x = '\ud800'\nprint(len(x))",
        "[" * 90 + "]" * 90,
        "if",
        "\tx\n y",
    ):
        result = await within(20, box.run(code), "an execution")
        holds(result.status in ("exit_nonzero", "ok", "oom"), f"{code[:20]!r} ended as {result.status}")
        same(result.state_after, "kept", f"the state after {code[:20]!r}")
    await _works(box)


@HOSTILE.shared()
async def a_megabyte_of_code_runs(box: Box) -> None:
    like(await box.run("x = 0\n" + "x += 1\n" * 100_000 + f"# {'y' * 300_000}\nprint(x)"), stdout="100000\n")


@HOSTILE.shared(seconds=40)
async def code_past_every_bound_is_refused_by_its_size(box: Box) -> None:
    await box.run("kept = 1")
    await refused(box.run("#" + "x" * (100 << 20)), InvalidArgument)
    like(await box.run("kept"), stdout="1\n")


@HOSTILE.shared()
async def an_error_whose_text_cannot_be_made_is_still_told(box: Box) -> None:
    code = "class Bad(Exception):\n    def __str__(self): raise Bad\n    __repr__ = __str__\nraise Bad"
    result = like(await box.run(code), status="exit_nonzero", state_after="kept")
    raised(result, "Bad")
    code = "class Worse(Exception):\n    def __str__(self):\n        import os; os._exit(3)\nraise Worse"
    like(await box.run(code), exit_code=3, state_after="lost")
    await _works(box)


@HOSTILE.shared()
async def an_error_with_a_message_of_megabytes_is_bounded(box: Box) -> None:
    result = like(await box.run("raise ValueError('x' * 30_000_000)"), status="exit_nonzero")
    error = raised(result, "ValueError")
    told = len(error.message) + len(error.traceback)
    holds(told < 2_000_000, f"an error has {told:,} characters")


@HOSTILE.shared()
async def code_that_replaces_the_standard_streams_harms_only_its_own_output(box: Box) -> None:
    await box.run("import io, sys\nsaved = sys.stdout\nsys.stdout = io.StringIO()\nprint('nowhere')")
    like(await box.run("sys.stdout = saved\nprint('back')"), stdout="back\n")
    await box.run(
        "class W:\n    def __getattr__(self, n): raise SystemExit(3)\nsys.stdout = sys.stderr = W()"
    )
    result = await within(10, box.run("x = 1"), "an execution without streams")
    holds(result.status in ENDS, f"{result.status} is no end of an execution")
    await box.run("sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__")
    await _works(box)


@HOSTILE.shared()
async def code_that_closes_its_output_ends_as_any_other(box: Box) -> None:
    for code in ("import os; os.close(1); os.close(2)", "import sys; sys.stdout.close()"):
        result = await within(10, box.run(code), "an execution")
        holds(result.status in ENDS, f"{result.status} is no end of an execution")
        result = await within(10, box.run("x = 2"), "the next execution")
        holds(result.status in ENDS, f"{result.status} is no end of an execution")
        await box.run("import os; os._exit(0)")
    await _works(box)


@HOSTILE.shared()
async def code_that_closes_or_floods_every_descriptor_ends_and_another_can_run(box: Box) -> None:
    for code in (
        "import os\nos.closerange(3, 200)",
        "import os\nfor n in range(3, 30):\n  try: os.write(n, b'\\xff' * 4096)\n  except OSError: pass",
        "import os\nfor n in range(3, 30):\n  try: os.write(n, b'\\0' * 9)\n  except OSError: pass",
        "import os, socket\nfor n in range(3, 30):\n  try: socket.socket(fileno=os.dup(n)).shutdown(2)\n  except OSError: pass",
    ):
        result = await within(15, box.run(code, timeout=5), "an execution")
        holds(result.status in ENDS, f"{result.status} is no end of an execution")
        await _works(box)


@HOSTILE.shared()
async def a_forked_child_cannot_answer_for_its_parent(box: Box) -> None:
    code = "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0); print('parent')"
    like(await box.run(code), stdout="parent\n", status="ok")
    like(
        await box.run("if os.fork() == 0: os._exit(5)\nos.wait(); print('still here')"), stdout="still here\n"
    )
    await _works(box)


@HOSTILE.shared()
async def code_that_becomes_another_program_is_told_as_its_end(box: Box) -> None:
    result = await within(
        15, box.run("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 6'])"), "an execution"
    )
    holds(result.status in ("exit_nonzero", "killed"), f"it ended as {result.status}")
    same(result.state_after, "lost", "the state")
    await _works(box)


@HOSTILE.shared()
async def builtins_that_code_broke_are_whole_for_the_next_execution(box: Box) -> None:
    await box.run("print = len = open = None\n__builtins__ = None")
    like(await box.run("del print, len, open\nprint(len('abc'))"), stdout="3\n", status="ok")
    await box.run("import builtins\nbuiltins.compile = builtins.eval = builtins.isinstance = None")
    like(await box.run("print([n for n in range(3) if isinstance(n, int)])"), stdout="[0, 1, 2]\n")


@HOSTILE.shared()
async def code_cannot_end_the_sandbox(box: Box) -> None:
    await within(10, box.sh("kill -9 1; kill -TERM 1; kill -9 -1; true"), "a command")
    code = "import os, signal\nfor s in (9, 15, 2, 6):\n  try: os.kill(1, s)\n  except OSError: pass"
    await within(10, box.run(code), "an execution")
    await _works(box)


@HOSTILE.shared()
async def a_tracer_or_exit_handler_of_code_cannot_hold_an_execution(box: Box) -> None:
    code = "import sys, threading, atexit\natexit.register(lambda: print('exit'))\nsys.setprofile(lambda *a: None)"
    like(await within(10, box.run(code), "an execution"), status="ok")
    like(await within(10, box.run("sys.settrace(None); sys.setprofile(None)"), "an execution"), status="ok")
    await _works(box)
