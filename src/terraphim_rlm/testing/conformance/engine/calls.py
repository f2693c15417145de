"""Sub-calls and child nodes."""

from __future__ import annotations

from terraphim_rlm.testing.conformance.checks import holds, same
from terraphim_rlm.testing.conformance.engine.kit import (
    CHILD,
    LOOK,
    Engine,
    case,
    gives,
    news,
    requests,
    told,
)

_CALLS, _CHILDREN = "offers:calls", "offers:children"
_RLMS = "rlms 0.1.3, measured: "
_ECHO = [["", "<{prompt}>"]]


@case("calls", "our attack catalogue, row H17", _CALLS)
async def a_batch_answers_in_the_order_of_its_prompts(engine: Engine) -> None:
    code = "r = llm_query_batched(['p%d' % i for i in range(40)])\nok = r == ['<p%d>' % i for i in range(40)]"
    await gives(engine, "True", LOOK, (code, "str(ok)"), subs=_ECHO, limits={"calls": 100})


@case("calls", "rlms 0.1.3, read: errors are returned as ordinary strings", _CALLS)
async def a_call_that_failed_raises_and_its_text_is_no_answer(engine: Engine) -> None:
    code = "try:\n    r = llm_query('bad')\n    out = 'returned'\nexcept Exception:\n    out = 'raised'"
    await gives(engine, "raised", LOOK, (code, "out"), subs=[["bad", {"fail": 400}]])


@case("calls", "our attack catalogue, row H17", _CALLS)
async def a_failed_call_does_not_end_the_run(engine: Engine) -> None:
    code = "try:\n    llm_query('bad')\nexcept Exception:\n    pass\nr = llm_query('good')"
    await gives(engine, "yes", LOOK, (code, "r"), subs=[["bad", {"fail": 400}]])


@case("calls", "https://github.com/alexzhang13/rlm/issues/26", _CALLS, "offers:imports")
async def calls_of_a_batch_are_made_side_by_side(engine: Engine) -> None:
    code = (
        "import time\nt = time.perf_counter()\nr = llm_query_batched(['p'] * 60)\n"
        "took = time.perf_counter() - t\nfast = took < 60 * 0.1 / 2"
    )
    await gives(engine, "True", LOOK, (code, "str(fast)"), latency=0.1, limits={"calls": 100})


@case("calls", _RLMS + "batches are 16 wide: 200 calls of 50 ms take 0.67 s", _CALLS, "offers:imports")
async def two_hundred_calls_are_in_flight_at_once(engine: Engine) -> None:
    code = (
        "import time\nt = time.perf_counter()\nr = llm_query_batched(['p'] * 200)\n"
        "took = time.perf_counter() - t\nwide = took < 200 * 0.2 / 50"
    )
    await gives(engine, "True", LOOK, (code, "str(wide)"), latency=0.2, limits={"calls": 300})


@case("calls", "our list of points, 8", _CALLS, "offers:imports")
async def calls_from_threads_each_get_their_own_answer(engine: Engine) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n    r = list(pool.map(llm_query, ['p%d' % i for i in range(24)]))\n"
        "ok = r == ['<p%d>' % i for i in range(24)]"
    )
    await gives(engine, "True", LOOK, (code, "str(ok)"), subs=_ECHO, limits={"calls": 100})


@case("calls", "https://github.com/stanfordnlp/dspy/issues/9289", _CALLS)
async def the_limit_of_calls_is_never_passed(engine: Engine) -> None:
    code = "try:\n    llm_query_batched(['p'] * 30)\nexcept Exception:\n    pass\nfor i in range(30):\n    try:\n        llm_query('p')\n    except Exception:\n        pass"
    result = await told(engine, LOOK, code, ("z = 1", "z"), limits={"calls": 12, "turns": 4})
    most = 12 + 4  # some engines count turns by themselves
    holds(result["calls"] <= most, f"{result['calls']} calls reached the provider, with 12 allowed")


@case("calls", "https://github.com/alexzhang13/rlm/issues/38", _CALLS)
async def a_prompt_over_the_models_window_is_refused_with_its_size(engine: Engine) -> None:
    code = "try:\n    llm_query('z ' * 2000000)\n    out = 'sent'\nexcept Exception as e:\n    out = str(e)"
    result = await told(engine, LOOK, (code, "out"))
    holds(
        result["answer"] not in (None, "sent"), f"a prompt of four million characters was {result['answer']}"
    )
    holds(any(c.isdigit() for c in str(result["answer"])), f"the size is not said: {result['answer']!r}")


