"""Going back: everything is what it was, as often as wanted; single files; and going several ways at once."""

from __future__ import annotations

import asyncio

from terraphim_rlm.core.errors import InvalidArgument, SandboxLost
from terraphim_rlm.testing.conformance.checks import (
    branched,
    ends,
    holds,
    like,
    marker,
    raised,
    refused,
    same,
)
from terraphim_rlm.testing.conformance.model import Box, Group, Opener

ROLLBACK = Group("rollback", "files:python")
BRANCH = Group("branch", "files:python")
_SET = "x = {n}\nopen('/work/f', 'w').write('{n}')\nopen('/tmp/t', 'w').write('{n}')"
_SEE = "print(x, open('/work/f').read(), open('/tmp/t').read())"


@ROLLBACK.fresh("interpreter:python")
async def variables_and_files_go_back_together(box: Box) -> None:
    await box.run(_SET.format(n=1))
    await box.snapshot("s")
    await box.run(_SET.format(n=2) + "\nnew = 3\nopen('/work/new', 'w').close()\ndel _")
    await box.rollback("s")
    like(await box.run(_SEE), stdout="1 1 1\n")
    raised(await box.run("new"), "NameError")
    like(await box.sh("ls /work"), stdout="f\n")


@ROLLBACK.fresh()
async def files_go_back_with_content_mode_and_kind(box: Box) -> None:
    make = "mkdir -p d/e; echo old > d/a; printf 'x\\0y' > d/bin; chmod 640 d/a; ln -s a d/link; touch -d @1000 d/bin"
    see = "cd /work; find . -printf '%P %y %m %l\\n' | sort; cat d/a; sha256sum d/bin; stat -c %Y d/bin"
    await box.sh(make)
    before = (await box.sh(see)).stdout
    await box.snapshot("s")
    await box.sh("rm -r d/link d/bin; echo new >> d/a; chmod 777 d/a; rmdir d/e; mkdir d/bin; touch extra")
    await box.rollback("s")
    like(await box.sh(see), stdout=before)
    like(await box.sh("echo more >> d/a; rm d/bin; cat d/a"), stdout="old\nmore\n")


@ROLLBACK.fresh("interpreter:python")
async def folder_environment_and_random_numbers_go_back(box: Box) -> None:
    await box.run(
        "import os, random\nos.makedirs('sub'); os.chdir('sub'); os.environ['M'] = 'one'; random.seed(7)"
    )
    await box.snapshot("s")
    see = "print(os.getcwd(), os.environ['M'], random.random())"
    first = (await box.run(see)).stdout
    await box.run("os.chdir('/'); os.environ['M'] = 'two'; random.seed(8)")
    await box.rollback("s")
    like(await box.run(see), stdout=first)


@ROLLBACK.fresh("interpreter:python")
async def an_open_file_goes_back_to_its_place(box: Box) -> None:
    await box.run(
        "import itertools\nopen('r', 'w').write('abcdef')\nr = open('r'); _ = r.read(2); n = itertools.count()"
    )
    await box.run(
        "w = open('w', 'w'); _ = w.write('one '); w.flush(); a = open('a', 'a'); _ = a.write('A'); a.flush()"
    )
    await box.snapshot("s")
    use = "print(r.read(2), next(n)); _ = w.write('two '); w.flush(); _ = a.write('B'); a.flush()\n"
    see = "print(open('w').read(), open('a').read())"
    like(await box.run(use + see), stdout="cd 0\none two  AB\n")
    await box.run("r.read(); w.write('junk'); w.flush(); a.close(); n = None")
    await box.rollback("s")
    like(await box.run(use + see), stdout="cd 0\none two  AB\n")


@ROLLBACK.fresh("interpreter:python", seconds=60)
async def twenty_rollbacks_in_a_row_are_each_right(box: Box) -> None:
    await box.run(_SET.format(n=0) + "\nbig = [[n] for n in range(20000)]")
    await box.snapshot("s")
    for number in range(1, 21):
        await box.run(_SET.format(n=number) + f"\nbig[{number}][0] = -1; big.append({number})")
        await box.rollback("s")
        like(
            await box.run(_SEE + "\nprint(sum(n for n, in big), len(big))"), stdout="0 0 0\n199990000 20000\n"
        )


