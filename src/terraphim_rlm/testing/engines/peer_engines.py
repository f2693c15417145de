"""Other engines, each in its own environment: `peer_engines.py PEER`, one job a line in, one result a line out.

Standard library, `play.py` beside this file and the peer only. A job is `{"script", "repeat"}` or `{"repl": count}`;
a result is `{"version", "told": [..]}` or `{"version", "error"}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
import time
from importlib import import_module, metadata
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from play import Play, context_of  # type: ignore[import-not-found]


class NotOffered(Exception):
    """The peer has nothing like this."""


def _fenced(tag: str, code: str) -> str:
    return f"```{tag}\n{code}\n```"


class Rlms:
    """The authors' library, cells in its caller's process: no isolation."""

    name = "rlms"

    def __init__(self) -> None:
        core, types = import_module("rlm.core.rlm"), import_module("rlm.core.types")
        base = import_module("rlm.clients.base_lm").BaseLM
        play = self

        class Client(base):  # type: ignore[misc, valid-type]
            def completion(self, prompt: Any) -> str:
                return str(play.current.slow_reply(_messages(prompt)))

            async def acompletion(self, prompt: Any) -> str:
                messages = _messages(prompt)
                await asyncio.sleep(play.current.latency(messages))
                return str(play.current.reply(messages))

            def get_usage_summary(self) -> Any:
                return types.UsageSummary(model_usage_summaries={"fake": self.get_last_usage()})

            def get_last_usage(self) -> Any:
                return types.ModelUsageSummary(1, 10, 10)

        setattr(core, "get_client", lambda *_: Client("fake"))  # noqa: B010 - no module that is known here
        self._rlm = core.RLM
        self.current: Any = None

    def write(self, step: dict[str, Any]) -> str:
        if "text" in step:
            return str(step["text"])
        final = step.get("final")
        end = "" if final is None else f"\nanswer['content'] = {final}\nanswer['ready'] = True"
        code = re.sub(
            r"\brlm_query\((.*?), .*?\)", r"rlm_query(\1)", step.get("code", "")
        )  # a child sees its prompt
        code = re.sub(r"\brlm_query_batched\((.*), [^,]*?\)$", r"rlm_query_batched(\1)", code, flags=re.M)
        return _fenced("repl", code + end)

    def ask(self, script: dict[str, Any], context: Any) -> Any:
        limits = script.get("limits", {})
        rlm = self._rlm(
            backend="openai",
            backend_kwargs={"model_name": "fake"},
            environment="local",
            max_depth=limits.get("depth", 5) + 1,
            max_iterations=limits.get("turns", 30),
            max_timeout=limits.get("seconds"),
            max_tokens=limits.get("tokens"),
        )
        return rlm.completion(context, root_prompt=script["question"]).response

    def repl(self, count: int) -> list[float]:
        raise NotOffered("its cells run in its caller's process")


class Dspy:
    """dspy.RLM with its LocalInterpreter: a process, no sandbox."""

    name = "dspy"

    def __init__(self) -> None:
        self._dspy: Any = import_module("dspy")
        dummy = import_module("dspy.utils.dummies").DummyLM
        play = self

        class Model(dummy):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                super().__init__(_Answers(play))

        self._model = Model()
        self._dspy.configure(lm=self._model)
        self.current: Any = None

    def write(self, step: dict[str, Any]) -> str:
        if "text" in step:
            return str(step["text"])
        if "rlm_query" in step.get("code", ""):
            raise NotOffered("its children are agents of other kinds, with other inputs")
        final = step.get("final")
        return _fenced(
            "python", step.get("code", "") + ("" if final is None else f"\nSUBMIT(answer=str({final}))")
        )

    def ask(self, script: dict[str, Any], context: Any) -> Any:
        limits = script.get("limits", {})
        rlm = self._dspy.RLM(
            "context, query -> answer",
            max_iters=limits.get("turns", 30),
            max_llm_calls=limits.get("calls", 10_000),
            sub_lm=lambda prompt: [self.current.slow_reply([{"role": "user", "content": prompt}])],
            interpreter_factory=lambda: self._dspy.LocalInterpreter(execution_timeout=limits.get("seconds")),
        )
        before = len(self._model.history)
        try:
            return rlm(context=context, query=script["question"]).answer
        finally:
            sent = [_messages(each["messages"]) for each in self._model.history[before:]]
            turns = [each for each in self.current.requests if each["who"] != "query"]
            for turn, messages in zip(turns, sent, strict=False):
                turn["messages"] = [[message["role"], message["content"]] for message in messages]

    def repl(self, count: int) -> list[float]:
        interpreter = self._dspy.LocalInterpreter()
        try:
            return _timed(count, lambda: interpreter.execute("print(1)"))
        finally:
            interpreter.shutdown()


class _Answers:
    """What a DummyLM takes its replies from: the fields of each."""

    def __init__(self, peer: Dspy) -> None:
        self._peer = peer

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> dict[str, str]:
        question = self._peer.current.script["question"]
        return {"reasoning": "..", "code": self._peer.current.reply([{"role": "user", "content": question}])}


class Rlmness:
    """rlmness with its subprocess runtime: a process, no sandbox."""

    name = "rlmness"

    def __init__(self) -> None:
        package = import_module("rlmness")
        self._solve, self._config, self._spend = package.solve, package.Config, package.Spend
        self._runtime: Any = package.SubprocessRuntime
        self.current: Any = None

    def write(self, step: dict[str, Any]) -> str:
        if "text" in step:
            return str(step["text"])
        code = step.get("code", "")
        if re.search(r"\bllm_query", code):
            raise NotOffered("it has no plain sub-calls, only children")
        code = re.sub(r"\brlm_query\((.*?), (.*?)\)", r"(await rlm(\2, \1))", code)
        final = step.get("final")
        return _fenced("python", f"context = PROMPT\n{code}" + ("" if final is None else f"\nFINAL({final})"))

    def complete(self, messages: Any, *, model: str) -> Any:
        return self.current.slow_reply(_messages(list(messages))), self._spend()

    def ask(self, script: dict[str, Any], context: Any) -> Any:
        limits = script.get("limits", {})
        config = self._config(
            primary_agent="fake",
            runtime="subprocess",
            max_depth=limits.get("depth", 5),
            max_steps=limits.get("turns", 30),
            max_calls=limits.get("calls", 10_000),
            max_seconds=limits.get("seconds"),
            timeout=limits.get("seconds", 120.0),
        )
        return self._solve(context, self, instruction=script["question"], config=config).output

    def repl(self, count: int) -> list[float]:
        runtime = self._runtime("x")
        try:
            return _timed(count, lambda: runtime.execute("print(1)"))
        finally:
            runtime.close()


class RecursiveLlm:
    """recursive-llm: a worker of restricted Python."""

    name = "recursive-llm"

    def __init__(self) -> None:
        self._rlm: Any = import_module("rlm").RLM
        self.current: Any = None
        self._pending: list[str] = []

    def write(self, step: dict[str, Any]) -> str:
        if "text" in step:
            return str(step["text"])
        code, final = step.get("code", ""), step.get("final")
        return code if final is None else f"{code}\n_unused = 0\nfinal_value = ({final})"

    async def _handle(self, *, model: str, messages: Any, **_: Any) -> Any:
        said = _messages(messages)
        asked = [message["content"] for message in said if message["role"] == "assistant"]
        if asked and "final_value = (" in asked[-1] and "rror" not in said[-1]["content"]:
            text = "FINAL_VAR(final_value)"
        else:
            await asyncio.sleep(self.current.latency(said))
            text = self.current.reply(said).replace("_unused = 0\n", "")
        message = {"choices": [{"message": {"content": text}}]}
        return {**message, "usage": {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}}

    def ask(self, script: dict[str, Any], context: Any) -> Any:
        limits = script.get("limits", {})
        rlm = self._rlm(
            "fake",
            max_depth=limits.get("depth", 5) + 1,
            max_iterations=limits.get("turns", 30),
            max_total_calls=limits.get("calls"),
            max_total_tokens=limits.get("tokens"),
            max_elapsed_seconds=limits.get("seconds"),
            repl_timeout=60,
            completion_handler=self._handle,
        )
        return rlm.complete(script["question"], context)

    def repl(self, count: int) -> list[float]:
        raise NotOffered("its worker has no interface of its own")


PEERS: dict[str, Any] = {peer.name: peer for peer in (Rlms, Dspy, Rlmness, RecursiveLlm)}
PACKAGES = {"rlms": "rlms", "dspy": "dspy", "rlmness": "rlmness", "recursive-llm": "recursive-llm"}


def _messages(prompt: Any) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [
        {"role": message["role"], "content": message["content"]}
        if isinstance(message, dict)
        else {"role": message.role, "content": message.content}
        for message in prompt
    ]


def _timed(count: int, work: Any) -> list[float]:
    for _ in range(20):
        work()
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        samples.append((time.perf_counter() - started) * 1000)
    return samples


def _played(peer: Any, script: dict[str, Any]) -> dict[str, Any]:
    peer.current = play = Play(script, peer.write)
    context = context_of(script)
    started = time.perf_counter()
    told: dict[str, Any] = {"answer": None, "error": None}
    try:
        told["answer"] = _plain(peer.ask(script, context))
    except NotOffered:
        raise
    except BaseException as error:  # SystemExit of a cell may come out here: that is a finding, too
        told["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
    told["seconds"] = time.perf_counter() - started
    told["calls"] = play.calls
    told["requests"] = play.requests
    told["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return told


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def main(name: str) -> None:
    """Serves jobs until standard input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    version: str | None = None
    peer: Any = None
    try:
        version = metadata.version(PACKAGES[name])
        peer = PEERS[name]()
        fault = ""
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    for line in sys.stdin:
        job = json.loads(line)
        result: dict[str, Any] = {"version": version}
        try:
            if fault:
                raise NotOffered(fault)
            if "repl" in job:
                result["samples"] = peer.repl(job["repl"])
            else:
                result["told"] = [_played(peer, job["script"]) for _ in range(job.get("repeat", 1))]
        except NotOffered as error:
            result["error"] = f"not offered: {error}"
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        out.write(json.dumps(result) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
