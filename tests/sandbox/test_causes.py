"""Out of memory, out of disk and out of time are told apart in every language, however memory is held."""

from __future__ import annotations

import pytest

from terraphim_rlm import Resources, open_sandbox
from terraphim_rlm.sandbox.complaints import cause

pytestmark = [pytest.mark.sandbox, pytest.mark.anyio]
_GO = 'package main\nimport "os"\nfunc main() { _ = os.Args; %s }'
_RUST = "use std::io::Write; fn main() { let _ = std::io::stdout().flush(); %s }"
_CODE = {
    "python": {
        "disk_full": "with open('/work/b', 'wb') as f:\n    while True: f.write(bytes(1 << 20))",
        "timeout": "while True: pass",
        "oom": "x = []\nwhile True: x.append(bytearray(1 << 20))",
    },
    "sh": {
        "disk_full": "cat /dev/zero > /work/b",
        "timeout": "while :; do :; done",
        "oom": "x=abcdefgh; while :; do x=$x$x; done",
    },
    "bash": {
        "disk_full": "cat /dev/zero > /work/b",
        "timeout": "while :; do :; done",
        "oom": "x=abcdefgh; while :; do x=$x$x; done",
    },
    "javascript": {
        "disk_full": "for (;;) require('fs').appendFileSync('/work/b', Buffer.alloc(1 << 20))",
        "timeout": "for (;;);",
        "oom": "const x = []; for (;;) x.push(Buffer.alloc(1 << 20, 1))",
    },
    "rust": {
        "disk_full": _RUST % 'let mut f = std::fs::File::create("/work/b").unwrap(); loop { f.write_all(&[0u8; 65536]).unwrap(); }',
        "timeout": _RUST % "loop { std::hint::spin_loop() }",
        "oom": _RUST % "let mut x: Vec<Vec<u8>> = vec![]; loop { x.push(vec![1u8; 1 << 20]); }",
    },
    "go": {
        "disk_full": _GO
        % 'f, _ := os.Create("/work/b"); for { if _, e := f.Write(make([]byte, 1<<20)); e != nil { panic(e) } }',
        "timeout": _GO % "for {}",
        "oom": _GO % "var x [][]byte; for { b := make([]byte, 1<<20); for i := range b { b[i] = 1 }; x = append(x, b) }",
    },
}  # fmt: skip
_MEMORY = {"javascript": 400, "go": 300}
"""Megabytes that a runtime needs to begin with; the others get 128."""


@pytest.mark.parametrize("language", _CODE)
async def test_what_there_was_none_left_of_is_the_status(language: str) -> None:
    resources = Resources(memory_mb=_MEMORY.get(language, 128), disk_mb=16)
    async with open_sandbox("bubblewrap", resources=resources) as box:
        if language != "sh" and language not in box.capabilities.languages:
            pytest.skip(f"no {language} here that sandboxes can read")
        for status, code in _CODE[language].items():
            timeout = 1.5 if status == "timeout" else 90.0
            runs = (
                box.sh(code, timeout=timeout)
                if language == "sh"
                else box.run(code, language, timeout=timeout)
            )
            result = await runs
            assert result.status == status, result
            assert (await box.sh("rm -f /work/b; echo on")).stdout == "on\n"


@pytest.mark.parametrize(
    ("stderr", "code", "signal", "oom", "status"),
    [
        (b"Traceback ..\nMemoryError\n", 1, None, False, "oom"),
        (b"/bin/bash: xrealloc: cannot allocate 33554560 bytes\n", 2, None, False, "oom"),
        (b"fatal error: runtime: out of memory\n" + b"goroutine 1\n" * 1000, 2, None, False, "oom"),
        (b"memory allocation of 1048576 bytes failed\n", None, 6, False, "oom"),
        (b"", 137, None, True, "oom"),
        (b"", 137, None, False, None),
        (b"", None, 9, False, None),
        (b"", None, 25, False, "disk_full"),
        (b"", 153, None, False, None),
        (b"line 1: 3 File size limit exceeded head\n", 153, None, False, "disk_full"),
        (b"panic: write /work/b: no space left on device\n", 2, None, False, "disk_full"),
        (b"Cannot allocate memory\nNo space left on device\n", 1, None, False, "disk_full"),
        (b"No space left on device\n" + b"then all went well for long\n" * 100, 1, None, False, None),
        (b"make: Error 1\n", 2, None, True, "oom"),
        (b"No space left on device\n", None, 9, True, None),
        (b"no such file\n", 1, None, False, None),
    ],
)
def test_the_cause_of_a_failure_is_what_it_said_last(
    stderr: bytes, code: int | None, signal: int | None, oom: bool, status: str | None
) -> None:
    assert cause(stderr, code, signal, oom=oom) == status


async def test_code_that_does_not_compile_is_no_lack_of_memory_because_it_speaks_of_one() -> None:
    async with open_sandbox("bubblewrap") as box:
        if "rust" not in box.capabilities.languages:
            pytest.skip("no rust toolchain that sandboxes can read")
        result = await box.run('fn main() { let x: u8 = "out of memory"; }', "rust", timeout=90)
        assert (result.status, "out of memory" in result.stderr) == ("exit_nonzero", True)
