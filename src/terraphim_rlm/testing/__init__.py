"""Public doubles: what tests of this package, and of programs built on it, put in place of models.

Imports no pytest.
"""

from terraphim_rlm.llm.manual import ManualModel
from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.testing.fake_anthropic import FakeAnthropic
from terraphim_rlm.testing.fake_openai import Fake, FakeOpenAI
from terraphim_rlm.testing.oracle import OracleLimits, OracleModel

__all__ = [
    "Fake",
    "FakeAnthropic",
    "FakeOpenAI",
    "ManualModel",
    "OracleLimits",
    "OracleModel",
    "ScriptedModel",
]
