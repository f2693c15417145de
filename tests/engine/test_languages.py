"""Blocks of a reply run in the language that they are tagged with."""

from __future__ import annotations

from typing import Any

import pytest

from terraphim_rlm import open_sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


async def test_a_javascript_block_runs_as_javascript_and_shares_the_files(ask: Any) -> None:
    async with open_sandbox("bubblewrap") as box:
        if "javascript" not in box.capabilities.languages:
            pytest.skip("no Node.js that sandboxes can read")
    asked = await ask(
        [
            "```javascript\nconst n = [1, 2].map(x => x * 21)[1]; require('fs').writeFileSync('n', String(n)); console.log(n)\n```",
            "```python\nFINAL(open('n').read())\n```",
        ]
    )
    assert "42" in asked.said(2)
    assert asked.answer.value == "42"
