"""Public doubles: what tests of this package, and of programs built on it, put in place of models.

Imports no pytest.
"""

from terraphim_rlm.llm.scripted import ScriptedModel

__all__ = ["ScriptedModel"]
