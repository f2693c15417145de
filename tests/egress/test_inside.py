"""A network from inside a sandbox: programs find it by themselves, pip installs, and all else is refused and said."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import zipfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from egress_kit import OK, server

from terraphim_rlm import Resources, Sandbox, open_sandbox
from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.core.network import Access
from terraphim_rlm.sandbox.egress import dial, inside, watch

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
HOST = "127.0.0.2"
"""This machine, by an address that no program takes for the sandbox's own."""


@asynccontextmanager
async def opened(
    monkeypatch: pytest.MonkeyPatch, *network: str, private: str = "", told: list[Access] | None = None
) -> AsyncIterator[Sandbox]:
    monkeypatch.setenv("TRLM_EGRESS_PRIVATE", private)
    hear = (lambda _access: None) if told is None else told.append
    async with open_sandbox("bubblewrap", resources=Resources(network=network), on_access=hear) as box:
        yield box


@asynccontextmanager
async def site(files: Mapping[str, bytes]) -> AsyncIterator[int]:
    """An HTTP server of these files at HOST; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = files.get(head.split(b" ")[1].decode())
        kind = b"text/html" if body is None or body.startswith(b"<") else b"application/octet-stream"
        status = b"404 Not Found" if body is None else b"200 OK"
        body = body or b""
        fields = b"Content-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (kind, len(body))
        writer.write(b"HTTP/1.1 " + status + b"\r\n" + fields + body)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, HOST, 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def wheel(folder: Path) -> bytes:
    path = folder / "made_here-1.0-py3-none-any.whl"
    info = "made_here-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made_here.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: made-here\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path.read_bytes()


async def test_pip_installs_from_an_allowed_index_and_from_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = "made_here-1.0-py3-none-any.whl"
    pages = {
        "/simple/made-here/": f'<html><a href="/files/{name}">{name}</a></html>'.encode(),
        f"/files/{name}": wheel(tmp_path),
    }
    told: list[Access] = []
    async with site(pages) as port:
        here = f"{HOST}:{port}"
        async with opened(monkeypatch, here, private=here, told=told) as box:
            python = (await box.run("import sys; print(sys.executable)")).stdout.strip()
            if (await box.sh(f"{python} -m pip --version")).status != "ok":
                pytest.skip("the sandbox's Python has no pip")
            pip = (
                f"{python} -m pip install --user --no-cache-dir --retries 0 --trusted-host {HOST} --index-url"
            )
            done = await box.sh(f"{pip} http://{here}/simple/ made-here", timeout=120)
            assert done.status == "ok", done.stderr
            assert (await box.run("import made_here; print(made_here.answer)")).stdout == "42\n"
            other = await box.sh(f"{pip} https://index.example.org/simple/ other", timeout=120)
            assert other.status == "exit_nonzero"
            assert other.notes == (
                "Network refused: index.example.org is not allowed; allow it with network=['index.example.org'].",
            )
    assert {(each.decision, each.name) for each in told} == {
        ("allowed", HOST),
        ("closed", HOST),
        ("refused", "index.example.org"),
    }


FETCH = {
    "python": "import urllib.request; print(urllib.request.urlopen('http://@HERE@/').read().decode())",
    "bash": "exec 3<>/dev/tcp/127.1.1.1/3128; printf 'GET http://@HERE@/ HTTP/1.1\\r\\nHost: @HERE@\\r\\n\\r\\n' >&3; cat <&3",
    "sh": "python3 -c \"import urllib.request; print(urllib.request.urlopen('http://@HERE@/').read().decode())\"",
    "javascript": "const http = require('http'); const text = await new Promise((done, fail) => http.get({host: '127.1.1.1', port: 3128, path: 'http://@HERE@/', headers: {Host: '@HERE@'}}, r => { let all = ''; r.on('data', d => all += d); r.on('end', () => done(all)) }).on('error', fail)); console.log(text)",
}  # fmt: skip


@pytest.mark.parametrize("language", FETCH)
async def test_every_language_reaches_what_is_allowed(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    async with site({"/": b"from outside"}) as port:
        here = f"{HOST}:{port}"
        async with opened(monkeypatch, here, private=here) as box:
            if language not in box.capabilities.languages and language != "sh":
                pytest.skip(f"nothing here runs {language}")
            code = FETCH[language].replace("@HERE@", here)
            done = await (box.sh(code) if language == "sh" else box.run(code, language))
            assert "from outside" in done.stdout, (done.stderr, done.error)
            assert done.notes == ()
            assert box.statistics().network is not None
            assert box.statistics().network.bytes_down > 0  # type: ignore[union-attr]


def certificate(folder: Path, name: str) -> tuple[Path, Path] | None:
    """A certificate for `name` that signs itself, and its key."""
    if shutil.which("openssl") is None:
        return None
    made, key = folder / "made.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


TLS = """
import socket, ssl, os, urllib.request
print("proxied", urllib.request.urlopen("https://index.test:@PORT@/").read())
for name in list(os.environ):
    if name.lower().endswith("_proxy"): del os.environ[name]
