"""The one table of errors: every class has a row and every row has every column."""

from __future__ import annotations

import dataclasses
import pickle
from typing import get_args

import pytest

from terraphim_rlm.core import errors
from terraphim_rlm.core.values import Termination

EXIT_CODES = {*range(1, 13), 130}


def _subclasses(cls: type[errors.RlmError]) -> list[type[errors.RlmError]]:
    below = [each for child in cls.__subclasses__() for each in _subclasses(child)]
    return [cls, *below] if cls.__module__ == errors.__name__ else below


LEAVES = [each for each in _subclasses(errors.RlmError) if not each.__subclasses__()]


def test_every_error_that_is_raised_has_a_row_of_its_own() -> None:
    assert [each.__name__ for each in LEAVES if each not in errors.TABLE] == []


@pytest.mark.parametrize("cls", list(errors.TABLE), ids=lambda cls: cls.__name__)
def test_every_row_fills_every_column_with_a_value_that_can_be(cls: type[errors.RlmError]) -> None:
    row = errors.TABLE[cls]
    assert all(value not in (None, "") for value in dataclasses.astuple(row))
    assert row.exit_code in EXIT_CODES
    assert 400 <= row.http < 600
    assert row.mcp < 0
    assert row.termination in get_args(Termination)
    assert row.blame in ("user", "provider", "us")
    assert row.fix.endswith(".")


def test_no_two_errors_share_a_code() -> None:
    codes = [row.code for row in errors.TABLE.values()]
    assert sorted(set(codes)) == sorted(codes)


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_the_tree_in_the_docstring_names_every_class(cls: type[errors.RlmError]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__.split()


@pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)
def test_an_error_keeps_all_it_says_across_a_process_boundary(cls: type[errors.RlmError]) -> None:
    error = cls("it broke", fix="mend it", path="x")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.to_json() == error.to_json() == {
        "code": errors.TABLE[cls].code, "message": "it broke", "fix": "mend it", "details": {"path": "x"},
    }  # fmt: skip
