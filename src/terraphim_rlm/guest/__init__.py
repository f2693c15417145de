"""What runs inside a sandbox. Standard library only, Python >= 3.9; imports nothing of the host.

`start.py` is the program: it becomes the supervisor, pid 1 of the sandbox, which forks a `cell` for each
Python interpreter and spawns other programs. A cell talks to the host over a channel of its own.
Nothing here is trusted by the host.
"""
