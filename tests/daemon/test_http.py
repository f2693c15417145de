"""What the daemon answers: to clients that mean well, and to those that do not."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from daemon_kit import Answer, Daemon, Unix, served
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from terraphim_rlm.faces.server.bounds import Bounded, Bounds
from terraphim_rlm.faces.server.idle import Idle

pytestmark = pytest.mark.sandbox
EXECUTIONS = "/api/sessions/{}/executions"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with served(tmp_path_factory.mktemp("http") / "data") as found:
        yield found


@pytest.fixture
def session(daemon: Daemon) -> Iterator[str]:
    made = daemon.session()
    yield made
    daemon.ask("DELETE", f"/api/sessions/{made}")


def is_problem(answer: Answer) -> bool:
    return answer.headers["content-type"] == "application/problem+json" and {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "fix",
    } <= set(answer.json)


def test_a_session_is_made_with_what_was_asked_for(daemon: Daemon) -> None:
    wanted = {"name": "small", "resources": {"memory_mb": 128, "disk_mb": 16}}
    answer = daemon.ask("POST", "/api/sessions", wanted)
    made = answer.json
    assert (answer.status, made["status"], made["name"], made["backend"]) == (
        201,
        "live",
        "small",
        "bubblewrap",
    )
    assert (made["resources"]["memory_mb"], made["resources"]["disk_mb"], made["resources"]["pids"]) == (
        128,
        16,
        256,
    )
    assert made["expires"] - made["created"] == pytest.approx(1800, abs=1)
    assert daemon.run("small", "x = bytearray(10**9)")["status"] == "oom"
    assert daemon.ask("POST", "/api/sessions", wanted).status == 422, "the name is taken"
    assert daemon.ask("DELETE", "/api/sessions/small").status == 200
    gone = daemon.ask("POST", EXECUTIONS.format("small"), {"code": "1"})
    assert (gone.status, gone.json["code"]) == (404, "E651")


def test_every_option_of_an_execution_reaches_it(daemon: Daemon, session: str) -> None:
    code = "import os, sys; print(sys.stdin.read(), os.environ['A'], os.getcwd())"
    found = daemon.run(session, code, stdin="in", env={"A": "b"}, cwd="/tmp")
    assert found["stdout"] == "in b /tmp\n"
    assert daemon.run(session, "print(input())", stdin_base64="aGk=")["stdout"] == "hi\n"
    assert daemon.run(session, "echo $((6 * 7)); exit 3", language="sh")["exit_code"] == 3
    assert daemon.run(session, "while True: pass", timeout=0.2)["status"] == "timeout"


def test_output_comes_as_lines_while_the_code_runs(daemon: Daemon, session: str) -> None:
    code = "import sys\nprint('one', flush=True)\nsys.stdin.read()\nprint('two')\n1/0"
    with closing(Unix(daemon.path)) as connection:
        lines = list(stream(connection, session, code))
        kinds = [line["type"] for line in lines]
        text = "".join(line["text"] for line in lines if line["type"] == "output")
        assert (kinds[0], kinds[-1], text) == ("started", "result", "one\ntwo\n")
        assert lines[-1]["result"]["error"]["type"] == "ZeroDivisionError"
        assert lines[-1]["result"]["execution_id"] == lines[0]["execution_id"]


def stream(connection: Unix, session: str, code: str) -> Iterator[dict[str, Any]]:
    """The lines of an execution, as they come."""
    headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
    connection.request("POST", EXECUTIONS.format(session), json.dumps({"code": code}), headers)
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["content-type"].startswith("application/x-ndjson")
    while raw := response.readline():
        yield json.loads(raw)


ENDLESS = "print('begun', flush=True)\nwhile True: pass"


def test_an_execution_is_stopped_by_its_id_and_the_one_who_waits_gets_the_result(
    daemon: Daemon, session: str
) -> None:
    daemon.run(session, "x = 7")
    with closing(Unix(daemon.path)) as connection:
        lines = stream(connection, session, ENDLESS)
        execution = next(lines)["execution_id"]
        assert next(lines)["text"] == "begun\n"
        assert daemon.ask("DELETE", f"/api/executions/{execution}").status == 202
        (last,) = lines
    assert last["result"]["status"] == "cancelled"
    assert daemon.run(session, "print(x)")["stdout"] == "7\n"
    assert daemon.ask("DELETE", f"/api/executions/{execution}").status == 404


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_stops_what_it_asked_for(daemon: Daemon, session: str, streamed: bool) -> None:
    connection = Unix(daemon.path)
    if streamed:
        lines = stream(connection, session, ENDLESS)
        assert [next(lines)["type"], next(lines)["type"]] == ["started", "output"]
    else:
        body = json.dumps({"code": ENDLESS})
        connection.request("POST", EXECUTIONS.format(session), body, {"Content-Type": "application/json"})
        until(lambda: history(daemon, session)[:1] == ["running"])
    connection.close()
    until(lambda: history(daemon, session)[0] == "cancelled")
    assert daemon.run(session, "print(1)", wait=5)["stdout"] == "1\n"


def history(daemon: Daemon, session: str) -> list[str]:
    found = daemon.ask("GET", f"/api/sessions/{session}/history").json["executions"]
    return [each["status"] for each in found]


def until(true: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline


def test_snapshots_and_branches_over_http(daemon: Daemon, session: str) -> None:
    base = f"/api/sessions/{session}"
    daemon.run(session, "x = 1; open('a', 'w').write('good')")
    assert daemon.ask("POST", f"{base}/snapshots", {"name": "s"}).status == 201
    daemon.run(session, "x = 2; open('a', 'w').write('bad')")
    changed = daemon.ask("GET", f"{base}/diff?before=s").json
    assert changed["changed"] == ["/work/a"]
    assert daemon.ask("POST", f"{base}/snapshots/s/restore", {"paths": ["a"]}).json["missing"] == []
    assert daemon.run(session, "print(x, open('a').read())")["stdout"] == "2 good\n"
    assert daemon.ask("POST", f"{base}/snapshots/s/restore", {}).json["snapshot"]["name"] == "s"
    assert daemon.run(session, "print(x)")["stdout"] == "1\n"
    made = daemon.ask("POST", f"{base}/branch", {"count": 2, "snapshot": "s"}).json["sessions"]
    assert [daemon.run(each["id"], "x += 1; print(x)")["stdout"] for each in made] == ["2\n", "2\n"]
    for each in made:
        daemon.ask("DELETE", f"/api/sessions/{each['id']}")
    assert daemon.ask("GET", f"{base}/snapshots").json["snapshots"][0]["rollbacks"] == 2
    assert daemon.ask("DELETE", f"{base}/snapshots/s").json == {"forgotten": "s"}
    missing = daemon.ask("POST", f"{base}/snapshots/s/restore", {})
    assert (missing.status, missing.json["code"]) == (404, "E701")


def test_history_has_filters_and_the_list_a_limit(daemon: Daemon, session: str) -> None:
    for code in ("1", "1/0", "2"):
        daemon.run(session, code)
    base = f"/api/sessions/{session}/history"
    assert [each["code"] for each in daemon.ask("GET", base).json["executions"]] == ["2", "1/0", "1"]
    assert [each["code"] for each in daemon.ask("GET", f"{base}?failures=true").json["executions"]] == ["1/0"]
    assert len(daemon.ask("GET", f"{base}?limit=2").json["executions"]) == 2
    assert daemon.ask("GET", f"{base}?whole=true&limit=1").json["executions"][0]["whole"]["result"]["status"] == "ok"  # fmt: skip
    assert len(daemon.ask("GET", "/api/history?limit=3").json["executions"]) == 3
    assert daemon.ask("GET", "/api/sessions?status=live").json["sessions"][0]["id"] == session


def test_a_session_is_extended_up_to_its_limit(daemon: Daemon, session: str) -> None:
    found = [daemon.ask("POST", f"/api/sessions/{session}/extend") for _ in range(4)]
    assert [each.status for each in found] == [200, 200, 200, 429]
    assert found[2].json["extensions"] == 3
    assert is_problem(found[3])


NESTED = b'{"code": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = {
    "no json": b"{",
    "not an object": b"[1]",
    "null": b"null",
    "no utf-8": b'{"code": "\xff"}',
    "half a surrogate pair": b'{"code": "1", "cwd": "\\ud800"}',
    "a wrong type": b'{"code": 7}',
    "a number as text": b'{"code": "1", "timeout": "7"}',
    "a truth as a number": b'{"code": "1", "timeout": true}',
    "not a number": b'{"code": "1", "timeout": NaN}',
    "endless": b'{"code": "1", "timeout": Infinity}',
    "negative": b'{"code": "1", "timeout": -1}',
    "zero": b'{"code": "1", "timeout": 0}',
    "a giant number": b'{"code": "1", "timeout": ' + b"9" * 5000 + b"}",
    "a large number": b'{"code": "1", "timeout": 1e308}',
    "deep": NESTED,
    "an unknown field": b'{"code": "1", "sudo": true}',
    "no code": b"{}",
    "an unknown language": b'{"code": "1", "language": "cobol"}',
    "a language of absurd length": b'{"code": "1", "language": "' + b"x" * 100_000 + b'"}',
    "a variable that takes over": b'{"code": "1", "env": {"LD_PRELOAD": "/x"}}',
    "a variable with a nul": b'{"code": "1", "env": {"A": "\\u0000"}}',
    "a variable that is a list": b'{"code": "1", "env": {"A": []}}',
    "no base 64 beyond ASCII": b'{"code": "1", "stdin_base64": "\\u00ec"}',
    "no base 64": b'{"code": "1", "stdin_base64": "***"}',
    "input twice": b'{"code": "1", "stdin": "a", "stdin_base64": "YQ=="}',
    "a shell with a nul": b'{"code": "\\u0000", "language": "sh"}',
    "a folder with a nul": b'{"code": "1", "cwd": "/\\u0000"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_not_what_it_should_be_is_refused(daemon: Daemon, session: str, body: bytes) -> None:
    answer = daemon.ask("POST", EXECUTIONS.format(session), body)
    assert 400 <= answer.status < 500, answer.body
    assert is_problem(answer)
    assert len(answer.body) < 5_000
    assert daemon.run(session, "print(1)")["stdout"] == "1\n"


REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/", None),
    ("GET", "/api/sessions/%00", None),
    ("GET", "/api/sessions/%ff%fe", None),
    ("GET", "/api/sessions/..%2f..%2fetc", None),
    ("GET", "/api/sessions/" + "x" * 10_000, None),
    ("GET", "/api/sessions?limit=0", None),
    ("GET", "/api/sessions?limit=1e9", None),
    ("GET", "/api/sessions?limit=" + "9" * 5_000, None),
    ("GET", "/api/sessions?status=%ed%a0%80", None),
    ("GET", "/api/history?failures=maybe", None),
    ("PATCH", "/api/sessions", {}),
    ("POST", "/api/sessions", {"name": "../x"}),
    ("POST", "/api/sessions", {"backend": "cobol"}),
    ("POST", "/api/sessions", {"resources": {"memory_mb": -1}}),
    ("POST", "/api/sessions", {"resources": {"memory_mb": 1e30}}),
    ("POST", "/api/sessions", {"resources": {"output_bytes": 10**12}}),
    ("POST", "/api/sessions", {"resources": {"network": "all"}}),
    ("POST", "/api/sessions", {"packages": ["x"] * 1000}),
    ("DELETE", "/api/executions/x", None),
    ("POST", "/api/sessions/nobody/snapshots", {"name": "a"}),
    ("POST", "/api/sessions/nobody/branch", {"count": 10**9}),
    ("GET", "/api/sessions/nobody/diff", None),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: f"{each[0]} {each[1][:30]}")
def test_a_request_that_cannot_be_is_refused(daemon: Daemon, request_: tuple[str, str, Any]) -> None:
    answer = daemon.ask(*request_)
    assert 400 <= answer.status < 500, answer.body
    assert is_problem(answer)
    assert daemon.ask("GET", "/health").json["sessions"]["live"] == 0


def test_a_body_of_another_type_is_refused(daemon: Daemon, session: str) -> None:
    answer = daemon.ask("POST", EXECUTIONS.format(session), b'{"code": "1"}', {"Content-Type": "text/plain"})
    assert answer.status == 422


RAW = [
    b"\x00" * 1000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\nContent-Type: application/json\r\n\r\n",
    b"POST /api/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("raw", RAW, ids=range(len(RAW)))
def test_what_is_no_http_is_refused_and_harms_nobody(daemon: Daemon, raw: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(daemon.path))
        sock.sendall(raw)
        said = sock.recv(4096)
    assert said == b"" or 400 <= int(said.split()[1]) < 500
    assert daemon.ask("GET", "/health").status == 200


def test_too_large_a_body_is_refused_before_it_is_read(daemon: Daemon, session: str) -> None:
    head = (
        f"POST {EXECUTIONS.format(session)} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {10**9}\r\n\r\n"
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(str(daemon.path))
        sock.sendall(head.encode())
        assert sock.recv(4096).split()[1] == b"413"


def test_the_daemons_routes_are_published(daemon: Daemon) -> None:
    published = daemon.ask("GET", "/openapi.json").json["paths"]
    assert {"/health", "/api/sessions", "/api/sessions/{session}/executions"} <= set(published)


async def ask(messages: list[Message], bounds: Bounds, length: int | None = None) -> Any:
    """What becomes of a body that comes in these pieces, and then no more."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            seen.append(await receive())
            if not seen[-1].get("more_body"):
                return

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    idle = Idle(0, lambda: False, lambda: None)
    scope = {"type": "http", "path": "/api/sessions", "headers": headers}
    try:
        await Bounded(app, idle, bounds)(scope, receive, send)
    except HTTPException as error:
        return error.status_code
    return [each["body"] for each in seen]


