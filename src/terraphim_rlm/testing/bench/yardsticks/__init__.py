"""Long-input tasks made from a seed, played by scripted policies and an oracle: the engine is measured, no model.

The tasks follow published descriptions with code and text of our own: S-NIAH and further RULER tasks (Hsieh et al., arXiv
2404.06654), OOLONG (Bertsch et al., arXiv 2511.02817) and OOLONG-Pairs (Zhang et al., arXiv 2512.24601).
"""
