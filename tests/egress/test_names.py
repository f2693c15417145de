"""Names, what is allowed, and addresses: one spelling, label by label, never a private one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraphim_rlm.core.errors import ConfigInvalid, InvalidArgument
from terraphim_rlm.sandbox.egress import addresses, settings
from terraphim_rlm.sandbox.egress.names import Odd, authority, canonical, shown
from terraphim_rlm.sandbox.egress.rules import allowlist

SAME = ["python.org", "Python.ORG", "python.org.", "PYTHON.org."]
ODD = [
    "", ".", "..", "a..b", ".a", "a.b..", "-a.org", "a-.org", "a_b.org", "a b.org", " a.org", "a.org ", "a.org\t",
    "a.org\x00.b.org", "a.org\x00", "a.org\r\nb", "a.org\n", "user@a.org", "a.org@b.org", "a.org:80:90", "a.org/", "a.org#b",
    "a.org?b", "a.org%2eb", "a.org%00", "a\\b.org", "a,b.org", "a;b.org", "*.a.org", "*", "[a.org]", "[::1", "::1]",
    "[fe80::1%eth0]", "[]", "[::ffff:1.2.3]", "1.2.3", "127.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433",
    "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "a.0x1", "a.123", "evi\u043b\u0430.com", "пример.рф", "a\u3002org", "\u212a.org", "\uff41.org", "a" * 64 + ".org",
    ".".join(["a" * 60] * 5), "169.254.169.254.", "0xA9FEA9FE", "1.2.3.4 ",
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_all_spellings_of_a_name_are_one(text: str) -> None:
    assert canonical(text) == "python.org"


@pytest.mark.parametrize("text", [each for each in ODD if each != "169.254.169.254."])
def test_what_is_no_plain_host_is_refused(text: str) -> None:
    with pytest.raises(Odd):
        canonical(text)


@given(st.text(max_size=80))
def test_what_is_understood_is_ascii_labels_or_an_address_and_its_own_spelling(text: str) -> None:
    try:
        host = canonical(text)
    except Odd:
        return
    again = shown(host)
    assert again.isascii()
    assert canonical(again) == host
    if isinstance(host, str):
        assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        assert host == text.lower().removesuffix(".")


@pytest.mark.parametrize(
    "text",
    ["a.org:0", "a.org:65536", "a.org:+80", "a.org: 80", "a.org:\uff180", "a.org:", "a.org:080", ":80"],
)
def test_a_port_has_one_spelling(text: str) -> None:
    with pytest.raises(Odd):
        authority(text, 80)


WILD = [
    ("*.a.com", "x.a.com", True), ("*.a.com", "x.y.a.com", True), ("*.a.com", "a.com", False), ("*.a.com", "xa.com", False),
    ("*.a.com", "a.com.evil.test", False), ("*.a.com", "x.a.com.evil.test", False), ("a.com", "a.com", True),
    ("a.com", "x.a.com", False), ("a.com", "xa.com", False), ("a.com", "a.com.evil.test", False), ("a.com", "a.co", False),
    ("A.COM.", "a.com", True), ("bücher.example", "xn--bcher-kva.example", True), ("*.bücher.example", "a.xn--bcher-kva.example", True),
    ("8.8.8.8", "8.8.8.8", True), ("8.8.8.8", "8.8.8.80", False), ("[2606:4700::1]", "[2606:4700:0::1]", True),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "name", "allowed"), WILD)
def test_what_is_allowed_is_matched_label_by_label(entry: str, name: str, allowed: bool) -> None:
    assert allowlist([entry]).admits(canonical(name), 443) is allowed


def test_an_entry_without_a_port_means_443_and_80_and_one_with_a_port_that_one_only() -> None:
    made = allowlist(["a.com", "b.com:8443"])
    assert [made.admits("a.com", port) for port in (443, 80, 8443)] == [True, True, False]
    assert [made.admits("b.com", port) for port in (443, 80, 8443)] == [False, False, True]
    assert made.ports == (80, 443, 8443)
    assert (
        made.why_not("b.com", 443) == "port 443 of b.com is not allowed; allow it with network=['b.com:443']"
    )
    assert made.why_not("c.com", 443) == "c.com is not allowed; allow it with network=['c.com']"
    assert made.why_not("c.com", 22).endswith("network=['c.com:22']")


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.com", "*.", "https://a.org", "a.org/x", "a.org:0", "a*.org", "x.*.org", "a..org", "::1", "10.0.0", "a b", 5, None, "a" * 400,
     "*.8.8.8.8", "\udce4.org", "\uff41" * 300],
)  # fmt: skip
def test_an_entry_that_is_none_is_refused_with_its_fix(entry: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        allowlist([entry])
    assert "python.org" in refused.value.fix


def test_a_text_in_place_of_a_list_and_too_much_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="a list of names"):
        allowlist("python.org")
    with pytest.raises(InvalidArgument, match="100 names"):
        allowlist([f"a{number}.org" for number in range(101)])
    with pytest.raises(InvalidArgument, match="different ports"):
        allowlist([f"a.org:{number}" for number in range(1, 99)])


NEVER = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.0.1", "169.254.169.254",
    "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.251", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "192.88.99.1",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1", "2002:7f00:1::1", "2002:a9fe:a9fe::", "3fff::1",
    "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_no_address_that_is_not_public_is_ever_fit(text: str) -> None:
    assert addresses.why_not(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "1.1.1.1",
        "151.101.0.223",
        "2606:4700:4700::1111",
        "2a04:4e42::223",
        "100.63.0.1",
        "100.128.0.1",
        "172.32.0.1",
    ],
)
def test_public_addresses_are_fit(text: str) -> None:
    assert addresses.why_not(ip_address(text)) == ""


@given(st.ip_addresses())
def test_an_address_that_is_fit_is_global_and_carries_no_other(address) -> None:  # type: ignore[no-untyped-def]
    if addresses.why_not(address) == "":
        assert address.is_global
        assert not address.is_private
        assert not address.is_multicast
        assert not address.is_loopback
        assert not address.is_link_local
        if address.version == 6:
            assert address.ipv4_mapped is None
            assert address.sixtofour is None
            assert address.teredo is None


def test_this_machine_s_own_addresses_are_known_without_a_packet() -> None:
    assert addresses.is_own(ip_address("127.0.0.1"))
    assert addresses.is_own(ip_address("127.9.9.9"))  # also one that no packet of ours would come from
    assert not addresses.is_own(ip_address("8.8.8.8"))


def test_the_operator_s_settings_are_read_strictly() -> None:
    read = settings.read(
        {
            "TRLM_EGRESS_PRIVATE": "index.example.internal:443, 127.0.0.2:8080,",
            "TRLM_EGRESS_PROXY": "http://Proxy.example:3128/",
        }
    )
    assert read.private == {("index.example.internal", 443), (ip_address("127.0.0.2"), 8080)}
    assert read.upstream == ("proxy.example", 3128)
    assert settings.read({}) == settings.Operator()
    for wrong in (
        {"TRLM_EGRESS_PRIVATE": "index.example.internal"},
        {"TRLM_EGRESS_PROXY": "https://u:p@proxy:1"},
    ):
        with pytest.raises(ConfigInvalid, match="TRLM_EGRESS_"):
            settings.read(wrong)
