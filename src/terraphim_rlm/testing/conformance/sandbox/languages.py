"""Languages: what is claimed runs, what is not is refused by name."""

from __future__ import annotations

from terraphim_rlm.core.errors import InvalidArgument, NotSupported
from terraphim_rlm.testing.conformance.checks import holds, like, refused, same
from terraphim_rlm.testing.conformance.model import Box, Group

LANGUAGES = Group("languages")
HELLO = {
    "python": "print('hello', 6 * 7)",
    "bash": "echo hello $((6 * 7))",
    "javascript": "console.log('hello', 6 * 7)",
    "rust": 'fn main() { println!("hello {}", 6 * 7); }',
    "go": 'package main\nimport "fmt"\nfunc main() { fmt.Println("hello", 6*7) }',
}


@LANGUAGES.shared(seconds=180)
async def every_language_that_is_claimed_runs(box: Box) -> None:
    for language in box.capabilities.languages:
        holds(language in HELLO, f"{language} is claimed, and the suite knows no program in it")
        like(
            await box.run(HELLO[language], language, timeout=90),
            status="ok",
            stdout="hello 42\n",
            exit_code=0,
        )


@LANGUAGES.shared()
async def every_language_that_is_not_claimed_is_refused_with_what_to_do(box: Box) -> None:
    for language in (*HELLO, "cobol"):
        if language not in box.capabilities.languages:
            error = await refused(box.run("1", language), InvalidArgument, NotSupported)
            holds(language in str(error) and getattr(error, "fix", ""), f"{error} names no way out")


@LANGUAGES.shared()
async def python_and_bash_are_always_there(box: Box) -> None:
    same({"python", "bash"} - set(box.capabilities.languages), set(), "what is missing")
    version = await box.run("import sys; print(sys.version_info >= (3, 9))")
    like(version, stdout="True\n")
