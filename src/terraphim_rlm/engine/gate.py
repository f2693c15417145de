"""What stands between a node's code and its sandbox: hooks, the guard, and a person where one of them asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from terraphim_rlm.core.errors import EscalationRequired
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.core.values import ExecutionResult, Finding, Verdict, to_json
from terraphim_rlm.engine.judged import EarlyGuard, Guard
from terraphim_rlm.engine.redoing import Redo
from terraphim_rlm.engine.replies import Code
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.guard import judging
from terraphim_rlm.guard.asking import Asked, Asking, Decided
from terraphim_rlm.guard.hooks import POINTS, HookDecision, Hooks, Point, ToolCall, ToolOutput
from terraphim_rlm.guard.judging import RETRIES, is_of_vocabulary, runs

_MOST_TOLD = 20_000
"""Characters of what a person is asked about, in an event."""


class Gate:
    """Judges the code of one node.

    Args:
        guard: of the run; one that only has verdicts has neither hooks nor anybody to ask.
        account: a person's answer is waited for no longer than the run may last.
    """

    def __init__(self, guard: Guard, account: Account, teller: Teller) -> None:
        self._guard: Guard = guard
        self._tell = teller
        self._person = Person(guard, account, teller)
        whole = guard if isinstance(guard, judging.Guard) else None
        self._hooks = whole.hooks if whole else Hooks()
        self._retries = whole.retries if whole else RETRIES
        self._tries = 0
        self._decisions: dict[tuple[str, str], bool] = {}
        self.holds_output = bool(self._hooks.at("post_tool"))
        """Nobody may see an output before hooks have."""

    def early(self) -> EarlyGuard:
        """The guard, for whoever asks while a reply still streams; what it says then is not asked again."""
        guard = self._guard = EarlyGuard(self._guard)
        return guard

    def entry(self, number: str, command: Code, redo: Redo) -> Entry:
        """One piece of code that a model wrote, before it is let in."""
        return Entry(command.code, self, number, command.language, redo)

    async def entering(self, code: str, language: str, *, known: bool) -> tuple[str, Verdict | None]:
        """The code as hooks leave it, and the verdict where one of them blocks it.

        Args:
            known: it ran before, so whatever a hook asks was answered by yes.
        """
        if not self._hooks.at("pre_tool"):
            return code, None
        call = ToolCall(code, language, self._tell.node)
        ask = _yes if known else partial(self._person.hook, language)
        tell = partial(told, self._tell.told(known), language)
        passed = await self._hooks.passed("pre_tool", call, ask, tell)
        if not passed.blocked:
            return passed.subject.text, None
        name, _, why = passed.blocked.partition(": ")
        code = passed.subject.text
        return code, Verdict("block", (Finding(f"hook.{name}", "high", 0, len(code), why),))

    async def verdict(self, number: str, code: str, language: str, tell: Teller) -> Verdict:
        """What becomes of code that a model wrote; told, unless nothing speaks against it.

        Raises:
            EscalationRequired: a person must decide, and there is nobody to ask.
        """
        verdict = self._after_tries(await self._guard.verdict(code, language))
        if verdict.findings or verdict.decision != "allow":
            tell("verdict", execution_id=number, **to_json(verdict))
        return await self._asked(verdict, code, language) if verdict.decision == "ask" else verdict

    def recall(self, code: str, language: str, verdict: Verdict | None) -> None:
        """Takes in what became of code in an earlier working of the run, which is not judged again."""
        if verdict is not None and any(each.rule == _PERSON for each in verdict.findings):
            self._decisions[language, code] = runs(verdict)
            self._tries = 0
        else:
            self._after_tries(verdict or Verdict("allow"))

    def _after_tries(self, verdict: Verdict) -> Verdict:
        """Unknown words are for the model to mend, a few times in a row; then they are a person's to decide."""
        if runs(verdict):
            self._tries = 0
        elif is_of_vocabulary(verdict):
            self._tries += 1
            if self._tries > self._retries:
                return Verdict("ask", verdict.findings)
        return verdict

    async def _asked(self, verdict: Verdict, code: str, language: str) -> Verdict:
        escalated = self._tries > self._retries
        approved = self._decisions.get((language, code))
        if approved is None:
            question = f"After {self._retries} tries the code still speaks in unknown words. May it run?"
            question = question if escalated else "The guard asks whether this code may run."
            if escalated and not self._person.is_there:
                raise _escalation(verdict, code, self._retries)
            approved = await self._person.says(question, code, language, verdict.findings)
            self._decisions[language, code] = approved
        if escalated:
            self._tries = 0
        said = "A person let it run." if approved else "A person was asked, and did not let it run."
        note = Finding(_PERSON, "info" if approved else "high", 0, len(code), said, "" if approved else _NO)
        return Verdict("warn" if approved else "block", (*verdict.findings, note))

    def advice(self, verdict: Verdict | None) -> str:
        """What whoever wrote refused code is told besides."""
        if verdict is None or not is_of_vocabulary(verdict) or not self._tries:
            return ""
        return f"Write it in known words; this was try {self._tries} of {self._retries}.\n"

    async def leaving(self, code: str, language: str, result: ExecutionResult) -> ExecutionResult:
        """A result as hooks leave it; what they block is withheld, with the reason in its place."""
        if not self.holds_output:
            return result
        passed = partial(self._left, code, language, result)
        stdout, stderr = await passed("stdout", result.stdout), await passed("stderr", result.stderr)
        error = result.error
        if error is not None:
            message = await passed("error", error.message)
            error = replace(error, message=message, traceback=await passed("error", error.traceback))
        if stdout == result.stdout and stderr == result.stderr and error == result.error:
            return result
        data = result.stdout_bytes if stdout == result.stdout else stdout.encode("utf-8", "surrogateescape")
        return replace(result, stdout=stdout, stderr=stderr, error=error, stdout_bytes=data)

    async def _left(self, code: str, language: str, result: ExecutionResult, stream: str, text: str) -> str:
        if not text:
            return text
        output = ToolOutput(
            text,
            stream,  # type: ignore[arg-type]
            code,
            language,
            result.exit_code,
            result.duration_ms.get("run", 0.0),
            self._tell.node,
        )
        ask = partial(self._person.hook, "output")
        passed = await self._hooks.passed("post_tool", output, ask, partial(told, self._tell, stream))
        return f"[withheld by {passed.blocked}]\n" if passed.blocked else passed.subject.text


