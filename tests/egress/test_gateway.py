"""The gateway over plain sockets: what it carries, what it refuses, what it writes down, and what bounds it."""

from __future__ import annotations

import asyncio
import socket
import threading
from hashlib import sha256

import pytest
from egress_kit import OK, client_hello, gateway, server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terraphim_rlm.sandbox.egress import dial, passage, records, visit
from terraphim_rlm.sandbox.egress import gateway as module

pytestmark = pytest.mark.anyio


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What every name resolves to in place of the world's name servers; asked for others, it fails the test."""
    table: dict[str, list[str]] = {}

    def resolve(name: str) -> list[str]:
        found = table.get(name.removesuffix("."))
        if found is None:
            raise OSError(-2, "unknown name")
        return found

    monkeypatch.setattr(dial, "resolve", resolve)
    return table


def get(host: str, path: str = "/") -> bytes:
    return f"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


async def test_a_plain_request_to_an_allowed_name_is_carried_and_written_down(
    names: dict[str, list[str]],
) -> None:
    names["index.test"] = ["127.0.0.1"]
    async with server(OK) as (port, got):
        here = f"index.test:{port}"
        async with gateway([here], private=[here]) as served:
            assert await served.say(get(here, "/simple/")) == OK
        assert b"".join(got).startswith(b"GET /simple/ HTTP/1.1\r\nHost: " + here.encode())
        allowed, closed = served.told
        assert (allowed.decision, allowed.name, allowed.port, allowed.address) == (
            "allowed",
            "index.test",
            port,
            "127.0.0.1",
        )
        assert (closed.decision, closed.bytes_down, closed.reason) == ("closed", len(OK), "")
        assert closed.bytes_up == sum(map(len, got))


