"""Sandboxes see nothing of each other, and nothing of the host."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path

from terraphim_rlm.core.values import Resources
from terraphim_rlm.testing.conformance.checks import holds, like, marker, raised, same
from terraphim_rlm.testing.conformance.model import Box, Group, Opener

ISOLATION = Group("isolation")
_LISTEN = """
import socket
tcp = socket.socket(); tcp.bind(("127.0.0.1", {port})); tcp.listen()
name = socket.socket(socket.AF_UNIX); name.bind("\\0{mark}"); name.listen()
"""
_REACH = """
import socket
def reach(family, address):
    s = socket.socket(family)
    s.settimeout(1)
    try:
        s.connect(address)
        print("reached", address)
    except OSError:
        pass
reach(socket.AF_INET, ("127.0.0.1", {port}))
reach(socket.AF_UNIX, "\\0{mark}")
"""


@ISOLATION.opening()
async def two_sandboxes_share_no_variable(open_box: Opener) -> None:
    async with open_box() as one, open_box() as two:
        await one.run("secret = 1")
        await one.run("secret=1", "bash")
        raised(await two.run("secret"), "NameError")
        like(await two.run("echo [$secret]", "bash"), stdout="[]\n")


@ISOLATION.opening()
async def two_sandboxes_share_no_file(open_box: Opener) -> None:
    mark = marker()
    async with open_box() as one, open_box() as two:
        for folder in ("/work", "/tmp", "/dev/shm", "/var/tmp"):
            await one.sh(f"echo {mark} > {folder}/{mark}")
        like(await one.sh(f"cat /work/{mark}"), stdout=f"{mark}\n")
        seen = await two.sh(f"find / -xdev -name {mark} 2>/dev/null; ls /work /tmp /dev/shm /var/tmp")
        holds(mark not in seen.stdout, f"{seen.stdout!r} shows a file of the other")


@ISOLATION.opening()
async def two_sandboxes_share_no_process(open_box: Opener) -> None:
    mark = marker()
    async with open_box() as one, open_box() as two:
        await one.sh(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &")
        seen = await two.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        holds(mark not in seen.stdout, "a process of the other can be seen")
        await two.sh("kill -9 -1")
        await two.run(
            "import os, signal\nfor n in range(2, 300):\n  try: os.kill(n, 9)\n  except OSError: pass"
        )
        still = await one.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        holds(mark in still.stdout, "a process of the other could be killed")


@ISOLATION.opening()
async def two_sandboxes_share_no_socket(open_box: Opener) -> None:
    mark, port = marker(), 20_000 + os.getpid() % 20_000
    async with open_box() as one, open_box() as two:
        like(await one.run(_LISTEN.format(port=port, mark=mark)), status="ok")
        like(await two.run(_REACH.format(port=port, mark=mark)), status="ok", stdout="")


@ISOLATION.opening()
async def a_new_sandbox_holds_nothing_of_one_before(open_box: Opener) -> None:
    mark = marker()
    async with open_box() as one:
        await one.run(f"v{mark} = 1")
        await one.sh(f"echo {mark} > /work/{mark}; cp /work/{mark} /tmp/; echo {mark} > ~/.{mark}")
    async with open_box() as two:
        like(await two.run(f"'v{mark}' in globals()"), stdout="False\n")
        seen = await two.sh("find /work /tmp /dev/shm ~ -mindepth 1 2>/dev/null; env")
        holds(mark not in seen.stdout, f"{seen.stdout!r} is left of the one before")


@ISOLATION.opening()
async def a_sandbox_starts_with_empty_folders(open_box: Opener) -> None:
    async with open_box() as box:
        like(await box.sh("find /work /tmp -mindepth 1"), stdout="", status="ok")
        like(await box.sh("pwd; touch here && ls"), stdout="/work\nhere\n")


@ISOLATION.opening()
async def no_file_of_the_host_can_be_seen(open_box: Opener) -> None:
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder, "canary")
        canary.write_text("host")
        Path(folder).chmod(0o777)
        canary.chmod(0o666)
        async with open_box() as box:
            await box.sh(f"mkdir -p {folder}; echo changed > {canary}; cat /proc/1/root{canary}")
            code = f"import os\nos.symlink({str(canary)!r}, 'link')\nopen('link', 'a').write('x')"
            await box.run(code)
            like(await box.sh("cat /etc/shadow"), status="exit_nonzero", stdout="")
        same(canary.read_text(), "host", "the host's file")


@ISOLATION.opening()
async def nothing_of_the_hosts_environment_is_handed_in(open_box: Opener) -> None:
    mark = f"canary{marker()}"
    os.environ["TRLM_CONFORMANCE"] = mark
    try:
        async with open_box() as box:
            seen = await box.sh("env; cat /proc/[0-9]*/environ | tr '\\0' '\\n'")
            seen_too = await box.run("import os; print(dict(os.environ))")
    finally:
        del os.environ["TRLM_CONFORMANCE"]
    holds(mark not in seen.stdout + seen_too.stdout, "a variable of the host can be read")
    holds(
        os.path.expanduser("~") == "/" or os.path.expanduser("~") + "\n" not in seen.stdout,
        "HOME is the host's",
    )


@ISOLATION.opening()
async def no_process_of_the_host_can_be_seen(open_box: Opener) -> None:
    async with open_box() as box:
        seen = await box.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls /proc | grep -c '^[0-9]'")
    holds(" ".join(sys.argv) not in seen.stdout, "the command line of the host's program can be read")
    holds(int(seen.stdout.split()[-1]) < 30, "a sandbox has a few processes of its own")


@ISOLATION.opening()
async def the_hosts_loopback_cannot_be_reached(open_box: Opener) -> None:
    reached = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, open_box() as box:
        port = server.sockets[0].getsockname()[1]
        like(await box.run(_REACH.format(port=port, mark="none")), status="ok", stdout="")
    holds(not reached.is_set(), "a server of the host was reached")


@ISOLATION.opening()
async def there_is_no_network_unless_asked_for(open_box: Opener) -> None:
    code = (
        "import socket\n"
        "names = [n for _, n in socket.if_nameindex() if n != 'lo']\n"
        "try: names.append(socket.gethostbyname('example.org'))\nexcept OSError: pass\nprint(names)"
    )
    async with open_box() as box:
        like(await box.run(code, timeout=20), status="ok", stdout="[]\n")


@ISOLATION.opening("network")
async def a_host_that_is_not_allowed_is_refused_and_named(open_box: Opener) -> None:
    code = (
        "import urllib.request\n"
        "try: urllib.request.urlopen('http://evil.example/', timeout=10); print('reached')\n"
        "except OSError: pass\n"
    )
    async with open_box(resources=Resources(network=("docs.example",))) as box:
        result = like(await box.run(code, timeout=20), status="ok", stdout="")
    holds(any("evil.example" in note for note in result.notes), "what was refused is named")


@ISOLATION.opening()
async def a_sandbox_has_a_host_name_of_its_own(open_box: Opener) -> None:
    async with open_box() as box:
        result = await box.run("import socket; print(socket.gethostname())")
    holds(result.stdout.strip() not in ("", socket.gethostname()), "the host's name is shown")


@ISOLATION.opening()
async def random_numbers_differ_between_sandboxes(open_box: Opener) -> None:
    code = "import os, random, uuid; print(random.random(), os.urandom(8), uuid.uuid4(), hash('x'))"
    async with open_box() as one, open_box() as two:
        first, second = await one.run(code), await two.run(code)
    holds(first.stdout != second.stdout, "two sandboxes draw the same numbers")


async def _beats(box: Box) -> bool:
    result = await box.run("1 + 1", timeout=10)
    return bool(result.stdout == "2\n")


@ISOLATION.opening(seconds=40)
async def the_end_of_one_sandbox_is_nothing_to_the_other(open_box: Opener) -> None:
    async with open_box() as one:
        await one.run("kept = 3")
        async with open_box() as two:
            await two.sh("sleep 50", timeout=0.2)
            await two.run("import os; os._exit(9)")
        holds(await _beats(one), "the other works")
        like(await one.run("kept"), stdout="3\n")
