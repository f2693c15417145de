"""What the host lets through, what it refuses, and what it asks the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from terraphim_rlm.core.errors import ModelUnreachable
from terraphim_rlm.engine.lookup import LookupResult, analyse, decide
from terraphim_rlm.engine.lookup.pipeline import LIMIT, drive, reader
from terraphim_rlm.guest import retrieve
from terraphim_rlm.llm.client import ModelReply, ModelRequest

pytestmark = pytest.mark.anyio


class Model:
    """Extracts by a table and finds a question likely after sentences that hold `likes`."""

    def __init__(self, extracts: str = "", likes: str = "\0") -> None:
        self.extracts, self.likes = extracts, likes
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        if "A question about" in request.messages[0].content:
            return ModelReply(
                "?", details={"logprob": -50.0 if self.likes in request.messages[0].content else -250.0}
            )
        return ModelReply(" " + self.extracts)


async def ask(question: str, text: str, model: Model | None = None) -> LookupResult:
    corpus, plan = {"f.txt": text.encode()}, analyse(question)
    found = retrieve.search(corpus, plan.to_guest(LIMIT))
    return await drive(decide(plan, found, reader(corpus)), (model or Model()).complete)  # type: ignore[arg-type]


FERRY = "The quay is long.\n\nThe night ferry from Oban to Staffa leaves at 21:40 sharp.\n\nIt rains.\n"


async def test_a_sentence_with_every_term_is_verified_with_its_span() -> None:
    result = await ask("When does the night ferry from Oban to Staffa leave?", FERRY, Model("21:40"))
    (item,) = result.evidence
    assert (result.value, result.confidence, item.line, item.verified) == ("21:40", "verified", 3, True)
    assert FERRY.encode()[item.start : item.end].decode() == item.quote == result.text


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When does the night ferry from Oban to Mull leave?", FERRY),
        ("Who is the captain of the night ferry from Oban?", FERRY),
        ("How deep is the well of Morwick?", "The well of Stennick is 12 metres deep."),
        (
            "Who founded the Zephyr chess club?",
            "Lomax founded the Nimbus chess club. The Zephyr chess club meets in a cellar.",
        ),
        ("Where does the postman buy his tobacco?", "The organist buys his tobacco in Ashkirk."),
        ("What does timeout_ms default to?", "The timeout defaults to 30 seconds."),
        ("What is the price of ISBN 12345?", "The price of ISBN 12346 is 9 crowns."),
        ("Who fed the bears?", ""),
    ],
)
async def test_a_near_miss_is_not_found_whatever_the_model_likes(question: str, text: str) -> None:
    result = await ask(question, text, Model("Lomax", likes=""))
    assert (result.confidence, result.text, result.value, result.evidence) == (
        "not_found",
        "not found",
        None,
        (),
    )


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("When does the ferry from Oban to Staffa leave?", "The ferry from Staffa to Oban leaves at 21:40."),
        ("When does the ferry to Oban leave?", "The ferry to Oban never leaves at 21:40."),
        (
            "When does the ferry to Oban leave?",
            "The ferry to Oban leaves at 21:40.\n\nThe ferry to Oban leaves at 22:50.",
        ),
        ("When did Orla Venn retire?", "Venn retired Orla in 1987."),
    ],
)
async def test_a_sentence_that_may_mean_something_else_is_never_verified(question: str, text: str) -> None:
    assert (await ask(question, text)).confidence != "verified"


async def test_a_sentence_with_every_term_but_no_time_does_not_answer_when() -> None:
    assert (
        await ask("When does the ferry to Oban leave?", "the ferry to Oban leaves.")
    ).confidence == "not_found"


@pytest.mark.parametrize(
    ("question", "text", "extracted", "value"),
    [
        ("Who opened the tunnel?", "The tunnel was opened by Lomax in 1921.", "Lomax", "Lomax"),
        (
            "Who opened the tunnel?",
            "The tunnel was opened by Lomax in Oban.",
            "Oban",
            "The tunnel was opened by Lomax in Oban.",
        ),
        ("When was the tunnel opened?", "The tunnel was opened by Lomax in 1921.", "in 1921", "in 1921"),
        (
            "When was the tunnel opened?",
            "The tunnel was opened in 1921 at 9:30.",
            "9:30",
            "The tunnel was opened in 1921 at 9:30.",
        ),
        (
            "Which mineral did he discover?",
            "He discovered the mineral Zorite in a quarry.",
            "a quarry",
            "He discovered the mineral Zorite in a quarry.",
        ),
    ],
)
async def test_a_verified_value_is_short_only_where_the_host_can_tell_which_words_answer(
    question: str, text: str, extracted: str, value: str
) -> None:
    result = await ask(question, text, Model(extracted))
    assert (result.value, result.confidence) == (value, "verified")


OTHER_WORDS = "The inn is shut.\n\nOld Harkness the baker was afraid of geese all his life.\n\nA bird made bread crumbs fly.\n"


async def test_other_words_are_let_through_unverified_when_the_model_finds_the_question_likely() -> None:
    question = "Which bird frightened the man who made bread?"
    model = Model("geese", likes="geese")
    result = await ask(question, "Old Harkness the baker was afraid of geese all his life.", model)
    assert (result.value, result.confidence) == ("geese", "unverified")
    refused = await ask(question, "Old Harkness the baker was afraid of geese all his life.", Model("geese"))
    assert refused.confidence == "not_found"


async def test_without_log_probabilities_only_broad_support_is_let_through() -> None:
    async def silent(request: ModelRequest) -> None:
        return None

    def steps(text: str) -> Any:
        plan, files = analyse("When did the doctor marry?"), {"f": text.encode()}
        return decide(plan, retrieve.search(files, plan.to_guest()), reader(files))

    assert (
        await drive(steps("The wedding of the physician was in July."), silent)
    ).confidence == "unverified"
    assert (await drive(steps("The wedding was held in July in a tent."), silent)).confidence == "not_found"


async def test_a_provider_s_failure_is_never_an_answer() -> None:
    class Down(Model):
        async def complete(self, request: ModelRequest) -> ModelReply:
            raise ModelUnreachable("The model is away.")

    with pytest.raises(ModelUnreachable):
        await ask("When does the night ferry from Oban to Staffa leave?", FERRY, Down())


@pytest.mark.parametrize("reply", ["", "at noon", "the night ferry", "\x00", "9" * 5000])
async def test_an_extraction_that_is_not_in_the_sentence_or_echoes_the_question_is_replaced_by_the_sentence(
    reply: str,
) -> None:
    result = await ask("When does the night ferry from Oban to Staffa leave?", FERRY, Model(reply))
    assert (result.value, result.confidence) == (result.text, "unverified")


HOSTILE: tuple[Any, ...] = (
    None, [], "x", {}, {"passages": None}, {"passages": [None, 1, "x", []]},
    {"passages": [{"path": "f", "start": 0, "end": 10**12}]},
    {"passages": [{"path": "f", "start": -5, "end": 5}]},
    {"passages": [{"path": "f", "start": 5, "end": 5}]},
    {"passages": [{"path": "/etc/passwd", "start": 0, "end": 50}]},
    {"passages": [{"path": ["f"], "start": 0, "end": 50}]},
    {"passages": [{"path": "f", "start": True, "end": 50}]},
    {"passages": [{"path": "f", "start": 0.0, "end": 50.0}]},
    {"passages": [{"path": "f", "start": 0, "end": 9, "text": "The night ferry leaves Oban at 3:00."}], "rarity": "x"},
)  # fmt: skip


@pytest.mark.parametrize("findings", HOSTILE)
async def test_findings_that_a_sandbox_made_up_are_not_believed(findings: Any) -> None:
    files: Mapping[str, bytes] = {"f": b"Nothing of the kind is said in this file at all."}
    plan = analyse("When does the night ferry leave Oban?")
    result = await drive(decide(plan, findings, reader(files)), Model().complete)
    assert result.confidence == "not_found"


async def test_a_quote_whose_bytes_change_between_judgement_and_answer_is_not_found() -> None:
    raw = [FERRY.encode()]
    plan = analyse("When does the night ferry from Oban to Staffa leave?")
    findings = retrieve.search({"f.txt": raw[0]}, plan.to_guest())

    class Swaps(Model):
        async def complete(self, request: ModelRequest) -> ModelReply:
            raw[0] = raw[0].replace(b"21:40", b"09:15")
            return await super().complete(request)

    steps = decide(plan, findings, lambda path, start, end: raw[0][start:end])
    assert (await drive(steps, Swaps("21:40").complete)).confidence == "not_found"


async def test_a_plain_question_costs_one_call_and_any_question_at_most_eight() -> None:
    plain, other = Model(), Model(likes="geese")
    await ask("When does the night ferry from Oban to Staffa leave?", FERRY, plain)
    await ask("Which bird frightened the man who made bread?", OTHER_WORDS * 30, other)
    assert len(plain.requests) == 1
    assert len(other.requests) <= 8
    assert all(len(r.messages[0].content) < 900 for r in plain.requests + other.requests)