def piece(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.anyio
async def test_a_body_is_bounded_in_size_and_in_the_time_between_its_pieces() -> None:
    bounds = Bounds(body_bytes=10, piece_seconds=0.05)
    assert await ask([piece(b"12345"), piece(b"67890", more=False)], bounds) == [b"12345", b"67890"]
    assert await ask([piece(b"12345"), piece(b"678901", more=False)], bounds) == 413
    assert await ask([piece(b"1", more=False)], bounds, length=11) == 413
    assert await ask([piece(b"1")], bounds) == 408


@pytest.mark.anyio
async def test_a_file_that_its_client_does_not_take_is_given_up_and_no_other_answer_is() -> None:
    """A pager that stands still may hold an execution's output as long as it likes."""
    bounds = Bounds(unread_seconds=0.05)
    left: list[str] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.body", "body": b"1", "more_body": True})
        finally:
            left.append("the transfer")

    async def never(_message: Message) -> None:
        await asyncio.Event().wait()

    served = Bounded(app, Idle(0, lambda: False, lambda: None), bounds)
    scope: Scope = {"type": "http", "path": "/api/sessions/s/files/content", "headers": []}
    await served(scope, never, never)  # type: ignore[arg-type]
    assert left == ["the transfer"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await served({**scope, "path": "/api/sessions/s/executions"}, never, never)  # type: ignore[arg-type]


def test_the_page_of_a_caller_names_the_version_of_who_answers(daemon: Daemon) -> None:
    assert (
        daemon.ask("GET", "/nothing").headers["trlm-version"] == daemon.ask("GET", "/health").json["version"]
    )


def test_the_log_has_no_traceback_after_all_this(daemon: Daemon) -> None:
    """The last test of this file: no request above was a bug of ours."""
    assert daemon.end() == 0
    assert daemon.child.stderr is not None
    assert "Traceback" not in daemon.child.stderr.read().decode()