print("direct", urllib.request.build_opener(urllib.request.ProxyHandler({})).open("https://index.test:@PORT@/").read())
context = ssl.create_default_context()
try: context.wrap_socket(socket.create_connection(("index.test", @PORT@)), server_hostname="evil.test")
except ssl.SSLError as error: print("fronted", error.reason)
"""


def test_nothing_but_certificates_is_handed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    block = "-----BEGIN CERTIFICATE-----\nMIIB+/=\n-----END CERTIFICATE-----"
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(
        f"# Mine\n{block}\n-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n{block}\n"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert inside.files()["/etc/ssl/certs/ca-certificates.crt"] == f"{block}\n{block}\n".encode()


async def test_a_snapshot_keeps_nothing_of_the_network_and_a_rollback_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with site({"/": b"from outside"}) as port:
        here = f"{HOST}:{port}"
        async with opened(monkeypatch, here, private=here) as box:
            fetch = f"import urllib.request; print(urllib.request.urlopen('http://{here}/').read())"
            await box.run(fetch)
            await box.snapshot("before")
            await box.run("x = 1")
            await box.rollback("before")
            assert (await box.run(fetch)).stdout == "b'from outside'\n"


@pytest.mark.parametrize("curve", ["", "secp521r1"], ids=["at once", "after a second hello"])
async def test_tls_works_through_the_proxy_and_by_name_alone_and_for_no_other_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, curve: str
) -> None:
    made = certificate(tmp_path, "index.test")
    if made is None:
        pytest.skip("no openssl here to make a certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*made)
    if curve:
        context.set_ecdh_curve(curve)
    seconds: list[bool] = []
    second = watch.HelloWatch.second

    def looked_at(self: watch.HelloWatch, data: bytes) -> None:
        second(self, data)
        seconds.append(self.is_over)

    monkeypatch.setattr(watch.HelloWatch, "second", looked_at)
    monkeypatch.setenv("SSL_CERT_FILE", str(made[0]))
    monkeypatch.setattr(dial, "resolve", lambda name: {"index.test": ["127.0.0.1"]}[name])
    async with server(OK, context=context) as (port, _got):
        here = f"index.test:{port}"
        async with opened(monkeypatch, here, private=here) as box:
            if "javascript" in box.capabilities.languages:
                fetched = await box.run(
                    f"await (await fetch('https://index.test:{port}/')).text()", "javascript"
                )
                assert fetched.stdout == "'ok'\n", (fetched.stderr, fetched.error)
            done = await box.run(TLS.replace("@PORT@", str(port)))
            assert done.stdout == "proxied b'ok'\ndirect b'ok'\nfronted TLSV1_ALERT_ACCESS_DENIED\n", (
                done.error,
                done.notes,
            )
            assert (
                done.notes
                == (
                    f"Network refused: port {port} of evil.test is not allowed; allow it with network=['evil.test:{port}'].",
                )
                or "evil.test is not allowed" in done.notes[0]
            )
            assert (True in seconds) == bool(curve)


HOPS = [
    "http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/", "http://2852039166/",
    "http://[::ffff:a9fe:a9fe]/", "https://evil.test/",
]  # fmt: skip


@pytest.mark.parametrize("hop", HOPS)
async def test_a_redirect_to_what_is_not_allowed_is_refused_at_that_hop(
    monkeypatch: pytest.MonkeyPatch, hop: str
) -> None:
    told: list[Access] = []
    moved = f"HTTP/1.1 302 Found\r\nLocation: {hop}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with server(moved.encode(), host=HOST) as (port, _got):
        here = f"{HOST}:{port}"
        async with opened(monkeypatch, here, private=here, told=told) as box:
            done = await box.run(f"import urllib.request; urllib.request.urlopen('http://{here}/')")
            assert done.error is not None
            assert "Error" in done.error.type
            assert len(done.notes) == 1
    assert [each.decision for each in told] == ["allowed", "closed", "refused"]


async def test_a_sandbox_without_allowed_names_has_no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(monkeypatch) as box:
        assert box.statistics().network is None
        code = "import os, socket\nprint([n for n in os.environ if 'PROXY' in n.upper() or n == 'SSL_CERT_FILE'], os.path.exists('/etc/resolv.conf'))\n"
        code += "for port in (53, 80, 443, 3128):\n  try: socket.create_connection(('127.1.1.1', port)); print('open')\n  except OSError as error: print(error.errno)"
        assert (await box.run(code)).stdout == "[] False\n" + "111\n" * 4


async def test_code_cannot_take_the_gateway_s_ports_nor_reach_anything_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = """
import socket
for port in (53, 80, 443, 3128):
    for address in ("127.1.1.1", "0.0.0.0"):
        s = socket.socket()
        try: s.bind((address, port)); print("bound", address, port)
        except OSError: pass
