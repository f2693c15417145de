"""Runs over HTTP: begun, followed without a gap, stopped; and who may do that over TCP."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_kit import Answer, Daemon, Unix, served, trlm

from terraphim_rlm.faces.server.app import make_app
from terraphim_rlm.service.running import Running

pytestmark = pytest.mark.sandbox
COUNTS = "```python\nprint(len(context))\n```"
OPENAI = os.environ.get("TRLM_TEST_OPENAI", "")
"""A Python that has the `openai` package, which is none of ours."""


def script(folder: Path, *replies: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps({"reply": each}) + "\n" for each in replies))
    return f"scripted:{path}"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a port, whose own model looks at the input by code and then answers."""
    folder = tmp_path_factory.mktemp("runs")
    for words in (("all", "read", "ask", "exec"), ("looker", "read")):
        said = trlm(
            "keys", "create", words[0], *(f"--scope={each}" for each in words[1:]), data=folder / "data"
        )
        assert said.returncode == 0, said.stderr
        (folder / words[0]).write_text(said.stdout.strip())
    model = script(folder / "model", COUNTS, "FINAL(the answer is \u00e9)")
    origin = "https://app.example.org"
    with served(folder / "data", "--port", "0", "--cors-origin", origin, TRLM_MODEL=model) as daemon:
        yield daemon


def key(daemon: Daemon, name: str = "all") -> str:
    return (daemon.data.parent / name).read_text()


