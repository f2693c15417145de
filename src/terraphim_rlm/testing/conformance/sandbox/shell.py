"""Commands from start to end, and standard input."""

from __future__ import annotations

import hashlib
import random

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.testing.conformance.checks import ends, like, marker, raised, refused, same
from terraphim_rlm.testing.conformance.model import Box, Group

SHELL = Group("shell")
STDIN = Group("standard input")
_SPECIAL = "$HOME `id` $(id) 'one' \"two\" \\back\\n %s ; & | > < * ? ~ !\nnext\n"


@SHELL.shared()
async def a_command_gives_its_output_and_its_exit_code(box: Box) -> None:
    result = await box.sh("echo $((6 * 7)); echo no >&2; exit 70")
    like(result, stdout="42\n", stderr="no\n", exit_code=70, status="exit_nonzero")


@SHELL.shared()
async def commands_share_files_and_nothing_else(box: Box) -> None:
    await box.sh("x=1; export x; cd /tmp; echo hello > /work/note")
    like(await box.sh('echo "[$x]"; pwd; cat note'), stdout="[]\n/work\nhello\n")


@SHELL.shared()
async def a_relative_folder_is_below_the_work_folder(box: Box) -> None:
    await box.sh("mkdir -p sub/deep; touch sub/deep/here")
    like(await box.sh("pwd; ls", cwd="sub/deep"), stdout="/work/sub/deep\nhere\n")
    like(await box.run("import os; print(os.listdir())", cwd="sub/deep"), stdout="['here']\n")
    like(await box.sh("ls", cwd="/work/sub"), stdout="deep\n")


@SHELL.shared()
async def what_a_command_leaves_running_on_its_output_is_killed_and_said(box: Box) -> None:
    mark = marker()
    result = await box.sh(f"sleep {mark} & echo done")
    like(result, status="ok", stdout="done\n")
    same(len(result.notes), 1, "the number of notes")
    await ends(box, mark)


@SHELL.shared()
async def a_server_that_let_go_of_its_output_lives_on(box: Box) -> None:
    mark = marker()
    started = await box.sh(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 & echo $!")
    like(started, status="ok", notes=())
    like(await box.sh(f"kill {started.stdout}"), status="ok")
    await ends(box, mark)


@SHELL.shared()
async def a_long_command_is_taken_or_refused_by_its_size_and_never_cut(box: Box) -> None:
    text = "y" * 100_000
    like(await box.sh(f"x={text}; echo ${{#x}}"), stdout="100000\n")
    error = await refused(box.sh("#" + "z" * 3_000_000), InvalidArgument)
    same("3,000,001" in str(error), True, "whether the error names the size")


@SHELL.shared()
async def a_command_has_no_terminal(box: Box) -> None:
    like(await box.sh("[ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo none"), stdout="none\n")
    like(await box.sh("exec 2>/dev/null; : < /dev/tty || echo none"), stdout="none\n")


@STDIN.shared()
async def text_reaches_a_command_and_code_word_for_word(box: Box) -> None:
    like(await box.sh("cat", stdin=_SPECIAL), stdout=_SPECIAL, status="ok")
    like(await box.run("import sys; print(sys.stdin.read(), end='')", stdin=_SPECIAL), stdout=_SPECIAL)
    like(await box.run("print(input() + '/' + input())", stdin="one\ntwo é\n"), stdout="one/two é\n")


@STDIN.shared()
async def every_byte_value_can_be_read(box: Box) -> None:
    data = bytes(range(256)) + b"\xc3\x28\x00\xff"
    like(await box.sh("cat", stdin=data), stdout_bytes=data)
    code = "import sys; _ = sys.stdout.buffer.write(sys.stdin.buffer.read())"
    like(await box.run(code, stdin=data), stdout_bytes=data)


@STDIN.shared()
async def none_and_empty_are_at_their_end_at_once(box: Box) -> None:
    for stdin in (None, "", b""):
        like(await box.sh("cat; echo end", stdin=stdin, timeout=5), stdout="end\n", status="ok")
        like(await box.run("import sys; print([sys.stdin.read()])", stdin=stdin, timeout=5), stdout="['']\n")
    raised(await box.run("input()", timeout=5), "EOFError")


@STDIN.shared(seconds=40)
async def fifty_megabytes_can_be_read(box: Box) -> None:
    data = random.Random(3).randbytes(1 << 20) * 50
    digest = hashlib.sha256(data).hexdigest()
    like(await box.sh("sha256sum", stdin=data, timeout=30), stdout=f"{digest}  -\n")
    code = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    like(await box.run(code, stdin=data, timeout=30), stdout=f"{digest}\n")


@STDIN.shared()
async def who_reads_little_of_much_is_not_waited_for(box: Box) -> None:
    like(await box.sh("head -c1", stdin=b"a" * 20_000_000), stdout="a", status="ok")
    like(await box.run("print(input())", stdin="line\n" * 1_000_000), stdout="line\n", status="ok")


@STDIN.shared()
async def what_was_not_read_does_not_reach_the_next_execution(box: Box) -> None:
    await box.run("print(input())", stdin="first\nrest\n")
    like(await box.run("import sys; print([sys.stdin.read()])"), stdout="['']\n")
    like(await box.run("print(input())", stdin="new\n"), stdout="new\n")
