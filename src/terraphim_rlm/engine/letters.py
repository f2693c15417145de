"""Hooks before and after model calls."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from terraphim_rlm.core.errors import CodeBlocked
from terraphim_rlm.core.ledger import Account
from terraphim_rlm.engine.gate import Person, told
from terraphim_rlm.engine.judged import Guard
from terraphim_rlm.engine.telling import Teller
from terraphim_rlm.guard import judging
from terraphim_rlm.guard.hooks import Hooks, Prompt, Reply
from terraphim_rlm.llm.client import Message, ModelClient, ModelReply, ModelRequest


class Letters:
    """Lets hooks see what goes to a run's models and what comes back."""

    def __init__(self, hooks: Hooks, person: Person, teller: Teller) -> None:
        self._hooks = hooks
        self._person = person
        self._tell = teller
        self._passed: dict[str, str] = {}
        """Each message that was let pass -> as it goes out. A conversation is sent again with every turn."""

    async def before(self, model: ModelClient, request: ModelRequest) -> ModelRequest:
        """The request with its messages as hooks leave them; the system prompt is ours, and replies were seen.

        Raises:
            CodeBlocked: a hook forbids one of them.
        """
        messages = [
            await self._outward(message, model, request) if message.role == "user" else message
            for message in request.messages
        ]
        return replace(request, messages=tuple(messages))

    async def _outward(self, message: Message, model: ModelClient, request: ModelRequest) -> Message:
        text = self._passed.get(message.content)
        if text is None:
            prompt = Prompt(message.content, model.info.name, request.purpose, request.node)
            ask, tell = partial(self._person.hook, "prompt"), partial(told, self._tell, request.purpose)
            passed = await self._hooks.passed("pre_llm", prompt, ask, tell)
            if passed.blocked:
                raise CodeBlocked(f"A prompt was not sent: {passed.blocked}", fix=_FIX)
            text = self._passed[message.content] = passed.subject.text
        return message if text == message.content else replace(message, content=text)

    async def after(self, model: ModelClient, request: ModelRequest, reply: ModelReply) -> ModelReply:
        """The reply as hooks leave it.

        Raises:
            CodeBlocked: a hook withholds it.
        """
        heard = Reply(reply.text, model.info.name, request.purpose, request.node)
        ask, tell = partial(self._person.hook, "reply"), partial(told, self._tell, request.purpose)
        passed = await self._hooks.passed("post_llm", heard, ask, tell)
        if passed.blocked:
            raise CodeBlocked(f"A reply was withheld: {passed.blocked}", fix=_FIX)
        return reply if passed.subject.text == reply.text else replace(reply, text=passed.subject.text)


_FIX = "Change what the hook objects to, or the hook."


def letters(guard: Guard, account: Account, teller: Teller) -> Letters | None:
    """None where no hook waits at a model call: such calls then cost nothing more."""
    hooks = guard.hooks if isinstance(guard, judging.Guard) else Hooks()
    if not hooks.at("pre_llm") and not hooks.at("post_llm"):
        return None
    return Letters(hooks, Person(guard, account, teller), teller)
