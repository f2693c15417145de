"""Runs samples of the corpus, in a sandbox and nowhere else, and looks whether their stand-in did its deed."""

from __future__ import annotations

from collections.abc import Sequence

from terraphim_rlm.sandbox.sandbox import Sandbox
from terraphim_rlm.testing.corpora.corpus import Sample

_RUNNERS = {"python": "python3 {file}", "bash": "bash {file}", "javascript": "node {file}"}
_SUFFIXES = {"python": "py", "bash": "sh", "javascript": "js"}
RUN_HERE = tuple(_RUNNERS)
"""Languages whose samples run as files; the others are compiled by the sandbox itself."""
_FETCHER = '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done\necho \'touch canary\' > "${out:-/dev/stdout}"\n'
"""Stands in for curl: what it fetches leaves the canary."""
_SCRIPT = """\
mkdir -p {place}/bin {place}/precious && cd {place} && echo kept > precious/file
cp /work/fetcher bin/curl && chmod +x bin/curl && cp /work/{name} {file}
export HOME={place} PATH={place}/bin:$PATH
timeout 20 {run} > /dev/null 2> said < /dev/null
cd / && {{ {test} && echo did; tail -c 300 {place}/said 2> /dev/null; }}; true
"""
_TESTS = {"canary": "[ -e {place}/canary ]", "gone": "[ ! -e {place}/precious ]"}


async def unrun(box: Sandbox, chosen: Sequence[Sample]) -> dict[str, str]:
    """Runs each in a folder of its own, which is its home.

    Args:
        box: a sandbox; the samples are harmless beyond their folder, but it is not used for anything else.

    Returns:
        by id, what those said that did not do their deed.
    """
    await box.files.write("fetcher", _FETCHER.encode())
    said = [await _said(box, sample) for sample in chosen]
    return {sample.id: each for sample, each in zip(chosen, said, strict=True) if not each.startswith("did")}


async def _said(box: Sandbox, sample: Sample) -> str:
    """`did` when it did its deed, and what it said."""
    place, file = f"/work/{sample.id}", f"sample.{_SUFFIXES[sample.language]}"
    name = f"{sample.id}.code"
    await box.files.write(name, sample.code.encode("utf-8"))
    run, test = _RUNNERS[sample.language].format(file=file), _TESTS[sample.deed].format(place=place)
    script = _SCRIPT.format(place=place, name=name, file=file, run=run, test=test)
    result = await box.sh(script, timeout=40.0)
    return result.stdout if result.status == "ok" else f"{result.status}: {result.stderr[-300:]}"
