"""Looking things up with a small model: the host writes the program, the model decides leaves.

`question.analyse` turns a question into a plan; the guest's `retrieve.search` finds sentences;
`leaves` asks the model small questions under a grammar that the host builds; `judge` lets an answer
through only when the host's own copy of the input supports it; `pipeline` has the cell that searches and the way to the model, and `engine/run.py` ties these together.
"""

from terraphim_rlm.engine.lookup.decide import LookupResult, decide
from terraphim_rlm.engine.lookup.pipeline import drive, program
from terraphim_rlm.engine.lookup.question import Plan, analyse

__all__ = ["LookupResult", "Plan", "analyse", "decide", "drive", "program"]
