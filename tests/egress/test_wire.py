"""What comes from inside is bytes: heads, ClientHellos and queries are read in one way, or refused."""

from __future__ import annotations

import struct
from hashlib import sha256

import pytest
from egress_kit import client_hello, records, with_extension
from hypothesis import given
from hypothesis import strategies as st

from terraphim_rlm.sandbox.egress import dns
from terraphim_rlm.sandbox.egress.heads import BadRequest, Head, parse
from terraphim_rlm.sandbox.egress.hello import BadHello
from terraphim_rlm.sandbox.egress.watch import MOST, MOST_RECORDS, HelloWatch


def head(text: str, door: int | None = None) -> Head:
    return parse(text.encode("latin-1").replace(b"\n", b"\r\n") + b"\r\n\r\n", door)


def test_a_tunnel_and_a_plain_request_are_understood_and_written_anew() -> None:
    tunnel = head("CONNECT Python.org.:443 HTTP/1.1\nHost: python.org:443\nUser-Agent: pip")
    assert (tunnel.host, tunnel.port, tunnel.tunnel) == ("python.org", 443, True)
    plain = head(
        "POST http://A.org/x?y=1 HTTP/1.1\nHost: a.org\nContent-Length: 5\nConnection: keep-alive, x-own\nX-Own: 1\n"
        "Proxy-Authorization: secret\nUpgrade: h2c\nAccept: */*"
    )
    assert (plain.host, plain.port, plain.body) == ("a.org", 80, 5)
    assert plain.written() == (
        b"POST /x?y=1 HTTP/1.1\r\nHost: a.org\r\nConnection: close\r\nContent-Length: 5\r\nAccept: */*\r\n\r\n"
    )
    assert plain.written(absolute=True).startswith(b"POST http://a.org/x?y=1 HTTP/1.1\r\n")
    assert head("GET http://a.org?x HTTP/1.0\nHost: a.org:80").path == b"/?x"
    assert head("GET /x HTTP/1.1\nHost: a.org:8080", 8080).host == "a.org"
    assert head("PUT http://a.org/ HTTP/1.1\nHost: a.org\nTransfer-Encoding: Chunked").body is None