for place in (("8.8.8.8", 53), ("169.254.169.254", 80), ("10.0.0.1", 80), ("2606:4700::1111", 443)):
    s = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
    try: s.connect(place); print("reached", place)
    except OSError as error: print(error.errno in (101, 99))
"""
    async with opened(monkeypatch, "python.org") as box:
        assert (await box.run(code)).stdout == "True\n" * 4


async def test_branches_share_a_gateway_and_each_hears_of_its_own_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first: list[Access] = []
    second: list[Access] = []
    fetch = "import urllib.request\ntry: urllib.request.urlopen('http://{}/')\nexcept OSError: pass"
    async with opened(monkeypatch, "python.org", told=first) as box:
        (twin,) = await box.branch()
        twin.on_access = second.append
        await box.run(fetch.format("first.example"))
        await twin.run(fetch.format("second.example"))
        await twin.close()
    assert [each.name for each in first] == ["first.example"]
    assert [each.name for each in second] == ["second.example"]


async def test_an_allowed_name_that_is_none_is_refused_before_anything_starts() -> None:
    with pytest.raises(InvalidArgument, match=r"https://python\.org"):
        async with open_sandbox("bubblewrap", resources=Resources(network=("https://python.org",))):
            pass


async def test_nothing_of_a_gateway_is_left_when_its_sandbox_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))
    tasks = len(asyncio.all_tasks())
    async with site({"/": b"x"}) as port:
        here = f"{HOST}:{port}"
        async with opened(monkeypatch, here, private=here) as box:
            await box.run(
                "import socket; held = socket.create_connection(('127.1.1.1', 3128)); held.send(b'GET ')"
            )
    assert len(asyncio.all_tasks()) == tasks
    assert set(os.listdir("/proc/self/fd")) <= before
