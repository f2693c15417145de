"""What lives on from one execution to the next, and what must not."""

from __future__ import annotations

from terraphim_rlm.testing.conformance.checks import ends, holds, like, marker, processes, same
from terraphim_rlm.testing.conformance.model import Box, Group

STATE = Group("state")
BASH = Group("bash")


@STATE.shared()
async def variables_live_on(box: Box) -> None:
    await box.run("x = 41")
    like(await box.run("x += 1\nprint(x)"), stdout="42\n", state_after="kept")


@STATE.shared()
async def what_was_assigned_before_an_exception_stays(box: Box) -> None:
    await box.run("y = 1")
    like(
        await box.run("y = 5\nz = [1]\nz.append(2)\n1 / 0\ny = 6"), status="exit_nonzero", state_after="kept"
    )
    like(await box.run("print(y, z)"), stdout="5 [1, 2]\n")


@STATE.shared()
async def functions_classes_and_imports_live_on(box: Box) -> None:
    await box.run(
        "import math\nlimit = 1\nclass A:\n    def f(self): return math.floor(limit + 0.5)\na = A()"
    )
    like(await box.run("limit = 99\nprint(a.f(), A().f(), math.pi > 3)"), stdout="99 99 True\n")


@STATE.shared()
async def classes_and_functions_of_code_can_be_pickled(box: Box) -> None:
    """Else neither process pools nor caches work with them."""
    await box.run("import pickle\nclass Point:\n    x = 3\ndef double(n): return 2 * n")
    code = "p = pickle.loads(pickle.dumps(Point()))\nprint(p.x, pickle.loads(pickle.dumps(double))(4))"
    like(await box.run(code), status="ok", stdout="3 8\n")
    pool = (
        "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: print(p.map(double, [1, 2]))"
    )
    like(await box.run(pool), status="ok", stdout="[2, 4]\n")


@STATE.shared()
async def an_open_file_stays_open_at_its_place(box: Box) -> None:
    await box.run("open('/tmp/held', 'w').write('abcdef'); f = open('/tmp/held'); _ = f.read(2)")
    like(await box.run("print(f.read(2)); f.close()"), stdout="cd\n")


@STATE.shared()
async def a_background_thread_lives_on(box: Box) -> None:
    await box.run(
        "import threading\nbox_in, out = threading.Event(), []\n"
        "t = threading.Thread(target=lambda: (box_in.wait(9), out.append('done')), daemon=True); t.start()"
    )
    like(await box.run("box_in.set(); t.join(9); print(out)"), stdout="['done']\n")


@STATE.shared()
async def await_works_at_the_top_and_its_loop_lives_on(box: Box) -> None:
    await box.run("import asyncio\nlock = asyncio.Lock()\nawait asyncio.sleep(0)\nevent = asyncio.Event()")
    like(await box.run("async with lock: event.set()\nprint(await event.wait())"), stdout="True\n")


@STATE.shared()
async def environment_for_one_execution_is_gone_after_it(box: Box) -> None:
    code = "import os; print(os.environ.get('ONCE'), os.environ.get('PATH') is not None)"
    like(await box.run(code, env={"ONCE": "a b'\"$x\n=é"}), stdout="a b'\"$x\n=é True\n")
    like(await box.run(code), stdout="None True\n")
    like(await box.sh('echo "[$ONCE]"', env={"ONCE": "here"}), stdout="[here]\n")
    like(await box.sh('echo "[$ONCE]"'), stdout="[]\n")


@STATE.shared()
async def environment_that_code_sets_itself_stays(box: Box) -> None:
    await box.run("import os; os.environ['SET'] = 'by code'")
    like(await box.run("print(os.environ['SET'])", env={"OTHER": "1"}), stdout="by code\n")
    like(await box.run("print(os.environ['SET'])"), stdout="by code\n")


@STATE.shared()
async def a_folder_for_one_execution_is_left_after_it(box: Box) -> None:
    code = "import os; print(os.getcwd())"
    before = (await box.run(code)).stdout
    like(await box.run(code, cwd="/tmp"), stdout="/tmp\n")
    like(await box.run(code), stdout=before)


@STATE.shared()
async def a_folder_that_code_goes_to_stays(box: Box) -> None:
    await box.run("import os; os.makedirs('/tmp/went', exist_ok=True); os.chdir('/tmp/went')")
    like(await box.run("print(os.getcwd())"), stdout="/tmp/went\n")
    await box.run("os.chdir('/work')")