@ROLLBACK.fresh("interpreter:python")
async def snapshots_go_back_in_any_order(box: Box) -> None:
    for number in range(5):
        await box.run(_SET.format(n=number))
        await box.snapshot(f"s{number}")
    for number in (3, 4, 0, 2, 2, 1, 4):
        await box.rollback(f"s{number}")
        like(await box.run(_SEE), stdout=f"{number} {number} {number}\n")


@ROLLBACK.fresh("interpreter:python")
async def a_snapshot_taken_after_a_rollback_holds_the_new_way(box: Box) -> None:
    await box.run(_SET.format(n=1))
    await box.snapshot("one")
    await box.run(_SET.format(n=2))
    await box.rollback("one")
    await box.run("x += 10; open('/work/f', 'w').write('11')")
    await box.snapshot("other")
    await box.rollback("one")
    like(await box.run(_SEE), stdout="1 1 1\n")
    await box.rollback("other")
    like(await box.run(_SEE), stdout="11 11 1\n")


@ROLLBACK.fresh("interpreter:python")
async def an_interpreter_that_died_comes_back_with_its_state(box: Box) -> None:
    await box.run(_SET.format(n=1))
    await box.snapshot("s")
    like(await box.run("x = 2; import os; os._exit(3)"), state_after="lost")
    await box.rollback("s")
    like(await box.run(_SEE), stdout="1 1 1\n", state_after="kept")
    stubborn = "while True:\n  try:\n    while True: pass\n  except BaseException: pass"
    like(await box.run(stubborn, timeout=0.1), status="timeout")
    await box.rollback("s")
    like(await box.run(_SEE), stdout="1 1 1\n")


@ROLLBACK.fresh("interpreter:python")
async def what_was_started_since_is_gone_after_a_rollback(box: Box) -> None:
    mark = marker()
    await box.snapshot("s")
    await box.sh(f"setsid sleep {mark} </dev/null >/dev/null 2>&1 &")
    await box.run(f"import subprocess, threading\np = subprocess.Popen(['sleep', '{mark}'])")
    await box.rollback("s")
    await ends(box, mark)
    raised(await box.run("p"), "NameError")


@ROLLBACK.fresh("interpreter:python")
async def a_rollback_to_before_the_first_execution_is_a_fresh_start(box: Box) -> None:
    await box.snapshot("empty")
    await box.run(_SET.format(n=1))
    await box.rollback("empty")
    raised(await box.run("x"), "NameError")
    like(await box.sh("find /work /tmp -mindepth 1"), stdout="")


@ROLLBACK.fresh("interpreter:bash")
async def variables_functions_and_folder_of_bash_go_back(box: Box) -> None:
    await box.snapshot("empty")
    await box.run("v='a b'; export E=e; f() { echo f$v; }; l=(1 2); mkdir -p sub; cd sub", "bash")
    await box.snapshot("s")
    see = 'f; echo "$v $E ${l[1]} $PWD"; bash -c "echo $E"'
    first = (await box.run(see, "bash")).stdout
    same(first, "fa b\na b e 2 /work/sub\ne\n", "what bash says")
    await box.run("v=c; unset E l; f() { :; }; cd /", "bash")
    await box.rollback("s")
    like(await box.run(see, "bash"), stdout=first)
    await box.run("exit 3", "bash")
    await box.rollback("s")
    like(await box.run(see, "bash"), stdout=first)
    like(await box.run("echo 1 > here; cat /work/sub/here", "bash"), stdout="1\n")
    await box.rollback("empty")
    like(await box.run("echo [$v$E] $PWD; ls", "bash"), stdout="[] /work\n")


@ROLLBACK.fresh("language:javascript", "files:javascript", seconds=60)
async def javascript_comes_back_by_its_cells(box: Box) -> None:
    await box.run("let n = 1; const seen = [1]; function f() { return n * 10 }", "javascript")
    await box.run("n += 1; seen.push(n)", "javascript")
    await box.snapshot("s")
    await box.run("n = 100; seen.length = 0", "javascript")
    await box.rollback("s")
    like(await box.run("console.log(n, seen.join(), f())", "javascript"), stdout="2 1,2 20\n", status="ok")


@ROLLBACK.fresh()
async def single_paths_come_back_and_all_else_stays(box: Box) -> None:
    await box.run(
        "import os\nx = 1\nos.makedirs('d')\nopen('d/a', 'w').write('old')\nopen('b', 'w').write('old')"
    )
    await box.snapshot("s")
    await box.sh("rm -r d; echo -n new > b; mkdir -p made/since")
    await box.run("x = 2")
    same(
        await box.restore_files("s", ["d/a", "/work/made", "never"]), ["/work/never"], "what was never there"
    )
    like(await box.run("print(x, open('d/a').read(), open('b').read())"), stdout="2 old new\n")
    like(await box.sh("ls"), stdout="b\nd\n")


