"""Could this do harm? Rules over what code says, by parsing only; nothing that is read is run, imported or compiled.

`judge` is the host's side; everything that touches code is `worker` and what it imports, in a process of its own
with a second and 256 MB for each verdict.
"""