BAD = [
    "", "GET", "GET /", "GET / HTTP/1.1", "GET / HTTP/1.1\nHost: a.org", "GET http://a.org/ HTTP/2\nHost: a.org",
    "GET http://a.org/ HTTP/1.1", "GET http://a.org/ HTTP/1.1\nHost: b.org", "GET http://a.org/ HTTP/1.1\nHost: a.org\nHost: a.org",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nhost: b.org", "GET http://a.org:81/ HTTP/1.1\nHost: a.org",
    "GET http://a.org@b.org/ HTTP/1.1\nHost: b.org", "GET http://u:p@a.org/ HTTP/1.1\nHost: a.org", "GET https://a.org/ HTTP/1.1\nHost: a.org",
    "GET ftp://a.org/ HTTP/1.1\nHost: a.org", "GET file:///etc/passwd HTTP/1.1\nHost: a.org", "GET gopher://a.org/ HTTP/1.1\nHost: a.org",
    "GET http:///x HTTP/1.1\nHost: a.org", "GET http://a.org/#x HTTP/1.1\nHost: a.org", "GET  http://a.org/ HTTP/1.1\nHost: a.org",
    "GET http://a.org/ x HTTP/1.1\nHost: a.org", "GET\thttp://a.org/ HTTP/1.1\nHost: a.org", "G\x00T http://a.org/ HTTP/1.1\nHost: a.org",
    "GET http://a.org\\@b.org/ HTTP/1.1\nHost: a.org", "GET http://a.org%2f.b.org/ HTTP/1.1\nHost: a.org",
    "GET http://a.org/ HTTP/1.1\nHost : a.org", "GET http://a.org/ HTTP/1.1\n Host: a.org", "GET http://a.org/ HTTP/1.1\nHost: a.org\n folded",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nX: a\rb", "GET http://a.org/ HTTP/1.1\nHost: a.org\nX: a\x00b",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nContent-Length: 1\nContent-Length: 2",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nContent-Length: +1", "GET http://a.org/ HTTP/1.1\nHost: a.org\nContent-Length: 1, 1",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nContent-Length: 1\nTransfer-Encoding: chunked",
    "GET http://a.org/ HTTP/1.1\nHost: a.org\nTransfer-Encoding: gzip, chunked", "GET http://a.org/ HTTP/1.1\nHost: a.org\nTransfer-Encoding: identity",
    "CONNECT a.org HTTP/1.1", "CONNECT a.org: HTTP/1.1", "CONNECT http://a.org:443 HTTP/1.1", "CONNECT a.org:443/ HTTP/1.1",
    "CONNECT u@a.org:443 HTTP/1.1", "CONNECT a.org:443 HTTP/1.1\nHost: b.org:443", "CONNECT 0x7f.1:443 HTTP/1.1", "CONNECT :443 HTTP/1.1",
    "CONNECT a.org:443:443 HTTP/1.1", "CONNECT a.org\x00.b.org:443 HTTP/1.1", "CONNECT a_b.org:443 HTTP/1.1",
    "connect a.org:443 HTTP/1.1\nHost: a.org:443", "Connect / HTTP/1.1\nHost: a.org",
    "POST http://a.org/ HTTP/1.1\nHost: a.org\nTransfer_Encoding: chunked", "POST http://a.org/ HTTP/1.1\nHost: a.org\nContent_length: 9",
    "PRI * HTTP/2.0", "GET http://a.org/ HTTP/1.1\n" + "\n".join(["X: y"] * 101),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_a_request_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        head(text)


@pytest.mark.parametrize(
    "text",
    [
        "CONNECT a.org:443 HTTP/1.1",
        "GET http://a.org/ HTTP/1.1\nHost: a.org",
        "GET / HTTP/1.1\nHost: a.org:81",
        "GET / HTTP/1.1",
    ],
)
def test_at_a_port_of_its_own_only_requests_for_that_port_are_taken(text: str) -> None:
    with pytest.raises(BadRequest):
        head(text, 80)


PIECES = st.lists(
    st.sampled_from(
        [b"GET ", b"CONNECT ", b"POST ", b"http://", b"a.org", b"evil.test", b":443", b":80", b"/", b" HTTP/1.1", b"\r\n", b"\n", b"\r",
         b"Host: ", b"a.org\r\n", b"evil.test\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"@", b"\x00", b" ", b"\t", b"#", b"?"]
    )
    | st.binary(max_size=6),
    max_size=14,
)  # fmt: skip


@given(PIECES, st.sampled_from([None, 80, 443]))
def test_whatever_is_passed_on_names_one_host_once(pieces: list[bytes], door: int | None) -> None:
    try:
        found = parse(b"".join(pieces) + b"\r\n\r\n", door)
    except BadRequest:
        return
    if found.tunnel:
        return
    first, *fields = found.written().removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first.split(b" ")[1].startswith(b"/")
    assert [line for line in fields if line.lower().startswith(b"host")] == fields[:1]
    assert b"\n" not in b"".join(fields)
    assert b"\x00" not in b"".join(fields)


def watched(data: bytes, size: int = 1 << 20) -> HelloWatch:
    watch = HelloWatch()
    for at in range(0, len(data), size):
        watch.first(data[at : at + size])
    return watch


@pytest.mark.parametrize("size", [1, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("fragment", [1, 5, 200, 1 << 14])
def test_a_hello_in_any_pieces_says_its_name(size: int, fragment: int) -> None:
    hello = client_hello("Python.org")
    watch = watched(records(hello[9:], fragment), size)
    assert (watch.known, watch.host) == (True, "python.org")


def test_a_hello_without_a_name_says_so() -> None:
    watch = watched(client_hello(None))
    assert (watch.known, watch.host) == (True, None)


def odd_hellos() -> dict[str, bytes]:
    whole = client_hello("a.org")
    named = with_extension(client_hello(None), 0, b"\x00\x08\x00\x00\x05a.org")
    assert watched(named).host == "a.org"
    return {
        "plain": b"GET / HTTP/1.1\r\n\r\n", "sslv2": b"\x80\x2e\x01\x00\x02", "empty record": b"\x16\x03\x01\x00\x00",
        "another message": b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", "encrypted hello": with_extension(whole, 0xFE0D, b"\x00" * 30),
        "encrypted name": with_extension(whole, 0xFFCE, b"x"), "name twice": with_extension(whole, 0, b"\x00\x08\x00\x00\x05b.org"),
        "two names": with_extension(client_hello(None), 0, b"\x00\x10\x00\x00\x05a.org\x00\x00\x05b.org"),
        "a name of another kind": with_extension(client_hello(None), 0, b"\x00\x08\x01\x00\x05a.org"),
        "a name with NUL": with_extension(client_hello(None), 0, b"\x00\x08\x00\x00\x05a\x00org"),
        "a name in no ASCII": with_extension(client_hello(None), 0, b"\x00\x08\x00\x00\x05\xc3\xa4org"),
        "an address": with_extension(client_hello(None), 0, b"\x00\x07\x00\x00\x04127."),
        "too long": b"\x16\x03\x01\x00\x04\x01" + (MOST + 1).to_bytes(3, "big"), "a long record": b"\x16\x03\x01\xff\xff",
        "more in its record": whole[:3] + (len(whole) - 1).to_bytes(2, "big") + whole[5:] + b"\x0b\x00\x00\x00",
        "cut short": records(whole[9:60]),
    }  # fmt: skip


@pytest.mark.parametrize("name", odd_hellos())
def test_a_hello_that_does_not_plainly_say_its_name_is_refused(name: str) -> None:
    with pytest.raises(BadHello):
        watched(odd_hellos()[name])


def answer(random: bytes, size: int = 1 << 14) -> bytes:
    """A ServerHello with this random number, in records of at most `size` bytes."""
    message = b"\x02\x00\x00\x48\x03\x03" + random + bytes(38)
    return b"".join(
        b"\x16\x03\x03" + len(piece).to_bytes(2, "big") + piece
        for piece in (message[at : at + size] for at in range(0, len(message), size))
    )


RETRY = sha256(b"HelloRetryRequest").digest()


def retried(fragment: int = 1 << 14) -> HelloWatch:
    """A watch whose server has asked for a second ClientHello."""
    watch = watched(client_hello("allowed.org"))
    for byte in answer(RETRY, fragment):
        assert not watch._answered.is_set()
        watch.answered(bytes([byte]))
        if watch._answered.is_set():
            break
    assert watch._answered.is_set()
    assert not watch.is_over
    return watch


@pytest.mark.parametrize("fragment", [1, 3, 50, 1 << 14])
async def test_a_second_hello_with_another_name_is_noticed_however_much_comes_before_it(
    fragment: int,
) -> None:
    early = b"\x14\x03\x03\x00\x01\x01" + (b"\x17\x03\x03\x40\x00" + bytes(1 << 14)) * 20
    same = retried(fragment)
    same.second(early + records(client_hello("allowed.org")[9:], fragment))
    assert same.is_over
    for other in ("evil.test", None):
        with pytest.raises(BadHello, match="another name"):
            retried(fragment).second(early + records(client_hello(other)[9:], fragment))


async def test_a_second_hello_of_any_length_is_looked_at() -> None:
    long = with_extension(client_hello("evil.test"), 0xFAFA, bytes(MOST))
    with pytest.raises(BadHello, match="too long"):
        retried().second(long)
    padded = with_extension(client_hello("evil.test"), 0xFAFA, bytes(MOST - 2_000))
    with pytest.raises(BadHello, match="another name"):
        retried().second(padded)


@pytest.mark.parametrize(
    "odd", [b"\x16\x03\x03\x00\x00", b"\x16\x03\x03\x00\x04\x14\x00\x00\x00", b"GET / HTTP/1.1\r\n"]
)
async def test_nothing_but_a_second_hello_is_taken_where_it_must_come(odd: bytes) -> None:
    with pytest.raises(BadHello):
        retried().second(odd)


async def test_a_hello_in_very_many_records_is_refused() -> None:
    hello = with_extension(client_hello("a.org"), 0xFAFA, bytes(MOST_RECORDS))
    with pytest.raises(BadHello, match="too many records"):
        watched(records(hello[9:], 1))
    with pytest.raises(BadHello, match="too many records"):
        retried().second(b"\x17\x03\x03\x00\x01x" * (MOST_RECORDS + 1))


@pytest.mark.parametrize(
    "said",
    [
        answer(bytes(32)),
        answer(bytes(32), 1),
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"HTTP/1.1 400 Bad",
        b"\x16\x03\x03\x00\x00",
        answer(RETRY)[:20] + bytes(60),
    ],
)
async def test_any_other_answer_of_a_server_ends_the_watch(said: bytes) -> None:
    watch = watched(client_hello("a.org"))
    watch.answered(said)
    assert watch._answered.is_set()
    assert watch.is_over


async def test_what_is_behind_the_first_hello_is_given_back_and_not_looked_at() -> None:
    watch = HelloWatch()
    assert watch.first(client_hello("a.org") + b"whatever") == b"whatever"


@given(st.binary(max_size=300), st.integers(1, 50))
async def test_no_bytes_of_a_server_break_the_watch(said: bytes, size: int) -> None:
    watch = watched(client_hello("a.org"))
    for at in range(0, len(said), size):
        watch.answered(said[at : at + size])
    assert len(watch._answer) <= 300


@given(st.data())
def test_no_bytes_of_a_client_break_the_watch(data: st.DataObject) -> None:
    hello = bytearray(client_hello("a.org"))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(hello) - 1))
        hello[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    whole = bytes(hello) + data.draw(st.binary(max_size=40))
    try:
        watch = watched(whole, data.draw(st.integers(1, 600)))
        watch.second(data.draw(st.binary(max_size=40)))
    except BadHello:
        return
    assert not watch.known or watch.host is None or isinstance(watch.host, str)


def query(name: bytes, kind: int = 1, flags: int = 0x0100) -> bytes:
    labels = b"".join(bytes([len(each)]) + each for each in name.split(b".")) + b"\0"
    return struct.pack(">6H", 77, flags, 1, 0, 0, 0) + labels + struct.pack(">2H", kind, 1)


def test_a_query_is_answered_with_one_address_or_none() -> None:
    asked = dns.question(query(b"Python.org"))
    assert asked is not None
    assert (asked.name, asked.wants_address) == ("Python.org", True)
    answer = dns.here(asked, b"\x7f\x01\x01\x01")
    assert answer.endswith(b"\x00\x04\x7f\x01\x01\x01")
    assert answer[:2] == b"\x00\x4d"
    assert dns.nowhere(asked)[3] & 15 == 3
    v6 = dns.question(query(b"python.org", 28))
    assert v6 is not None
    assert dns.here(v6, b"\x7f\x01\x01\x01")[6:8] == b"\x00\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(12),
        query(b"a.org")[:-1],
        query(b"a.org", flags=0x8000),
        query(b"a.org")[:20],
        bytes(513),
        query(b"a" * 63 + b".org")[:40],
    ],
)
def test_what_is_no_query_gets_no_answer(data: bytes) -> None:
    assert dns.question(data) is None


@given(st.binary(max_size=600))
def test_no_datagram_breaks_the_name_server(data: bytes) -> None:
    for each in (data, query(b"a.org")[:12] + data):
        asked = dns.question(each)
        assert asked is None or len(dns.nowhere(asked)) <= len(each)