@case("calls", "our attack catalogue, row G11", _CALLS)
async def code_cannot_choose_another_model(engine: Engine) -> None:
    code = "try:\n    r = llm_query('p', model='attacker/model')\n    out = 'answered'\nexcept Exception:\n    out = 'refused'"
    await gives(engine, "refused", LOOK, (code, "out"))


@case("children", "our contract: a child has its own interpreter", _CHILDREN)
async def a_child_has_its_own_variables_and_its_own_input(engine: Engine) -> None:
    root = f"x = 'root'\nr = rlm_query('{CHILD}?', 'child input')"
    child = ["seen = 'x' in globals()\nx = len(context)", ("n = [seen, x]", "str(n)")]
    result = await told(engine, LOOK, (root, "str(r) + x"), child=child)
    same(result["answer"], "[False, 11]root", "what child and root have")


@case(
    "children",
    "our contract: isolate=True is a sandbox of its own",
    _CHILDREN,
    "offers:isolated children",
)
async def an_isolated_child_shares_its_input_and_nothing_else(engine: Engine) -> None:
    root = (
        "import subprocess\nopen('mine.txt', 'w').write('of the root')\np = subprocess.Popen(['sleep', '50'])\n"
        f"r = rlm_query('{CHILD}?', context, isolate=True)\np.kill()"
    )
    looks = (
        "import glob, os\nfiles = [os.path.join(d, f) for t in ('/work', '/tmp') for d, _, fs in os.walk(t) for f in fs]\n"
        "seen = [f for f in files if 'mine.txt' in f]\n"
        "busy = [p for p in glob.glob('/proc/[0-9]*/cmdline') if b'sleep' in open(p, 'rb').read()]"
    )
    child = [looks, ("n = [len(context), len(seen), len(busy)]", "str(n)")]
    await gives(engine, "[10, 0, 0]", LOOK, (root, "str(r)"), child=child)


@case(
    "children",
    _RLMS + "parallel children swap sys.stdout: 7 of 7 outputs corrupted",
    _CHILDREN,
    "offers:batched children",
    "offers:imports",
)
async def children_side_by_side_do_not_mix_what_they_print(engine: Engine) -> None:
    root = f"r = rlm_query_batched(['{CHILD} %d?' % i for i in range(6)], 'abc')"
    code = "import random, time\ntag = 'tag' + str(random.random())[2:12]\nfor i in range(20):\n    print(tag)\n    time.sleep(0.002)"
    result = await told(engine, LOOK, (root, "str(r)"), child=[code, ("n = len(context)", "n")])
    outputs = [text for text in (news(sent) for sent in requests(result, CHILD)) if "tag" in text]
    holds(
        len(outputs) == 6, f"{len(outputs)} of 6 children were shown an output; they gave {result['answer']}"
    )
    for output in outputs:
        tags = [line for line in output.splitlines() if line.startswith("tag")]
        holds(
            len(tags) == 20 and len(set(tags)) == 1,
            f"a child was shown {len(tags)} lines of {len(set(tags))} children",
        )


@case("children", "https://github.com/stanfordnlp/dspy/issues/9289", _CHILDREN)
async def children_that_ask_children_for_ever_come_to_an_end(engine: Engine) -> None:
    again = f"try:\n    r = rlm_query('{CHILD}?', context)\nexcept Exception as e:\n    r = 'deep'"
    result = await told(engine, LOOK, (again, "str(r)"), child=[LOOK, (again, "str(r)")], limits={"depth": 3})
    holds(result["calls"] < 60, f"{result['calls']} calls were made, with a depth of 3 allowed")
    holds(result["answer"] is not None or result["error"] is not None, "it has no end")


@case("children", "our attack catalogue, row I-10", _CALLS, _CHILDREN, seconds=90)
async def nested_children_with_many_calls_do_not_wait_for_each_other(engine: Engine) -> None:
    code = f"r = llm_query_batched(['p'] * 20)\ntry:\n    c = rlm_query('{CHILD}?', context)\nexcept Exception as e:\n    c = 'deep'"
    await gives(
        engine,
        20,
        LOOK,
        (code, "len(r)"),
        child=[LOOK, (code, "len(r)")],
        latency=0.01,
        limits={"depth": 5, "calls": 1000},
    )
