"""Rust and Go: compiled where nobody else runs, kept by what they were made from, run under the sandbox's limits."""

from __future__ import annotations

import asyncio

import pytest

from terraphim_rlm import Sandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio]
RUST = """use std::io::Read;
fn main() {
    let mut all = String::new();
    std::io::stdin().read_to_string(&mut all).unwrap();
    println!("{} {} {}", all, std::env::var("K").unwrap_or_default(), std::env::current_dir().unwrap().display());
    eprintln!("e");
    std::process::exit(3);
}"""
GO = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(6 * 7) }\n'


def _needs(box: Sandbox, language: str) -> None:
    if language not in box.capabilities.languages:
        pytest.skip(f"no {language} toolchain that sandboxes can read")


async def test_a_program_is_compiled_once_and_gets_its_input_variables_and_folder(box: Sandbox) -> None:
    _needs(box, "rust")
    for compiled in (True, False):
        result = await box.run(RUST, "rust", stdin="in", env={"K": "v"}, cwd="/tmp", timeout=60)
        assert (result.stdout, result.stderr, result.exit_code) == ("in v /tmp\n", "e\n", 3)
        assert (result.duration_ms["compile"] > 0) is compiled


async def test_what_does_not_compile_says_where(box: Sandbox) -> None:
    _needs(box, "rust")
    result = await box.run('fn main() { let x: u8 = "no"; }', "rust", timeout=60)
    assert (result.status, result.exit_code) == ("exit_nonzero", 1)
    assert "main.rs:1" in result.stderr
    assert any("did not compile" in note for note in result.notes)
    lone = await box.run("fn helper() {}", "rust", timeout=60)
    assert any("fn main" in note for note in lone.notes)


async def test_the_same_source_asked_for_at_once_is_compiled_once(box: Sandbox) -> None:
    _needs(box, "rust")
    code = 'fn main() { println!("once"); }'
    results = await asyncio.gather(*(box.run(code, "rust", timeout=60) for _ in range(3)))
    assert [result.stdout for result in results] == ["once\n"] * 3
    assert sum(result.duration_ms["compile"] > 0 for result in results) == 1


async def test_code_in_the_sandbox_cannot_touch_what_others_will_run(box: Sandbox) -> None:
    _needs(box, "rust")
    await box.sh("(while :; do echo spoilt > main; echo spoilt > main.rs; done) >/dev/null 2>&1 &")
    result = await box.run('fn main() { println!("true"); }', "rust", timeout=60)
    assert result.stdout == "true\n"


async def test_a_compiled_program_that_runs_for_ever_is_stopped(box: Sandbox) -> None:
    _needs(box, "rust")
    result = await box.run("fn main() { loop { std::hint::spin_loop(); } }", "rust", timeout=8)
    assert (result.status, result.exit_code, result.state_after) == ("timeout", None, "kept")


@pytest.mark.timeout(600)
async def test_go_runs_with_its_standard_library(box: Sandbox) -> None:
    _needs(box, "go")
    result = await box.run(GO, "go", timeout=300)
    assert (result.status, result.stdout) == ("ok", "42\n"), result.stderr