def over_tcp(
    daemon: Daemon, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if data is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, data, {**kind, **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def stream(daemon: Daemon, path: str, headers: Mapping[str, str] | None = None) -> list[tuple[int, str, Any]]:
    """(id, event, data) of a stream of server-sent events, to its end."""
    connection = Unix(daemon.path)
    found: list[tuple[int, str, Any]] = []
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        for block in connection.getresponse().read().decode().split("\n\n"):
            fields = dict(
                line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":")
            )
            if fields:
                found.append((int(fields.get("id", 0)), fields["event"], json.loads(fields["data"])))
    finally:
        connection.close()
    return found


def test_a_question_over_a_text_is_answered_and_its_run_is_in_the_journal(house: Daemon) -> None:
    body = {"question": "How long?", "context": {"text": "word " * 400_000}}
    answer = house.ask("POST", "/api/runs?wait=true", body)
    assert answer.status == 200, answer.body
    assert answer.json["text"] == "the answer is \u00e9"
    assert answer.json["usage"]["calls"] == 2
    run = answer.json["run_id"]
    assert house.ask("GET", f"/api/runs/{run}").json["status"] == "done"
    assert house.ask("GET", f"/api/runs/{run}/answer").json["text"] == "the answer is \u00e9"
    assert run in [each["id"] for each in house.ask("GET", "/api/runs").json["runs"]]


def test_events_come_each_once_and_in_order_from_any_cursor(house: Daemon) -> None:
    begun = house.ask("POST", "/api/runs", {"question": "How long?", "context": {"text": "x" * 300_000}})
    assert begun.status == 202
    path = f"/api/runs/{begun.json['id']}/events"
    whole = stream(house, path)
    numbers = [number for number, event, _ in whole if event != "end"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert whole[0][1] == "run.started"
    assert [event for _, event, _ in whole][-2:] == ["run.finished", "end"]
    assert "input" not in whole[0][2]["data"]
    assert any(data.get("data", {}).get("stdout") == "300000\n" for _, _, data in whole)
    middle = len(numbers) // 2
    assert [each[0] for each in stream(house, f"{path}?after={middle}")][:-1] == numbers[middle:]
    assert [each[0] for each in stream(house, path, {"Last-Event-ID": str(middle)})][:-1] == numbers[middle:]


def test_a_run_of_another_process_is_followed_from_the_journal(house: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line\n" * 60_000)
    model = script(tmp_path, COUNTS, "FINAL(elsewhere)")
    said = trlm("ask", "How long?", str(tmp_path / "a.txt"), "--model", model, "--json", data=house.data)
    run = json.loads(said.stdout)["data"]["run_id"]
    found = stream(house, f"/api/runs/{run}/events")
    assert [number for number, _, _ in found[:-1]] == list(range(1, len(found)))
    assert house.ask("GET", f"/api/runs/{run}/answer").json["text"] == "elsewhere"


def test_a_run_is_stopped_by_its_id_and_reads_as_cancelled(house: Daemon, tmp_path: Path) -> None:
    model = script(tmp_path, "```python\nimport time\ntime.sleep(1000)\n```")
    body = {"question": "How long?", "context": {"text": "x" * 300_000}, "model": model}
    run = house.ask("POST", "/api/runs", body).json["id"]
    assert house.ask("DELETE", f"/api/runs/{run}").status == 202
    stopped = house.ask("GET", f"/api/runs/{run}/answer")  # once it is over
    assert (stopped.status, stopped.json["code"]) == (499, "E130")
    assert house.ask("GET", f"/api/runs/{run}").json["status"] == "cancelled"
    again = house.ask("DELETE", f"/api/runs/{run}")
    assert (again.status, again.json["code"]) == (404, "E104")


@pytest.mark.parametrize(
    "body",
    [
        b'{"question": NaN}', b'{"question": "a", "limits": {"seconds": NaN}}', b'{"question": "a", "limits": {"tokens": 1e999}}',
        b'{"question": "a", "limits": {"tokens": ' + b"9" * 400 + b"}}", b'{"question": "a", "limits": {"turns": true}}',
        b'{"question": "a", "limits": {"turns": -1}}', b'{"question": 1}', b'{"question": ""}', b"[]", b"", b"{",
        b'{"question": "a", "more": 1}', b'{"question": "a", "context": {"text": "a", "paths": ["/a"]}}',
        b'{"question": "a", "context": {"paths": ["a"]}}', b'{"question": "a", "model": "nobody/none"}', b"\xff\xfe",
        b'{"question": "\\ud800", "model": "nobody/none"}', b'{"question": "a", "context": {"paths": ["/nowhere/at/all"]}}',
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_fix_and_no_5xx(house: Daemon, body: bytes) -> None:
    for path in ("/api/runs", "/v1/chat/completions"):
        found = house.ask("POST", path, body)
        assert 400 <= found.status < 500, found.body
        said = found.json if path == "/api/runs" else found.json["error"]
        assert said["fix" if path == "/api/runs" else "message"]


# Who gets in over TCP


def test_every_route_is_refused_without_a_key_but_health(house: Daemon) -> None:
    app = make_app(None, Running())  # type: ignore[arg-type] - nothing of it is called
    routes = [(method, path) for path, each in app.openapi()["paths"].items() for method in each]
    assert len(routes) > 25
    for method, path in [*routes, ("get", "/openapi.json"), ("get", "/not/there"), ("options", "/api/runs")]:
        for given in ({}, bearer("trlm_" + "A" * 43), {"Authorization": key(house)}):
            found = over_tcp(house, method.upper(), path, headers=given)
            assert found.status == (200 if path == "/health" else 401), (method, path, found.body)
    assert set(over_tcp(house, "GET", "/health").json) == {"schema_version", "service", "status"}


def test_a_key_opens_what_its_scopes_say(house: Daemon) -> None:
    looks = bearer(key(house, "looker"))
    assert over_tcp(house, "GET", "/api/runs", headers=looks).status == 200
    assert over_tcp(house, "GET", "/v1/models", headers=looks).json["data"][0]["id"] == "rlm/default"
    for method, path in (("POST", "/api/runs"), ("POST", "/api/sessions"), ("POST", "/api/stop")):
        found = over_tcp(house, method, path, {}, looks)
        assert (found.status, found.json["code"]) == (403, "E682")
    asks = bearer(key(house))
    assert over_tcp(house, "POST", "/api/stop", {}, asks).status == 403
    body = {"question": "How long?", "context": {"text": "x" * 300_000}}
    assert over_tcp(house, "POST", "/api/runs?wait=true", body, asks).json["text"] == "the answer is \u00e9"


def test_over_tcp_no_file_of_the_machine_can_be_named(house: Daemon) -> None:
    asks = bearer(key(house))
    for body in (
        {"context": {"paths": ["/etc/passwd"]}},
        {"model": "scripted:/etc/passwd"},
        {"sub_model": "manual:/tmp"},
        {"model": " scripted:/etc/passwd"},  # blanks around a name do not count where it is opened
        {"sub_model": "\n\u2003manual:/tmp"},
    ):
        found = over_tcp(house, "POST", "/api/runs", {"question": "a", **body}, asks)
        assert (found.status, found.json["code"]) == (403, "E682")
    for model in ("rlm/scripted:/etc/passwd", "rlm/ scripted:/etc/passwd"):
        chat = {"model": model, "messages": [{"role": "user", "content": "a"}]}
        found = over_tcp(house, "POST", "/v1/chat/completions", chat, asks)
        assert (found.status, found.json["error"]["type"]) == (403, "permission_error")


def test_keys_that_cannot_be_read_let_nobody_in_and_nobody_is_told_where_they_lie(house: Daemon) -> None:
    file = house.data / "keys.json"
    before = file.read_bytes()
    file.write_bytes(b"{")
    try:
        found = over_tcp(house, "GET", "/api/runs", headers=bearer(key(house)))
    finally:
        file.write_bytes(before)
    assert (found.status, found.json["title"]) == (500, "Keys unreadable")
    assert str(house.data) not in json.dumps(found.json)
    assert over_tcp(house, "GET", "/api/runs", headers=bearer(key(house))).status == 200


def test_a_revoked_key_is_refused_at_the_next_request(house: Daemon) -> None:
    said = trlm("keys", "create", "short", "--json", data=house.data)
    made = json.loads(said.stdout)["data"]
    assert over_tcp(house, "GET", "/api/runs", headers=bearer(made["key"])).status == 200
    assert trlm("keys", "revoke", made["id"], data=house.data).returncode == 0
    assert over_tcp(house, "GET", "/api/runs", headers=bearer(made["key"])).status == 401
    listed = trlm("keys", "list", data=house.data).stdout
    assert "short" not in listed
    assert "looker" in listed
    assert key(house) not in (house.data / "keys.json").read_text()
    assert (house.data / "keys.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:80"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Origin": "https://app.example.org"}, 422),
    ],
)
def test_browsers_get_in_only_by_our_name_and_from_allowed_pages(
    house: Daemon, headers: dict[str, str], status: int
) -> None:
    found = over_tcp(house, "POST", "/api/runs", {}, {**bearer(key(house)), **headers})
    assert found.status == status, found.body
    assert found.headers["x-content-type-options"] == "nosniff"
    allowed = headers.get("Origin") == "https://app.example.org"
    assert found.headers.get("access-control-allow-origin") == (
        "https://app.example.org" if allowed else None
    )


def test_an_allowed_page_may_ask_first_and_any_other_may_not(house: Daemon) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    found = over_tcp(house, "OPTIONS", "/api/runs", headers={"Origin": "https://app.example.org", **asked})
    assert found.status == 204
    assert found.headers["access-control-allow-origin"] == "https://app.example.org"
    assert "authorization" in found.headers["access-control-allow-headers"]
    other = over_tcp(
        house, "OPTIONS", "/api/runs", headers={"Origin": "https://app.example.org.evil", **asked}
    )
    assert other.status == 403
    assert "access-control-allow-origin" not in other.headers


def test_without_a_key_no_port_is_served_unless_that_is_said(tmp_path: Path) -> None:
    said = trlm("serve", "--port", "0", "--json", data=tmp_path / "data")
    error = json.loads(said.stdout)["errors"][0]
    assert error["code"] == "E681"
    assert "trlm keys create" in error["fix"]
    for words in (["--open-loopback"], ["--port", "0", "--open-loopback", "--cors-origin", "https://a.example"],
                  ["--port", "70000"], ["--port", "0", "--cors-origin", "*"]):  # fmt: skip
        assert trlm("serve", *words, data=tmp_path / "data").returncode in (2, 5)
    with served(tmp_path / "data", "--port", "0", "--open-loopback") as daemon:
        assert over_tcp(daemon, "GET", "/api/runs").status == 200
        for headers in ({"Origin": daemon.url}, {"Sec-Fetch-Site": "same-origin"}, {"Host": "evil.example"}):
            assert over_tcp(daemon, "GET", "/api/runs", headers=headers).status == 403


def test_metrics_and_doctor_say_how_the_daemon_stands(house: Daemon) -> None:
    found = over_tcp(house, "GET", "/metrics", headers=bearer(key(house, "looker")))
    lines = dict(line.rpartition(" ")[::2] for line in found.body.decode().splitlines())
    assert lines['trlm_part_up{part="tcp"}'] == "1"
    assert float(lines["trlm_runs_started"]) >= 1
    assert house.ask("GET", "/doctor").json["checks"]


# OpenAI's API


def test_a_chat_is_answered_with_the_usage_of_the_whole_tree(house: Daemon) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "x" * 300_000 + "\n\nHow long is this?"}]},
    ]
    found = house.ask(
        "POST", "/v1/chat/completions", {"model": "rlm/default", "messages": messages, "temperature": 0}
    )
    assert found.status == 200, found.body
    (choice,) = found.json["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("the answer is \u00e9", "stop")
    usage = found.json["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    run = found.json["id"].removeprefix("chatcmpl-")
    events = stream(house, f"/api/runs/{run}/events")
    assert events[0][2]["data"]["question"].endswith("How long is this?")
    assert usage["prompt_tokens"] == events[-2][2]["data"]["usage"]["tokens_in"]


@pytest.mark.parametrize(
    "body",
    [
        {"model": "gpt-4", "messages": [{"role": "user", "content": "a"}]},
        {"model": "rlm/default", "messages": []},
        {"model": "rlm/default", "messages": [{"role": "assistant", "content": "a"}]},
        {"model": "rlm/default", "messages": [{"role": "user", "content": "x" * 9000}]},
        {"model": "rlm/default", "messages": [{"role": "user", "content": "a"}], "n": 2},
        {"model": "rlm/default", "messages": [{"role": "user", "content": "a"}], "tools": [{}]},
        {"model": "rlm/default", "messages": [{"role": "tool", "content": "a"}]},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_errors_of_a_chat_have_openais_shape(house: Daemon, body: Any) -> None:
    found = house.ask("POST", "/v1/chat/completions", body)
    assert 400 <= found.status < 500
    assert set(found.json["error"]) == {"message", "type", "param", "code"}
    assert found.json["error"]["type"] == "invalid_request_error"


def test_a_body_of_very_many_small_pieces_does_not_stop_the_daemon(house: Daemon) -> None:
    """Found by a fuzzer: a million complaints about one request took longer than the loop may stand still."""
    part = {"type": "image", "text": ""}
    message = {"role": 0, "content": [part] * 400}
    seconds = []
    for body in ([message] * 500, [{"role": "user", "content": [part] * 100}] * 1000):
        began = time.monotonic()
        found = house.ask("POST", "/v1/chat/completions", {"model": "rlm/default", "messages": body})
        seconds.append(time.monotonic() - began)
        assert (found.status, found.json["error"]["type"]) == (422, "invalid_request_error")
        assert len(found.body) < 5000
    assert house.ask("GET", "/health").status == 200
    assert max(seconds) < 25


CLIENT = """
import json, os, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=os.environ["KEY"], max_retries=0)
text = "A line of a log that is long.\\n" * 175_000 + "\\nHow many lines are there?"
assert len(text) > 5_000_000
said, usage = "", None
with client.chat.completions.create(model="rlm/default", messages=[{"role": "user", "content": text}],
                                    stream=True, stream_options={"include_usage": True}) as stream:
    for chunk in stream:
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
try:
    openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="wrong", max_retries=0).models.list()
    refused = None
except openai.AuthenticationError as error:
    refused = error.code
try:
    client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "a"}])
    unknown = None
except openai.UnprocessableEntityError as error:
    unknown = error.code
print(json.dumps({"said": said, "tokens": usage.total_tokens, "refused": refused, "unknown": unknown,
                  "models": [each.id for each in client.models.list()]}))
"""


@pytest.mark.skipif(not OPENAI, reason="TRLM_TEST_OPENAI names no Python that has the openai package")
def test_the_unmodified_openai_client_streams_an_answer_over_a_message_of_5_mb(house: Daemon) -> None:
    env = {"KEY": key(house), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [OPENAI, "-c", CLIENT, house.url], env=env, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["said"] == "the answer is \u00e9"
    assert found["tokens"] > 0
    assert (found["refused"], found["unknown"]) == ("E681", "E201")
    assert found["models"][0] == "rlm/default"


def test_a_client_without_a_library_streams_it_too(house: Daemon) -> None:
    text = "A line of a log that is long.\n" * 175_000 + "\nHow many lines are there?"
    body = {"model": "rlm/default", "messages": [{"role": "user", "content": text}], "stream": True}
    found = over_tcp(house, "POST", "/v1/chat/completions", body, bearer(key(house)))
    assert found.headers["content-type"].startswith("text/event-stream")
    lines = [
        line.removeprefix("data: ") for line in found.body.decode().split("\n\n") if line.startswith("data: ")
    ]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert (
        "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "the answer is \u00e9"
    )
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
