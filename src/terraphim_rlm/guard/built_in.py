"""Hooks that come with the package."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from terraphim_rlm.guard.hooks import Hook, HookDecision, Hooks, ToolCall, ToolOutput

LANGUAGES = ("python", "bash", "sh", "javascript", "rust", "go")
_MOST_CODE = 100_000

_DANGEROUS = tuple(
    (re.compile(expression, re.IGNORECASE), what)
    for expression, what in (
        (r"\brm\s+(?:-\w+\s+)*-\w*[rf]\w*\s+(?:-\w+\s+)*/(?:\s|\*|$)", "it removes the whole file system"),
        (r"\bmkfs(?:\.\w+)?\s", "it makes a new file system over an old one"),
        (r"\bdd\s+[^\n|;]{0,200}\bof=/dev/", "it writes over a device"),
        (r":\s*\(\s*\)\s*\{\s*:\s*\|\s*:\s*&\s*\}\s*;", "it is a fork bomb"),
        (
            r"\b(?:curl|wget)\b[^\n|;]{0,500}\|\s*(?:sudo\s+)?(?:ba|z|da)?sh\b",
            "it runs what it downloads, unseen",
        ),
        (r"\bformat\s+c:", "it formats a disk"),
        (
            r"\bos\.system\s*\(\s*[\"']\s*(?:rm|sudo|shutdown|reboot)\b",
            "it runs a shell command that does harm",
        ),
        (r"\bshutil\.rmtree\s*\(\s*[\"']/[\"']", "it removes the whole file system"),
    )
)


class DangerousPattern(Hook):
    """Blocks code in which a well-known harmful phrase stands.

    Plain phrases, found wherever they stand, in quotes and comments too; for what code does, see the safety rules.
    """

    name = "dangerous_pattern"

    async def pre_tool(self, call: ToolCall) -> HookDecision:
        for expression, what in _DANGEROUS:
            if (match := expression.search(call.text)) is not None:
                return HookDecision.block(f"{' '.join(match.group().split())[:80]!r}: {what}.")
        return HookDecision.allow()


class SyntaxValidation(Hook):
    """Blocks what is no program at all: empty code, code that is too long, languages that nothing here runs.

    Args:
        most: characters of code.
        languages: those that may run.
    """

    name = "syntax_validation"

    def __init__(self, *, most: int = _MOST_CODE, languages: tuple[str, ...] = LANGUAGES) -> None:
        self._most = most
        self._languages = languages

    async def pre_tool(self, call: ToolCall) -> HookDecision:
        if call.language not in self._languages:
            listed = ", ".join(self._languages)
            return HookDecision.block(
                f"there is no language {call.language[:40]!r} here; there are {listed}."
            )
        if not call.text.strip():
            return HookDecision.block("the code is empty.")
        if len(call.text) > self._most:
            return HookDecision.block(
                f"the code has {len(call.text):,} characters; {self._most:,} are the most."
            )
        return HookDecision.allow()


class ExecutionLogger(Hook):
    """Writes a line before and after each execution, without the code and its output.

    Args:
        write: takes each line; None = the logger `terraphim_rlm.executions`.
    """

    name = "execution_logger"

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        self._write = write or logging.getLogger("terraphim_rlm.executions").info

    async def pre_tool(self, call: ToolCall) -> HookDecision:
        self._write(f"{call.node} runs {len(call.text)} characters of {call.language}")
        return HookDecision.allow()

    async def post_tool(self, output: ToolOutput) -> HookDecision:
        ended = "" if output.exit_code is None else f", exit code {output.exit_code}"
        self._write(
            f"{output.node} {output.language} said {len(output.text)} characters on {output.stream}"
            f"{ended} after {output.duration_ms:.0f} ms"
        )
        return HookDecision.allow()


_ASSIGNED = re.compile(
    r"(?P<name>(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)"
    r"[\w-]{0,20}[\"']?\s{0,5}[:=]\s{0,5}[\"']?)(?P<value>(?:Bearer\s+|Basic\s+)?[^\s\"',;&<>(){}\[\]]{4,})",
    re.IGNORECASE,
)
# Outputs are the sandbox's: no expression may look at the same text from many places, or the host stands still.
_SECRETS = (
    ("key", re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:(?!-----BEGIN ).){0,20000}?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|(?=-----BEGIN )|\Z)", re.DOTALL)),
    ("token", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("token", re.compile(r"\b(?:gh[pousr]_|github_pat_)\w{20,}\b")),
    ("token", re.compile(r"\b(?:sk|pk|rk)-[\w-]{16,}\b")),
    ("token", re.compile(r"\bxox[abprs]-[\w-]{10,}\b")),
    ("token", re.compile(r"(?<![\w-])(?:[\w-]{0,40}-)?eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]{8,}+")),
    ("token", re.compile(r"(?<=\bBearer )[\w.~+/-]{12,}=*")),
    ("password", re.compile(r"(?<=://)[^\s:/@]{1,100}:[^\s:/@]{1,100}(?=@)")),
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")),
)  # fmt: skip


def redacted(text: str) -> str:
    """A text with secrets and e-mail addresses replaced by what they were; all else stays as it is."""
    for kind, expression in _SECRETS:
        text = expression.sub(f"[{kind} removed]", text)
    return _ASSIGNED.sub(_without_value, text)


def _without_value(match: re.Match[str]) -> str:
    if match.group("value").startswith("["):
        return match.group()
    return f"{match.group('name')}[secret removed]"


class OutputSanitizer(Hook):
    """Replaces secrets and e-mail addresses in outputs before a model or the journal sees them. Nothing else is lost."""

    name = "output_sanitizer"

    async def post_tool(self, output: ToolOutput) -> HookDecision:
        clean = redacted(output.text)
        return HookDecision.allow() if clean == output.text else HookDecision.modify(clean)


_MODULES = [
    "base64",
    "collections",
    "csv",
    "datetime",
    "functools",
    "glob",
    "hashlib",
    "io",
    "itertools",
    "json",
    "math",
    "os",
    "pathlib",
    "random",
    "re",
    "shutil",
    "statistics",
    "string",
    "subprocess",
    "sys",
    "textwrap",
    "time",
]
_USED = re.compile(rf"(?<![\w.\"'])(?:{'|'.join(_MODULES)})(?=\.\w)")


class DependencyInjector(Hook):
    """Puts the imports of standard modules before Python code that uses them and does not import them."""

    name = "dependency_injector"

    async def pre_tool(self, call: ToolCall) -> HookDecision:
        if call.language != "python":
            return HookDecision.allow()
        used = sorted(set(_USED.findall(call.text)))
        missing = [name for name in used if not _names(call.text, name)]
        if not missing:
            return HookDecision.allow()
        return HookDecision.modify(f"import {', '.join(missing)}\n{call.text}")


def _names(code: str, module: str) -> bool:
    """Whether code imports a module, or gives its name to something else."""
    bound = rf"^[^\n#]*\bimport\b[^\n#]*\b{module}\b|\b{module}\s*(?:=[^=]|:=)|\bfor\s+{module}\b|\bas\s+{module}\b|[(,]\s*{module}\s*[,):]"
    return re.search(bound, code, re.MULTILINE) is not None


def default_hooks() -> Hooks:
    """Dangerous patterns, syntax, logger, redactor."""
    return Hooks([DangerousPattern(), SyntaxValidation(), ExecutionLogger(), OutputSanitizer()])
