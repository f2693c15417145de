"""A small assembler of classic BPF: the table in `syscalls` becomes the filter that bubblewrap installs.

Layout of what the filter sees (`struct seccomp_data`): number at 0, architecture at 4, six 64-bit arguments from 16.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence
from functools import cache

from terraphim_rlm.core.errors import BackendUnavailable
from terraphim_rlm.sandbox.backends.bubblewrap.syscalls import LAST_KNOWN, RULES, Rule, Test

_LOAD, _JUMP_EQUAL, _JUMP_MORE, _JUMP_HAS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _ERROR, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_X86_64 = 0xC000003E
_EPERM, _ENOSYS = 1, 38
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant; jumps count the instructions to skip."""


@cache
def program() -> bytes:
    """The filter of every sandbox, as an array of `struct sock_filter`.

    Raises:
        BackendUnavailable: this machine is not x86-64; the table's numbers mean other calls there.
    """
    if platform.machine() != "x86_64":
        raise BackendUnavailable(
            f"The embedded sandbox has no seccomp filter for {platform.machine()}, only for x86_64.",
            fix="Name another backend, or run on an x86-64 machine.",
        )
    return assemble(RULES)


def assemble(rules: Sequence[Rule]) -> bytes:
    """Wrong architecture: killed. x32: EPERM. Unknown calls: ENOSYS. Then the rules, each call at most once."""
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _X86_64),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_MORE, 0, 1, _X32 - 1),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_JUMP_MORE, 0, 1, LAST_KNOWN),
        (_RETURN, 0, 0, _ERROR | _ENOSYS),
    ]
    numbers = [rule.number for rule in rules]
    assert len(numbers) == len(set(numbers)), "a call has two rules; only the first would ever be reached"
    for rule in rules:
        body = _body(rule)
        code += [(_JUMP_EQUAL, 0, len(body), rule.number), *body]
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _body(rule: Rule) -> list[Instruction]:
    """What follows once the number matched; always returns, since the arguments overwrite the loaded number."""
    denied: Instruction = (_RETURN, 0, 0, _ERROR | rule.error)
    if not rule.alternatives:
        return [denied]
    body: list[Instruction] = []
    for tests in rule.alternatives:
        alternative = [denied]
        for test in reversed(tests):
            alternative = _test(test, len(alternative)) + alternative
        body += alternative
    return [*body, (_RETURN, 0, 0, _ALLOW)]


def _test(test: Test, rest: int) -> list[Instruction]:
    """Goes on when the test holds, else skips the `rest` of its alternative."""
    load: Instruction = (_LOAD, 0, 0, _ARGUMENTS + 8 * test.argument)
    if isinstance(test.value, tuple):
        assert test.op == "outside"
        left = len(test.value) - 1
        return [load, *((_JUMP_EQUAL, left - i + rest, 0, value) for i, value in enumerate(test.value))]
    jumps = {"equals": (_JUMP_EQUAL, 0, rest), "has": (_JUMP_HAS, 0, rest), "differs": (_JUMP_EQUAL, rest, 0)}
    operation, when_true, when_false = jumps[test.op]
    return [load, (operation, when_true, when_false, test.value)]