@ROLLBACK.fresh()
async def paths_outside_of_what_snapshots_hold_are_refused(box: Box) -> None:
    await box.snapshot("s")
    for path in ("/etc/passwd", "../../etc", "/work/../usr/x", "a\0b", ""):
        await refused(box.restore_files("s", [path]), InvalidArgument)


@ROLLBACK.fresh(seconds=60)
async def a_thousand_files_and_ten_megabytes_go_back(box: Box) -> None:
    make = "import os, hashlib, random\nrandom.seed(1)\nos.makedirs('many')\n"
    make += "for n in range(1000): open(f'many/{n}', 'wb').write(random.randbytes(10_000))"
    await box.run(make)
    see = "find many -type f | sort | xargs sha256sum | sha256sum"
    before = (await box.sh(see)).stdout
    await box.snapshot("s")
    await box.sh("rm many/1*; for n in 2 3 4 5; do echo x >> many/$n; done; mv many/99 many/moved")
    holds((await box.sh(see)).stdout != before, "the files differ before the rollback")
    await box.rollback("s")
    like(await box.sh(see), stdout=before)


@BRANCH.fresh("interpreter:python", seconds=40)
async def branches_share_a_past_and_nothing_else(box: Box) -> None:
    await box.run("x = [0]\nopen('/work/f', 'w').write('0')\nimport os; os.makedirs('sub'); os.chdir('sub')")
    await box.snapshot("s")
    await box.run("x = 'gone on'")

    async def work(number: int, one: Box) -> None:
        code = f"x.append({number}); _ = open('/work/f', 'a').write('{number}')\nprint(x, open('/work/f').read(), os.getcwd())"
        like(await one.run(code), stdout=f"[0, {number}] 0{number} /work/sub\n")
        like(await one.sh("cat /work/f"), stdout=f"0{number}")

    async with branched(box, 4, "s") as boxes:
        same(len(boxes), 4, "the number of branches")
        await asyncio.gather(*(work(number, one) for number, one in enumerate(boxes)))
        like(await box.run("print(x, open('/work/f').read())"), stdout="gone on 0\n")
    like(await box.run("print(x, open('/work/f').read())"), stdout="gone on 0\n")


@BRANCH.fresh("interpreter:python")
async def random_numbers_of_branches_go_their_own_ways(box: Box) -> None:
    await box.run("import random; random.seed(1)")
    async with branched(box, 3) as boxes:
        drawn = {(await one.run("print(random.random())")).stdout for one in boxes}
    same(len(drawn), 3, "the number of different draws")


@BRANCH.fresh("interpreter:python")
async def a_branch_from_now_begins_as_it_is_now(box: Box) -> None:
    await box.run(_SET.format(n=5))
    async with branched(box) as (one,):
        await box.run(_SET.format(n=6))
        like(await one.run(_SEE), stdout="5 5 5\n")
        like(await box.run(_SEE), stdout="6 6 6\n")
        same(box.snapshots(), (), "the list of snapshots")


@BRANCH.fresh("interpreter:python")
async def a_branch_has_snapshots_of_its_own(box: Box) -> None:
    await box.run(_SET.format(n=1))
    await box.snapshot("s")
    async with branched(box, 1, "s") as (one,):
        await one.run(_SET.format(n=2))
        await one.snapshot("own")
        await one.run(_SET.format(n=3))
        await one.rollback("own")
        like(await one.run(_SEE), stdout="2 2 2\n")
        same([each.name for each in box.snapshots()], ["s"], "the snapshots of the first")


@BRANCH.opening("interpreter:python")
async def a_branch_may_outlive_what_it_came_from(open_box: Opener) -> None:
    async with open_box() as box:
        await box.run(_SET.format(n=1))
        async with branched(box) as (one,):
            await box.close()
            like(await one.run("x += 1\n" + _SEE), stdout="2 1 1\n")
        await refused(one.run("1"), SandboxLost)


@BRANCH.fresh()
async def a_number_of_branches_that_is_none_is_refused(box: Box) -> None:
    async def of(count: object) -> None:
        async with branched(box, count):
            pass

    for count in (0, -1, 1000, True, "2", 1.5):
        await refused(of(count), InvalidArgument)
