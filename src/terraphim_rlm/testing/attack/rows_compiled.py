"""Groups A and F, compilers: source that never ends to compile, grows without bounds, or reads while it is compiled."""

from __future__ import annotations

from terraphim_rlm.core.values import Resources
from terraphim_rlm.testing.attack.model import Row, Seen, Step

_FAILS = ("exit_nonzero", "timeout", "oom", "killed", "disk_full")
_ROOM = Resources(memory_mb=1024, cpus=1.0, pids=128, disk_mb=256, output_bytes=1 << 20)

_RUST_BOMBS = (
    "macro_rules! m { ($($t:tt)*) => { m!($($t)* $($t)* x) } }\nfn main() { m!(x); }",
    'const fn f(n: u64) -> u64 { let mut i = 0; while i < n { i += 1; } i }\nconst N: u64 = f(u64::MAX);\nfn main() { println!("{}", N); }',
    "trait T { fn f(n: u32); }\nstruct A<X>(X);\nimpl<X> T for A<X> { fn f(n: u32) { if n > 0 { A::<A<X>>::f(n - 1) } } }\nfn main() { A::<u8>::f(3) }",
    'const A: [u8; 1 << 40] = [1; 1 << 40];\nfn main() { println!("{}", A[3]); }',
)
_RUST_LARGE = (
    'static A: [u8; 1 << 32] = [1; 1 << 32];\nfn main() { println!("{}", A[std::env::args().count()]); }'
)

_RUST_READS = tuple(
    f"fn main() {{ println!(\"{{}}\", {what}); }}"
    for what in (
        'include_str!("@CANARY@")', 'include_str!("/proc/self/root@CANARY@")', 'String::from_utf8_lossy(include_bytes!("/proc/self/environ"))',
        'env!("@SECRET_NAME@")', 'option_env!("@SECRET_NAME@").unwrap_or("none")', 'String::from_utf8_lossy(include_bytes!("/proc/1/environ"))',
    )
)  # fmt: skip
_RUST_STEERS = (
    '#[path = "@CANARY@"]\nmod stolen;\nfn main() {}',
    '#![crate_type = "proc-macro"]\nextern crate proc_macro;\nfn main() {}',
    "#![feature(rustc_attrs, plugin)]\n#![plugin(evil)]\nfn main() {}",
    '#[link(name = ":@CANARY@", kind = "static")]\nextern "C" {}\nfn main() {}',
    '#![cfg_attr(any(), path = "x")]\nuse std::process::Command;\nfn main() { for p in [".cargo/config.toml", "build.rs", "rust-toolchain"] { let _ = std::fs::write(p, "[build]\\nrustc-wrapper = \'/work/evil\'"); } println!("{:?}", std::fs::read("@CANARY@").is_ok()); let _ = Command::new("true").status(); }',
    'fn main() { println!("{:?}", std::env::vars().collect::<Vec<_>>()); }',
)
_GO_READS = (
    'package main\n// #include "/etc/passwd"\nimport "C"\nfunc main() {}',
    'package main\nimport _ "embed"\n//go:embed @CANARY@\nvar s string\nfunc main() { println(s) }',
    'package main\nimport ("fmt"; "os")\n//go:generate cat @CANARY@\nfunc main() { b, _ := os.ReadFile("@CANARY@"); fmt.Println(string(b), os.Environ()) }',
)
_GO_FIRST = Step("package main\nfunc main() {}", "go", timeout=300.0)
"""Before a user's first Go program its standard library is compiled, once, and outside of the program's time-out."""


def _steps(
    sources: tuple[str, ...], language: str, expect: tuple[str, ...], seconds: float
) -> tuple[Step, ...]:
    return tuple(Step(source, language, expect, seconds) for source in sources)  # type: ignore[arg-type]


def goes_on(seen: list[Seen]) -> str:
    return "" if seen[-1].stdout == "42\n" else "the sandbox did not go on working"


_AFTER = Step("print(40 + 2)")

ROWS = (
    Row(
        "A36", "P1", "compiles what expands without end", (*_steps(_RUST_BOMBS, "rust", _FAILS, 10.0), _AFTER),
        needs=("rust",), resources=_ROOM, check=goes_on,
    ),
    Row(
        "A37", "P1", "compiles to a program of gigabytes", (*_steps((_RUST_LARGE,), "rust", _FAILS, 10.0), _AFTER),
        needs=("rust",), resources=_ROOM, check=goes_on,
    ),
    Row(
        "F26", "P1", "reads files and variables while it is compiled", _steps(_RUST_READS, "rust", ("ok", "exit_nonzero"), 30.0),
        needs=("rust",), resources=_ROOM,
    ),
    Row(
        "F27", "P1", "steers the compiler by settings and files of its own",
        _steps(_RUST_STEERS, "rust", ("ok", "exit_nonzero", "killed"), 30.0), needs=("rust",), resources=_ROOM,
    ),
    Row(
        "F29", "P1", "makes the Go compiler read, link or fetch what it names",
        (_GO_FIRST, *_steps(_GO_READS, "go", ("ok", "exit_nonzero"), 60.0)),
        needs=("go",), resources=_ROOM,
    ),
)  # fmt: skip