@STATE.shared()
async def a_folder_that_is_not_there_is_an_error_and_none_is_made(box: Box) -> None:
    like(
        await box.run("print(1)", cwd="/tmp/never-made"), status="exit_nonzero", stdout="", state_after="kept"
    )
    like(await box.sh("echo 1", cwd="/tmp/never-made"), status="exit_nonzero", stdout="")
    like(await box.sh("ls -d /tmp/never-made"), exit_code=2)


@STATE.shared()
async def code_that_fails_is_not_tried_again(box: Box) -> None:
    await box.run("tries = 0")
    await box.run("tries += 1\n1 / 0")
    like(await box.run("tries"), stdout="1\n")
    like(await box.sh("echo x >> /tmp/tries; exit 3"), exit_code=3)
    like(await box.sh("wc -l < /tmp/tries; rm /tmp/tries"), stdout="1\n")


@STATE.shared()
async def a_thousand_executions_in_a_row_count_right(box: Box) -> None:
    await box.run("count = 0")
    for _ in range(999):
        await box.run("count += 1")
    like(await box.run("count"), stdout="999\n")


@STATE.shared()
async def what_lost_its_state_says_so_once(box: Box) -> None:
    lost = await box.run("import os; os._exit(1)")
    like(lost, state_after="lost")
    holds(any("lost" in note for note in lost.notes), "a note says that variables are lost")
    like(await box.run("1"), state_after="kept", notes=())


@BASH.shared()
async def bash_keeps_variables_functions_folder_and_options(box: Box) -> None:
    await box.run("cd /usr; a=5; b=(x 'y z'); f() { echo f$a; }; export C=c; set -o noglob", "bash")
    result = await box.run('pwd; f; echo "${b[1]}"; bash -c "echo $C"; echo *; set +o noglob', "bash")
    like(result, stdout="/usr\nf5\ny z\nc\n*\n", exit_code=0, state_after="kept")
    await box.run("cd /work", "bash")


@BASH.shared()
async def bash_gives_the_exit_code_of_its_last_command(box: Box) -> None:
    like(await box.run("true; (exit 42)", "bash"), status="exit_nonzero", exit_code=42, state_after="kept")
    like(await box.run("false; true", "bash"), status="ok", exit_code=0)


@BASH.shared()
async def exit_ends_bash_and_says_that_its_state_is_lost(box: Box) -> None:
    await box.run("a=5", "bash")
    like(await box.run("echo bye; exit 4", "bash"), stdout="bye\n", exit_code=4, state_after="lost")
    like(await box.run("echo [$a]", "bash"), stdout="[]\n", state_after="kept")


@BASH.shared()
async def a_broken_script_is_an_error_and_bash_lives_on(box: Box) -> None:
    await box.run("a=6", "bash")
    result = like(await box.run("echo 'unfinished", "bash"), status="exit_nonzero", state_after="kept")
    holds(result.stderr, "stderr says what is wrong")
    like(await box.run("echo $a", "bash"), stdout="6\n")


@BASH.shared()
async def a_script_of_a_megabyte_reaches_bash_whole(box: Box) -> None:
    like(await box.run("x='" + "y" * 1_000_000 + "'; echo ${#x}", "bash"), stdout="1000000\n")


@BASH.shared()
async def here_documents_quotes_and_unicode_reach_bash_unchanged(box: Box) -> None:
    script = "cat <<'END'\n$HOME `id` \\n 'q' \"d\" é😀\tTab\nEND\nprintf '%s|' \"a  b\" 'c\\d'"
    like(await box.run(script, "bash"), stdout="$HOME `id` \\n 'q' \"d\" é😀\tTab\na  b|c\\d|")


@BASH.shared()
async def a_script_that_reads_finds_its_input_empty(box: Box) -> None:
    like(await box.run("cat; read x; echo [$x]", "bash", timeout=5), stdout="[]\n", status="ok")


@BASH.shared()
async def a_job_in_the_background_of_bash_lives_on(box: Box) -> None:
    mark = marker()
    like(await box.run(f"sleep {mark} & echo started", "bash"), stdout="started\n", status="ok")
    holds(mark in await processes(box), "the job still runs after its script")
    like(await box.run("kill %1; wait %1 2>/dev/null; echo $?", "bash"), stdout="143\n")
    await ends(box, mark)


@BASH.shared()
async def bash_python_and_sh_share_files_and_no_variables(box: Box) -> None:
    await box.run("shared = 'python'; open('/work/from-python', 'w').write('p')")
    await box.run("shared=bash; export shared; echo -n b > /work/from-bash", "bash")
    like(await box.sh('echo "[$shared]"; cat /work/from-python /work/from-bash'), stdout="[]\npb")
    result = await box.run("import os; print(shared, os.environ.get('shared'), open('from-bash').read())")
    same(result.stdout, "python None b\n", "what python sees")