async def test_only_the_first_request_of_a_connection_is_carried(names: dict[str, list[str]]) -> None:
    names["a.test"] = ["127.0.0.1"]
    smuggled = b"GET /second HTTP/1.1\r\nHost: evil.test\r\n\r\n"
    async with server(OK) as (port, got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            for body in (b"", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"):
                first = f"POST http://{here}/ HTTP/1.1\r\nHost: {here}\r\n".encode() + body + b"\r\n"
                first += {b"": b"", b"Content-Length: 3\r\n": b"abc"}.get(body, b"3\r\nabc\r\n0\r\n\r\n")
                assert await served.say(first + smuggled) == OK
    assert b"second" not in b"".join(got)
    assert b"evil" not in b"".join(got)
    assert len(got) >= 3


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"3;x=y\r\nabc\r\n", b"3\r\nabcd\r\n", b"0\r\nX-Trailer: 1\r\n\r\n", b"-1\r\n", b"9" * 200],
)
async def test_a_body_in_odd_chunks_ends_the_connection(names: dict[str, list[str]], chunks: bytes) -> None:
    names["a.test"] = ["127.0.0.1"]
    async with server(None) as (port, _got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            await served.say(
                f"POST http://{here}/ HTTP/1.1\r\nHost: {here}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                + chunks
            )
        assert served.told[-1].reason == "its body has a chunk that is none"


async def test_tls_in_a_tunnel_is_carried_both_ways_when_its_name_is_the_tunnel_s(
    names: dict[str, list[str]],
) -> None:
    names["a.test"] = ["127.0.0.1"]
    hello = client_hello("a.test")
    async with server(None) as (port, got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            connect = f"CONNECT {here} HTTP/1.1\r\n\r\n".encode()
            assert (
                await served.say(connect + hello + b"\x17\x03\x03\x00\x02hi")
                == visit._ESTABLISHED + hello + b"\x17\x03\x03\x00\x02hi"
            )
            assert await served.say(hello + b"\x17\x03\x03\x00\x02hi", 0) == hello + b"\x17\x03\x03\x00\x02hi"
    assert served.told[0].how == "tunnel"
    assert got


TUNNELS = {
    "another name": client_hello("evil.test"), "no name": client_hello(None), "not TLS": b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "a name below": client_hello("x.a.test"), "ssh": b"SSH-2.0-x\r\n",
}  # fmt: skip


@pytest.mark.parametrize("what", TUNNELS)
async def test_anything_else_in_a_tunnel_is_refused_before_a_byte_of_it_is_sent(
    names: dict[str, list[str]], what: str
) -> None:
    names["a.test"] = ["127.0.0.1"]
    async with server(None) as (port, got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            answer = await served.say(f"CONNECT {here} HTTP/1.1\r\n\r\n".encode() + TUNNELS[what])
    assert answer == visit._ESTABLISHED + visit._ALERT
    assert got == []
    assert served.decisions() == [("refused", "a.test", port)]


async def test_a_name_that_was_looked_up_is_written_down_although_nothing_came_of_it(
    names: dict[str, list[str]],
) -> None:
    names["a.test"] = ["127.0.0.1"]
    async with server(None) as (port, got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            assert await served.say(f"CONNECT {here} HTTP/1.1\r\n\r\n".encode()) == visit._ESTABLISHED
    assert (served.decisions(), got) == ([("closed", "a.test", port)], [])


async def test_a_refusal_says_what_to_allow_and_is_written_down_before_it_is_answered(
    names: dict[str, list[str]],
) -> None:
    async with gateway(["python.org"]) as served:
        for request in (get("example.org"), b"CONNECT example.org:443 HTTP/1.1\r\n\r\n"):
            answer = await served.say(request)
            assert answer.startswith(
                b"HTTP/1.1 403 example.org is not allowed; allow it with network=['example.org']\r\n"
            )
        assert served.decisions() == [("refused", "example.org", 80), ("refused", "example.org", 443)]
        assert served.gate.notes(0) == [
            "Network refused: example.org is not allowed; allow it with network=['example.org']."
        ]
        assert served.gate.notes(2) == []


PRIVATE = {
    "10.0.0.1": "private",
    "169.254.169.254": "metadata",
    "127.0.0.1": "this host",
    "64:ff9b::a9fe:a9fe": "disguise",
}


@pytest.mark.parametrize("address", PRIVATE)
async def test_an_allowed_name_that_leads_to_a_private_address_is_refused(
    names: dict[str, list[str]], address: str
) -> None:
    names["rebind.test"] = ["8.8.8.8", address]
    async with gateway(["rebind.test", f"[{address}]" if ":" in address else address]) as served:
        literal = f"[{address}]" if ":" in address else address
        for host in ("rebind.test", literal):
            answer = await served.say(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 403")
            assert PRIVATE[address].encode() in answer
    assert [each.decision for each in served.told] == ["refused", "refused"]


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, dialled = [], []

    def resolve(name: str) -> list[str]:
        asked.append(name)
        return ["93.184.216.34"] if len(asked) == 1 else ["169.254.169.254"]

    async def first(places: list[tuple[str, int]]) -> None:
        dialled.append(places)
        raise dial.Unreachable("no connection in a test")

    monkeypatch.setattr(dial, "resolve", resolve)
    monkeypatch.setattr(dial, "_first", first)
    async with gateway(["rebind.test"]) as served:
        assert (await served.say(get("rebind.test"))).startswith(b"HTTP/1.1 502")
        assert (await served.say(get("rebind.test"))).startswith(b"HTTP/1.1 403")
    assert dialled == [[("93.184.216.34", 80)]]
    assert asked == ["rebind.test.", "rebind.test."]


async def test_bytes_beyond_the_sandbox_s_share_end_the_connection_and_all_later_ones(
    names: dict[str, list[str]],
) -> None:
    names["a.test"] = ["127.0.0.1"]
    async with server(b"x" * 100_000) as (port, _got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here], quota=50_000) as served:
            assert len(await served.say(get(here))) < 50_000
            closed = served.told[-1]
            assert closed.decision == "closed"
            assert "network_mb" in closed.reason
            for _ in range(3):
                await served.say(
                    f"POST http://{here}/ HTTP/1.1\r\nHost: {here}\r\nContent-Length: 49000\r\n\r\n".encode()
                    + bytes(49_000)
                )
    statistics = served.gate.statistics()
    assert statistics.bytes_up + statistics.bytes_down <= 50_000


async def test_a_client_that_says_nothing_or_stands_still_is_let_go(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["a.test"] = ["127.0.0.1"]
    monkeypatch.setattr(visit, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(passage, "IDLE_SECONDS", 0.05)
    async with server(None) as (port, _got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            assert b" 408 " in await served.say(b"GET ", end=False)
            connect = f"CONNECT {here} HTTP/1.1\r\n\r\n".encode()
            assert await served.say(connect, end=False) == visit._ESTABLISHED + visit._ALERT
            monkeypatch.setattr(visit, "HEAD_SECONDS", 30.0)
            await served.say(connect + client_hello("a.test"), end=False)
    assert served.told[-1].reason.startswith("it stood still")


async def test_connections_beyond_the_most_wait_and_are_served_then(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "HEAD_SECONDS", 30.0)
    async with gateway(["python.org"]) as served:
        idle = [await asyncio.open_connection(*served.proxy) for _ in range(module.MOST_OPEN)]
        while served.gate.statistics().open < module.MOST_OPEN:
            await asyncio.sleep(0)
        late = asyncio.ensure_future(served.say(get("example.org")))
        done, _ = await asyncio.wait({late}, timeout=0.2)
        assert not done
        for _reader, writer in idle:
            writer.close()
        assert b" 403 " in await late


async def test_all_sandboxes_together_cannot_take_every_descriptor(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_open", 1 << 40)
    async with gateway(["docs.test"]) as served:
        assert (await served.say(get("docs.test"))).startswith(b"HTTP/1.1 503 too many connections")
    assert [each.decision for each in served.told] == ["refused"]


async def test_one_sandbox_leaves_connections_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Held:
        """A visit that stays until the end, or is turned away."""

        def __init__(self, *_about: object) -> None: ...

        async def run(self) -> None:
            seen.append("let in")
            await asyncio.Event().wait()

        async def refuse(self, _reason: str) -> None:
            seen.append("refused")

    monkeypatch.setattr(module, "Visit", Held)
    monkeypatch.setattr(module.resource, "getrlimit", lambda _which: (1_024, 1_024))
    counts = []
    writers: list[asyncio.StreamWriter] = []
    async with gateway(["a.test"]) as one, gateway(["a.test"]) as two, gateway(["a.test"]) as three:
        for served in (one, two, three):
            seen.clear()
            while "refused" not in seen and len(seen) < module.MOST_OPEN:
                before = len(seen)
                writers.append((await asyncio.open_connection(*served.proxy))[1])
                while len(seen) == before:
                    await asyncio.sleep(0)
            counts.append(seen.count("let in"))
        for writer in writers:
            writer.close()
    assert counts == [32, 16, 8]


async def test_a_tls_server_that_wants_a_second_hello_gets_none_for_another_name(
    names: dict[str, list[str]],
) -> None:
    names["a.test"] = ["127.0.0.1"]
    retry = b"\x02\x00\x00\x48\x03\x03" + sha256(b"HelloRetryRequest").digest() + bytes(38)
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.readexactly(len(client_hello("a.test"))))
        early.append(bytes(got) == client_hello("a.test"))
        writer.write(b"\x16\x03\x03" + len(retry).to_bytes(2, "big") + retry)
        while block := await reader.read(65_536):
            got.extend(block)
        writer.close()

    early: list[bool] = []
    padding = b"\x17\x03\x03\x40\x00" + bytes(1 << 14)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        here = f"a.test:{listening.sockets[0].getsockname()[1]}"
        async with gateway([here], private=[here]) as served:
            connect = f"CONNECT {here} HTTP/1.1\r\n\r\n".encode() + client_hello("a.test")
            await served.say(connect + padding * 20 + client_hello("evil.test"), end=False)
            assert served.told[-1].reason == "a second ClientHello has another name"
            assert b"evil" not in got
            got.clear()
            answer = await served.say(connect + client_hello("a.test") + b"\x17\x03\x03\x00\x02hi")
    assert early == [True, True]
    assert answer.endswith(retry)
    assert got.endswith(client_hello("a.test") + b"\x17\x03\x03\x00\x02hi")


async def test_single_bytes_are_carried_in_blocks_of_which_a_sandbox_has_so_many_a_second(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["a.test"] = ["127.0.0.1"]
    monkeypatch.setattr(module, "_BLOCKS_PER_SECOND", 50.0)
    monkeypatch.setattr(module, "_MOST_BLOCKS", 20.0)
    async with server(None) as (port, got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            began = asyncio.get_running_loop().time()
            reader, writer = await asyncio.open_connection(*served.proxy)
            writer.write(f"CONNECT {here} HTTP/1.1\r\n\r\n".encode() + client_hello("a.test"))
            length = len(visit._ESTABLISHED) + len(client_hello("a.test"))
            await reader.readexactly(length)
            for number in range(5_000):
                writer.write(b"x")
                if number % 10 == 0:
                    await asyncio.sleep(0)
            writer.write_eof()
            assert len(await reader.read(-1)) == 5_000
            writer.close()
            seconds = asyncio.get_running_loop().time() - began
    assert sum(map(len, got)) == 5_000 + len(client_hello("a.test"))
    assert len(got) <= 22 + 50 * seconds


async def test_a_name_server_that_says_nothing_holds_few_threads_however_often_it_is_asked(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = threading.Event()

    def resolve(_name: str) -> list[str]:
        silence.wait(60)
        raise OSError(-2, "unknown name")

    monkeypatch.setattr(dial, "_SECONDS", 0.1)
    monkeypatch.setattr(dial, "resolve", resolve)
    monkeypatch.setattr(dial, "_places", threading.BoundedSemaphore(6))
    async with gateway(["*.a.test"]) as one, gateway(["*.a.test"]) as two:
        before = threading.active_count()
        try:
            for served in (one, two):
                said = await asyncio.gather(*(served.say(get(f"{number}.a.test")) for number in range(12)))
                assert all(b" 502 " in each for each in said)
            assert threading.active_count() - before == 6
            assert "6 others are" in served.told[-1].reason or "in 0 s" in served.told[-1].reason
        finally:
            silence.set()
        while threading.active_count() > before:
            await asyncio.sleep(0)
        monkeypatch.setattr(dial, "_SECONDS", 30.0)
        assert b" 502 " in await two.say(get("0.a.test"))
        assert two.told[-1].reason == "0.a.test could not be looked up: unknown name"


async def test_when_no_more_is_written_down_the_last_record_says_so_and_the_end_says_how_much(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_TOLD", 3)
    names["a.test"] = ["127.0.0.1"]
    async with server(OK) as (port, _got):
        here = f"a.test:{port}"
        async with gateway([here], private=[here]) as served:
            for _ in range(3):
                await served.say(get(here))
            await served.say(get("b.test"))
    assert [each.decision for each in served.told] == ["allowed", "closed", "allowed", "closed", "closed"]
    assert served.told[3].reason == "3 records are kept of a sandbox; from here on they are counted only"
    assert served.told[4].reason == "4 more records were not kept: 1 allowed, 2 closed, 1 refused"


async def test_whatever_is_asked_of_the_name_server_is_told_escaped_and_short() -> None:
    async with gateway(["a.test"]) as served:
        for label in (b"\x1b[2J\n\xff", b"'\\", b"x" * 63):
            name = b"".join(bytes([len(label)]) + label for _ in range(400 // (len(label) + 1))) + b"\0"
            served.gate._name(b"\0\1\1\0\0\1" + bytes(6) + name + b"\0\1\0\1")
        notes = served.gate.notes(0)
    assert len(served.told) == len(notes) == 3
    for text in (*notes, *(each.name for each in served.told), *(each.reason for each in served.told)):
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= 400


async def test_an_address_that_does_not_answer_is_said_and_the_next_one_is_tried(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server(OK) as (port, _got):
        names["a.test"] = ["::1", "127.0.0.1"]
        names["b.test"] = ["127.0.0.3"]
        places = [f"{name}:{port}" for name in ("a.test", "b.test")]
        async with gateway(places, private=places) as served:
            assert await served.say(get(places[0])) == OK
            assert b" 502 " in await served.say(get(places[1]))
    assert served.told[-1].reason.startswith("b.test:")


async def test_a_flood_of_refusals_makes_few_records_and_is_counted(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Rate, "wait", lambda _self: asyncio.sleep(0))
    async with gateway(["python.org"]) as served:
        for _ in range(120):
            await served.say(get("example.org"))
        for number in range(1_100):
            served.gate._name(b"\0\1\1\0\0\1" + bytes(6) + b"\4%04d\1b\0\0\1\0\1" % number)
    same = [each.count for each in served.told if each.name == "example.org"]
    assert same == [1, 10, 100]
    assert len(served.told) <= 1_010
    assert served.gate.statistics().refused == 1_220


async def test_names_are_answered_here_and_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "resolve", lambda name: pytest.fail(f"{name} was looked up"))
    async with gateway(["*.example.org"]) as served:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(served.names)
            answers = []
            for name, kind in (
                (b"\1a\7example\3org\0", 1),
                (b"\4evil\4test\0", 1),
                (b"\1a\7example\3org\0", 16),
            ):
                await loop.sock_sendall(client, b"\0\7\1\0\0\1\0\0\0\0\0\0" + name + bytes([0, kind, 0, 1]))
                answers.append(await asyncio.wait_for(loop.sock_recv(client, 512), 10))
        assert answers[0].endswith(b"\x7f\x01\x01\x01")
        assert [each[3] & 15 for each in answers] == [0, 3, 3]
    assert [each.reason for each in served.told] == [
        "evil.test is not allowed; allow it with network=['evil.test']",
        "a.example.org has addresses only, no record of type 16",
    ]


async def test_below_a_wildcard_only_so_many_names_are_looked_up(
    names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "MOST_NAMES", 3)
    async with gateway(["*.example.org"]) as served:
        for number in range(5):
            await served.say(get(f"secret{number}.example.org"))
    assert ["one name too many" in each.reason for each in served.told] == [False] * 3 + [True] * 2


async def test_everything_goes_through_the_proxy_upstream_where_the_operator_names_one(
    names: dict[str, list[str]],
) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    async with (
        server(answer) as (port, got),
        gateway(["a.test", "8.8.8.8"], upstream=f"127.0.0.1:{port}") as served,
    ):
        assert await served.say(get("a.test", "/x")) == answer
        assert (await served.say(b"CONNECT a.test:443 HTTP/1.1\r\n\r\n" + client_hello("a.test"))).startswith(
            visit._ESTABLISHED
        )
        assert b"takes names only" in await served.say(b"CONNECT 8.8.8.8:443 HTTP/1.1\r\n\r\n")
        assert b" 403 " in await served.say(get("b.test"))
    assert got[0].startswith(b"GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n")
    assert got[1] == b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"
    assert served.told[0].address == ""


ALLOWED = ("good.test", "*.wild.test", "good.test:8443")
BYTES = st.lists(
    st.sampled_from(
        [b"CONNECT ", b"GET ", b"http://", b"good.test", b"evil.test", b"x.wild.test", b"wild.test", b".", b":443", b":80", b":8443", b"@", b"\x00",
         b"%00", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"\n", b"Host: ", b"/", b"\\", b"#", b"[::1]", b"127.0.0.1", b"2130706433", b"0x7f.1",
         client_hello("good.test"), client_hello("evil.test"), client_hello(None)]
    )
    | st.binary(max_size=8),
    max_size=10,
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(BYTES, st.sampled_from([None, 0, 1, 2])), min_size=1, max_size=4))
async def test_no_name_that_is_not_allowed_is_ever_looked_up_or_dialled(
    monkeypatch: pytest.MonkeyPatch, anyio_backend: str, said: list[tuple[list[bytes], int | None]]
) -> None:
    """Whatever bytes come, and at whichever door."""
    looked_up: list[str] = []
    dialled: list[tuple[str, int]] = []

    def resolve(name: str) -> list[str]:
        looked_up.append(name)
        return ["93.184.216.34"]

    async def first(places: list[tuple[str, int]]) -> None:
        dialled.extend(places)
        raise dial.Unreachable("no connection in a test")

    monkeypatch.setattr(dial, "resolve", resolve)
    monkeypatch.setattr(dial, "_first", first)
    monkeypatch.setattr(module.Rate, "wait", lambda _self: asyncio.sleep(0))
    async with gateway(ALLOWED) as served:
        for pieces, door in said:
            await served.say(b"".join(pieces), door)
    assert set(looked_up) <= {"good.test.", "x.wild.test."}
    assert {place for place in dialled} <= {("93.184.216.34", port) for port in (80, 443, 8443)}
    assert not [each for each in served.told if "defect" in each.reason]
