"""What a sandbox may use, and that it still works after it tried to use more."""

from __future__ import annotations

from terraphim_rlm.testing.conformance.checks import holds, like, raised
from terraphim_rlm.testing.conformance.model import Box, Group

LIMITS = Group("limits")
_FORKS = """
import os, time
born = 0
try:
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        born += 1
except OSError as error:
    print(born, error.errno)
"""


@LIMITS.fresh("limit:memory", memory_mb=128, seconds=40)
async def code_that_takes_too_much_memory_is_oom(box: Box) -> None:
    like(await box.run("x = bytearray(b'a' * 800_000_000)"), status="oom")
    like(await box.run("1 + 1"), status="ok", stdout="2\n")


@LIMITS.fresh("limit:memory", memory_mb=128, seconds=40)
async def memory_taken_bit_by_bit_is_oom_too(box: Box) -> None:
    like(await box.run("x = []\nwhile True: x.append(bytearray(b'a' * 1_000_000))", timeout=30), status="oom")
    like(await box.run("1 + 1"), status="ok", stdout="2\n")
    like(await box.sh("echo fine"), status="ok", stdout="fine\n")


@LIMITS.fresh("limit:memory", memory_mb=128, seconds=40)
async def memory_taken_to_the_last_crumb_is_oom_and_the_next_cell_works(box: Box) -> None:
    code = "x = []\nfor size in (1 << 20, 10_000, 500):\n    try:\n        while True: x.append(bytearray(size))\n"
    code += "    except MemoryError: pass\nwhile True: x.append(bytearray(500))"
    like(await box.run(code, timeout=30), status="oom")
    like(await box.run("1 + 1"), status="ok", stdout="2\n")


@LIMITS.fresh("limit:memory", memory_mb=128, seconds=40)
async def a_shell_whose_command_got_no_memory_is_oom_too(box: Box) -> None:
    for code in ("python3 -c 'x = bytearray(10**9)'", "python3 -c 'x = bytearray(10**9)'; exit $?"):
        like(await box.sh(code), status="oom", state_after="kept")
        like(await box.run(code.replace("exit", "test 0 ="), "bash"), status="oom", state_after="kept")
    like(await box.sh("exit 9"), status="exit_nonzero", exit_code=9)


@LIMITS.fresh("group:memory", memory_mb=128, seconds=40)
async def memory_is_counted_over_all_processes(box: Box) -> None:
    one = "python3 -c 'import time; x = bytearray(b\"a\" * 60_000_000); print(1, flush=True); time.sleep(2)'"
    result = await box.sh(f"{one} & {one} & {one} & {one} & wait", timeout=20)
    holds(result.stdout.count("1") < 4, "four times 60 MB fit into 128 MB")
    holds("memory" in " ".join(result.notes) or result.status == "oom", "the result says what the kernel did")
    like(await box.run("1 + 1"), stdout="2\n")


@LIMITS.fresh("group:memory", memory_mb=128, seconds=40)
async def a_child_killed_for_memory_is_told_when_its_parent_goes_on(box: Box) -> None:
    result = await box.sh("python3 -c 'x = bytearray(b\"a\" * 10**9)'; echo rest")
    like(result, status="ok", stdout="rest\n")
    holds(any("memory" in note for note in result.notes), "a note tells of the kill")


@LIMITS.fresh("limit:disk", disk_mb=16)
async def a_full_disk_is_said_and_room_can_be_made(box: Box) -> None:
    await box.run("kept = 1")
    code = "with open('/work/big', 'wb') as f:\n    for _ in range(64): f.write(bytes(1 << 20)); f.flush()"
    result = like(await box.run(code), status="disk_full", exit_code=1, state_after="kept")
    raised(result, "OSError")
    like(
        await box.run("import os; os.remove('/work/big'); open('/work/small', 'w').write('x' * 10)"),
        status="ok",
    )
    like(await box.run("kept"), stdout="1\n")


@LIMITS.fresh("limit:disk", disk_mb=16)
async def a_shell_that_finds_the_disk_full_is_disk_full_too(box: Box) -> None:
    for code in ("head -c 40000000 /dev/zero > /work/big", "truncate -s 40000000 /work/big"):
        like(await box.sh(code), status="disk_full", state_after="kept")
        like(await box.run(code, "bash"), status="disk_full", state_after="kept")
        like(
            await box.sh("rm -f /work/big; echo x > /work/small; cat /work/small"), status="ok", stdout="x\n"
        )
    like(await box.sh("echo No space left on device >&2; ls /work"), status="ok")


@LIMITS.fresh("limit:disk", disk_mb=16)
async def no_folder_that_code_can_write_is_without_bound(box: Box) -> None:
    for folder in ("/work", "/tmp", "/dev/shm"):
        fill = f"test -w {folder} || exit 0; head -c 200000000 /dev/zero > {folder}/fill"
        result = await box.sh(f"{fill}; size=$(stat -c %s {folder}/fill); rm -f {folder}/fill; echo $size")
        size = int(result.stdout or 0)
        holds(size <= 16 << 20, f"{size:,} bytes were written to {folder} under a bound of 16 MB")


@LIMITS.fresh("limit:inodes", disk_mb=4, seconds=40)
async def files_without_content_fill_the_disk_too_and_room_can_be_made(box: Box) -> None:
    for folder in ("/work", "/tmp", "/dev/shm"):
        code = f"import os\nif not os.access({folder!r}, os.W_OK): raise OSError(28, 'it cannot be written at all')\n"
        code += f"for n in range(100_000): open(f'{folder}/{{n}}', 'w').close()"
        like(await box.run(code, timeout=30), status="disk_full", exit_code=1, state_after="kept")
        like(
            await box.sh(f"rm -rf {folder}/*; echo x > {folder}/y && cat {folder}/y"),
            status="ok",
            stdout="x\n",
        )


@LIMITS.fresh("limit:pids", pids=40, seconds=40)
async def processes_are_bounded_and_the_sandbox_lives_on(box: Box) -> None:
    result = await box.run(_FORKS, timeout=10)
    born = int((result.stdout or "400 0").split()[0])
    holds(0 < born <= 40, f"{born} processes were born under a bound of 40")
    await box.run("import os; os._exit(0)")
    like(await box.run("1 + 1"), status="ok", stdout="2\n")


@LIMITS.fresh("limit:pids", pids=40, seconds=40)
async def a_fork_bomb_ends_with_its_time(box: Box) -> None:
    like(await box.sh("b() { b | b & }; b; sleep 20", timeout=2), status="timeout")
    like(await box.run("1 + 1", timeout=10), status="ok", stdout="2\n")
    like(await box.sh("echo fine", timeout=10), status="ok", stdout="fine\n")


@LIMITS.fresh(memory_mb=300, pids=30, disk_mb=20)
async def a_sandbox_within_its_limits_just_works(box: Box) -> None:
    code = (
        "x = bytearray(b'a' * 50_000_000); _ = open('/work/f', 'wb').write(bytes(10_000_000)); print(len(x))"
    )
    like(await box.run(code), status="ok", stdout="50000000\n")
    like(await box.sh("for n in 1 2 3 4 5; do sleep 0 & done; wait; seq 9 | sort -r | head -1"), stdout="9\n")
