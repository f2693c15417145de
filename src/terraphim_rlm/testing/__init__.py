"""Public doubles: what tests of this package, and of programs built on it, put in place of models.

Imports no pytest.
"""

from terraphim_rlm.llm.scripted import ScriptedModel
from terraphim_rlm.testing.fake_openai import Fake, FakeOpenAI

__all__ = ["Fake", "FakeOpenAI", "ScriptedModel"]