class Entry:
    """One piece of code on its way into the sandbox. Without a gate it is let in as it is."""

    def __init__(
        self,
        code: str,
        gate: Gate | None = None,
        number: str = "",
        language: str = "",
        redo: Redo | None = None,
    ) -> None:
        self.code = code
        self.found: Verdict | None = None
        """What was said of it; None when nobody looked."""
        self._gate = gate
        self._number = number
        self._language = language
        self._redo = redo

    async def change(self) -> None:
        """Lets hooks have it."""
        if self._gate is not None and self._redo is not None:
            known = self._redo.recorded is not None
            self.code, self.found = await self._gate.entering(self.code, self._language, known=known)

    async def verdict(self) -> Verdict | None:
        """What becomes of it."""
        if self._gate is None or self._redo is None:
            return None
        if self._redo.recorded is not None:
            self.recall(self._redo.recorded)
        elif self.found is None:
            self.found = await self._gate.verdict(self._number, self.code, self._language, self._redo.tell)
        return self.found

    def recall(self, result: ExecutionResult) -> None:
        """Takes what became of it before."""
        self.found = result.verdict
        if self._gate is not None:
            self._gate.recall(self.code, self._language, result.verdict)


async def _yes(question: str, text: str) -> bool:
    return True


_PERSON = "person"
"""The rule of a finding that says what a person decided."""
_NO = "Do not try it again; find another way, or finish with what you have."


def _escalation(verdict: Verdict, code: str, retries: int) -> EscalationRequired:
    words = [code[each.start : each.end] for each in verdict.findings if each.rule.endswith("unknown-term")]
    listed = ", ".join(dict.fromkeys(words[:10]))
    return EscalationRequired(
        f"After {retries} tries the model's code still speaks in unknown words{f' ({listed})' if listed else ''}, "
        "and there is nobody to ask.",
        unknown=list(dict.fromkeys(words[:50])),
        suggestions=[each.suggestion for each in verdict.findings if each.suggestion][:10],
        code=code[:2_000],
    )


def has_hooks(guard: Guard) -> bool:
    """Whether hooks wait anywhere. Then nothing is begun of a reply that they have not seen."""
    return isinstance(guard, judging.Guard) and any(guard.hooks.at(point) for point in POINTS)


def told(teller: Teller, of: str, point: Point, hook: str, decision: HookDecision) -> None:
    """Tells what a hook did. What it made of a text is not repeated: the text itself is told where it is used."""
    text = "" if decision.action == "modify" else decision.text[:2_000]
    teller("hook", point=point, hook=hook, action=decision.action, text=text, of=of)


class Person:
    """Whom a run asks. Each question and each answer is an event."""

    def __init__(self, guard: Guard, account: Account, teller: Teller) -> None:
        self._asking: Asking | None = guard.asking if isinstance(guard, judging.Guard) else None
        self._account = account
        self._tell = teller

    @property
    def is_there(self) -> bool:
        return self._asking is not None

    async def hook(self, language: str, question: str, text: str) -> bool:
        """A hook's question."""
        return await self.says(question, text, language, ())

    async def says(self, question: str, text: str, language: str, findings: tuple[Finding, ...]) -> bool:
        """Whether a person says yes; nobody says no."""
        asking = self._asking
        seconds = min(asking.seconds if asking else 0.0, self._account.remaining_seconds())
        shown = {"text": text[:_MOST_TOLD], "language": language, "findings": to_json(findings)}
        self._tell("approval.asked", question=question, seconds=round(seconds, 3), **shown)
        if asking is None:
            came = Decided(False, "there is nobody to ask")
        else:
            asked = Asked(question, text, language, findings, self._tell.run, self._tell.node, seconds)
            came = await asking.decided(asked)
        self._tell("approval.decided", approved=came.approved, why=came.why)
        self._account.check_time()
        return came.approved
