"""Which texts name packages, and which are refused before pip sees them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraphim_rlm.core.errors import InvalidArgument
from terraphim_rlm.sandbox.packages.requirements import MOST, listed, normalised

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
CLAUSES = st.sampled_from(["==1.0", ">=2", "<3", "!=2.1.*", "~=4.5", "===1+local"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("numpy", "numpy"),
        ("NumPy == 2.*", "numpy==2.*"),
        ("ruamel.yaml", "ruamel-yaml"),
        ("a__b", "a-b"),
        ("pandas[Excel, aws_s3] <3,>= 2", "pandas[aws-s3,excel]<3,>=2"),
        ("x[]", "x"),
    ],
)
def test_one_package_has_one_spelling(given: str, meant: str) -> None:
    assert normalised([given]) == (meant,)


@pytest.mark.parametrize(
    "hostile",
    [
        "", " ", "-r /etc/passwd", "--index-url=http://x", "-e .", ".", "./x", "/etc/passwd", "../x", "a/b", "a\\b",
        "x @ file:///etc/passwd", "x@http://y", "git+https://y/x", "http://y/x.whl", "x; python_version < '4'",
        "x --global-option=y", "x\n-r y", "x==1\n--pre", "x==1 y==2", "x==", "==1", "x=1", "x==$(id)", "x==`id`", "x==1;2",
        "x\0", "naïve", "\uff4eumpy", "x" * 201, "_x", "x-", ".x", "[x]", "x[y", "x>1<", "x>=1,,<2", "x[-r y]", "x==-r",
        None, 7, b"numpy", ["numpy"],
    ],
)  # fmt: skip
def test_all_else_is_refused_by_name(hostile: object) -> None:
    with pytest.raises(InvalidArgument) as refused:
        normalised([hostile])  # type: ignore[list-item]
    assert "numpy" in refused.value.fix


def test_a_text_is_no_list_of_packages_and_too_many_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="sequence"):
        normalised("numpy")
    assert len(normalised(f"p{n}" for n in range(MOST))) == MOST
    with pytest.raises(InvalidArgument, match="at most"):
        normalised(f"p{n}" for n in range(10**9))


@given(st.lists(st.tuples(NAMES, st.lists(CLAUSES, max_size=3, unique=True)), max_size=5))
def test_order_case_and_blanks_change_nothing(wanted: list[tuple[str, list[str]]]) -> None:
    plain = [name + ",".join(clauses) for name, clauses in wanted]
    other = [f" {name.upper()}  {' , '.join(reversed(clauses))} " for name, clauses in reversed(wanted)]
    assert normalised(plain) == normalised(other) == normalised(normalised(plain))


@given(st.lists(st.tuples(NAMES, st.lists(CLAUSES, max_size=3)), max_size=5), st.sampled_from([",", ", "]))
def test_an_option_with_commas_lists_what_was_joined(wanted: list[tuple[str, list[str]]], comma: str) -> None:
    packages = [f"{name}[a,b]{','.join(clauses)}" for name, clauses in wanted]
    assert listed(comma.join(packages)) == packages


@given(st.text(max_size=60))
def test_whatever_passes_holds_nothing_that_pip_reads_as_an_option_path_or_address(text: str) -> None:
    try:
        (package,) = normalised([text])
    except InvalidArgument:
        return
    assert package[0].isalnum()
    assert set(package).isdisjoint("/\\@:;'\"$` \n\t#%")
