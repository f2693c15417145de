"""Pages whose lines are run: a block shows what comes, and a page that shows something else is caught."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OTHERS = (
    (r"\b(sess|exec|snap|run|node)-[0-9A-Z]{26}\b", r"\1-ID"),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "DATE"),
    (r"\b\d+(\.\d)? s\b", "SECONDS"),
    (r"\b\d{1,3}(,\d{3})+\b|\b\d{12,}\b", "NUMBER"),
    (r"\b\d+\.\d kB\b", "SIZE"),
    (r" {2,}", "  "),  # columns are as wide as their widest entry
)
"""What is another one each time, as the page itself says."""


@dataclass(frozen=True, slots=True)
class Line:
    """One command of a console block, and what it prints to both streams."""

    command: str
    output: str


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block, in order."""
    return _FENCED.findall(page)


def console(page: str) -> list[Line]:
    """The commands of all console blocks, in order."""
    text = "".join(text for language, text in blocks(page) if language == "console")
    _, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    return [Line(*part.split("\n", 1)) for part in parts]


def run(lines: list[Line], folder: Path, env: Mapping[str, str], timeout: float) -> list[Line]:
    """The same commands in one bash, with what they really print; a failure that nobody asks for is added to it."""
    mark = secrets.token_hex(8)
    script = "\n".join(
        f"(exit $code); eval {shlex.quote(line.command)}\ncode=$?; echo {mark} $code" for line in lines
    )
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", f"code=0\n{script}"],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    said = re.split(rf"{mark} (\d+)\n", done.stdout)
    asked = [line.command.startswith("echo $?") for line in lines[1:]] + [False]
    return [
        Line(line.command, output if code == "0" or seen else f"{output}exit code {code}\n")
        for line, output, code, seen in zip(lines, said[::2], said[1::2], asked, strict=False)
    ]


def alike(lines: list[Line]) -> list[tuple[str, list[str]]]:
    """Without what is another one each time."""
    return [(line.command, _alike(line.output).splitlines()) for line in lines]


def _alike(text: str) -> str:
    for pattern, word in _OTHERS:
        text = re.sub(pattern, word, text)
    return text


def program(page: str) -> tuple[str, list[str]]:
    """The Python of a page, and the lines that it says, behind `# -> `, that are printed."""
    (text,) = (text for language, text in blocks(page) if language == "python")
    return text, re.findall(r"# -> (.*)$", text, re.MULTILINE)
