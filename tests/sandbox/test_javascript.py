"""JavaScript in a sandbox: state that lives on, true output, time-outs that say what is lost."""

from __future__ import annotations

import pytest

from terraphim_rlm import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio]


@pytest.fixture(autouse=True)
def needs_node(box: Sandbox) -> None:
    if "javascript" not in box.capabilities.languages:
        pytest.skip("no Node.js that sandboxes can read")


async def _said(box: Sandbox, code: str) -> str:
    result = await box.run(code, "javascript")
    assert result.status == "ok", (result.stderr, result.error)
    return result.stdout


async def test_what_a_cell_declares_lives_on_and_may_be_declared_again(box: Sandbox) -> None:
    await _said(
        box, "let a = 1; const b = [2]; class C { get() { return 3 } } function f() { return 4 } var v = 5"
    )
    assert await _said(box, "console.log(a, b[0], new C().get(), f(), v)") == "1 2 3 4 5\n"
    await _said(box, "let a = 'again'; const b = 'too'")
    assert await _said(box, "console.log(a, b)") == "again too\n"


async def test_the_last_expression_is_shown_and_await_needs_no_function(box: Sandbox) -> None:
    assert await _said(box, "await new Promise(done => setTimeout(done, 5, 6 * 7))") == "42\n"
    assert await _said(box, "const {join} = require('path'); join('a', 'b')") == "'a/b'\n"
    assert await _said(box, "let silent = 1") == ""


@pytest.mark.parametrize(
    ("code", "kind"),
    [("throw new TypeError('no')", "TypeError"), ("await Promise.reject(new RangeError('no'))", "RangeError"), ("let x = ;", "SyntaxError")],
)  # fmt: skip
async def test_an_error_is_told_and_what_was_set_before_it_stays(box: Sandbox, code: str, kind: str) -> None:
    await _said(box, "let kept = 1")
    result = await box.run(code, "javascript")
    assert (result.status, result.exit_code, result.state_after) == ("exit_nonzero", 1, "kept")
    assert result.error is not None
    assert result.error.type == kind
    assert await _said(box, "kept") == "1\n"


async def test_leaving_gives_the_exit_code_and_says_that_the_state_is_lost(box: Sandbox) -> None:
    await _said(box, "let kept = 1")
    result = await box.run("process.exit(7)", "javascript")
    assert (result.exit_code, result.state_after) == (7, "lost")
    assert await _said(box, "typeof kept") == "'undefined'\n"


async def test_a_loop_without_end_is_interrupted_and_keeps_its_state(box: Sandbox) -> None:
    await _said(box, "let n = 1")
    result = await box.run("n = 2; while (true) {}", "javascript", timeout=0.5)
    assert (result.status, result.exit_code, result.state_after) == ("timeout", None, "kept")
    assert await _said(box, "n") == "2\n"


async def test_output_input_environment_and_folder_are_those_of_the_execution(box: Sandbox) -> None:
    code = "process.stdout.write(Buffer.from([0, 255, 10])); process.stderr.write('e'); console.log(process.env.K, process.cwd(), require('fs').readFileSync(0, 'utf8'))"
    result = await box.run(code, "javascript", stdin="in", env={"K": "v"}, cwd="/tmp")
    assert result.stdout_bytes == b"\0\xff\nv /tmp in\n"
    assert result.stderr == "e"
    assert await _said(box, "console.log(process.env.K, process.cwd())") == "undefined /work\n"
    big = await box.run("console.log('x'.repeat(3000000)); console.error('y')", "javascript")
    assert (len(big.stdout), big.stderr) == (3_000_001, "y\n")


@pytest.mark.parametrize(
    "code",
    [
        "Object.prototype.then = 1; Array.prototype.push = null; JSON.stringify = () => 'x'; Function.prototype.call = null",
        "globalThis.process = null; globalThis.console = null; globalThis.Buffer = null; globalThis.Promise = null",
        "for (let fd = 3; fd < 20; fd++) try { require('fs').closeSync(fd) } catch {}",
        "process.kill(process.pid, 'SIGKILL')",
        "process.on('exit', () => { while (true) {} }); process.exit(1)",
    ],
)
async def test_code_that_spoils_its_interpreter_spoils_nothing_else(box: Sandbox, code: str) -> None:
    await box.run("x = 1")
    await box.run(code, "javascript", timeout=3)
    after = await box.run("1 + 1", "javascript", timeout=3)
    assert after.status in ("ok", "exit_nonzero", "killed", "timeout")
    assert (await box.run("print(x)")).stdout == "1\n"
    await box.run("process.reallyExit(0)", "javascript", timeout=3)
    assert (await box.run("console.log('back')", "javascript")).stdout in ("back\n", "")


async def test_input_can_be_read_at_once_by_a_node_that_waits_for_it(box: Sandbox) -> None:
    await box.run("1", "javascript")
    for number in range(15):
        code = "console.log(require('fs').readFileSync(0, 'utf8'))"
        result = await box.run(code, "javascript", stdin=str(number))
        assert (result.status, result.stdout) == ("ok", f"{number}\n"), result.error
