"""What code reached and was refused stands in the history: of sessions, of single executions, of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from egress_kit import OK, server

from terraphim_rlm import Limits, Resources, Rlm
from terraphim_rlm.core.clock import ManualClock
from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.events import Event
from terraphim_rlm.engine.guards import Checks
from terraphim_rlm.service import session_records
from terraphim_rlm.service.execute import ExecuteRequest, execute
from terraphim_rlm.service.executions import Execution
from terraphim_rlm.service.sessions import NewSession, Sessions
from terraphim_rlm.store.journal import Journal
from terraphim_rlm.store.verify import verify
from terraphim_rlm.testing import ScriptedModel

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
HOST = "127.0.0.2"
UNASKED = Checks(look_first=False, literal=False, unread=False)
FETCH = "import urllib.request\nfor host in {hosts!r}:\n  try: urllib.request.urlopen(f'http://{{host}}/')\n  except OSError: pass"


async def test_a_session_s_decisions_are_written_down_with_the_execution_that_caused_them(
    monkeypatch: pytest.MonkeyPatch, own_data_folder: Path
) -> None:
    async with server(OK, host=HOST) as (port, _got):
        here = f"{HOST}:{port}"
        monkeypatch.setenv("TRLM_EGRESS_PRIVATE", here)
        with Journal() as journal:
            async with Sessions(journal, clock=ManualClock()) as sessions:
                made = await sessions.create(NewSession(resources=Resources(network=(here,))))
                (twin,) = await sessions.branch(made.id)
                code = FETCH.format(hosts=[here, "evil.example"])
                done = await sessions.execute(made.id, Execution(code))
                other = await sessions.execute(twin.id, Execution(FETCH.format(hosts=["other.example"])))
            found = session_records.accesses(made.id)
    assert [(each.data["decision"], each.data["name"], each.data["port"]) for each in found] == [
        ("refused", "evil.example", 80),
        ("closed", HOST, port),
        ("allowed", HOST, port),
    ]
    assert {each.execution for each in found} == {done.execution_id}
    assert found[1].data["bytes_down"] == len(OK)
    assert [each.data["decision"] for each in session_records.accesses(made.id, refused=True)] == ["refused"]
    (only,) = session_records.accesses(twin.id)
    assert (only.data["name"], only.execution) == ("other.example", other.execution_id)
    with pytest.raises(InvalidArgument):
        session_records.accesses(made.id, limit=0)
    assert verify(own_data_folder / "journal.db").problems == ()


async def test_a_single_execution_s_refusals_are_in_its_notes_and_in_the_history() -> None:
    request = ExecuteRequest(
        Execution(FETCH.format(hosts=["evil.example"])), resources=Resources(network=("docs.example",))
    )
    done = await execute(request)
    assert done.notes == (
        "Network refused: evil.example is not allowed; allow it with network=['evil.example'].",
    )
    (session,) = session_records.list_sessions(once=True)
    (found,) = session_records.accesses(session.id)
    assert found.execution == done.execution_id


async def test_a_run_tells_its_model_what_may_be_reached_and_writes_down_what_was() -> None:
    fetch = f"```python\n{FETCH.format(hosts=['evil.example'])}\n```"
    model = ScriptedModel([fetch, "FINAL(done)"])
    events: list[Event] = []
    rlm = Rlm(
        model,
        route="loop",
        limits=Limits(),
        checks=UNASKED,
        resources=Resources(network=("docs.example", "*.wild.example")),
    )
    await rlm.ask("What?", "some input", sinks=(events.append,))
    first = model.requests[0].messages[1].content
    assert "may reach these hosts over the network, and no others: docs.example, *.wild.example." in first
    assert "Network refused: evil.example is not allowed" in model.requests[1].messages[-1].content
    (refused,) = [event for event in events if event.type == "network.refused"]
    assert refused.data["name"] == "evil.example"


async def test_a_run_without_allowed_names_says_nothing_of_them() -> None:
    model = ScriptedModel(["FINAL(done)"])
    await Rlm(model, route="loop", limits=Limits(), checks=UNASKED).ask("What?", "some input")
    assert "over the network" not in model.requests[0].messages[1].content
