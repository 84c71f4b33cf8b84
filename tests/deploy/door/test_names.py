"""Whom a request is from, which names a server answers to, and which pages may ask."""

from __future__ import annotations

import pytest

from thalweg.deploy.door.addresses import NetworkError, forwarded, network_of, trusted, who
from thalweg.deploy.door.names import Names, WrongName

PROXIES = (network_of("10.0.0.0/8"), network_of("fd00::/8"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_ipv6_network_of_64_bits_is_one_address(one: str, other: str, same: bool) -> None:
    assert (who(one) == who(other)) is same


@pytest.mark.parametrize(
    ("peer", "header", "found"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "evil, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, evil", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "[2001:db8::7]", who("2001:db8::7")),
        ("10.0.0.1", ",".join(["1.2.3.4"] * 5000), "1.2.3.4"),
        ("", "203.0.113.9", ""),
    ],
)
def test_only_a_trusted_proxy_is_believed_and_only_what_it_wrote_itself(peer: str, header: str, found: str) -> None:
    assert forwarded(peer, header, PROXIES) == found


def test_a_network_that_is_none_is_refused_and_one_of_another_family_matches_nothing() -> None:
    with pytest.raises(NetworkError, match="'proxy' is no address"):
        network_of("proxy")
    assert not trusted("::1", (network_of("0.0.0.0/0"),))


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost:8080", True),
        ("LOCALHOST.", True),
        ("127.0.0.1:8080", True),
        ("127.9.9.9", True),
        ("[::1]:8080", True),
        ("10.9.9.1:8080", True),
        ("[::ffff:10.9.9.1]", True),
        ("chat.example.org", True),
        ("Chat.Example.org:443", True),
        ("10.9.9.2:8080", False),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("chat.example.org.evil.example", False),
        ("evil.example@localhost", False),
        ("localhost:8080@evil", False),
        ("localhost\\@evil", False),
        ("localhost/evil", False),
        ("localhost:80:80", False),
        ("localhost:eight", False),
        ("[::1", False),
        ("loc alhost", False),
        ("ⅼocalhost", False),
        ("0.0.0.0", False),
        ("a" * 300, False),
        ("", False),
    ],
)
def test_a_server_answers_to_loopback_its_own_address_and_names_it_was_told(host: str, known: bool) -> None:
    assert Names(["chat.example.org"]).knows(host, "10.9.9.1") is known


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "same"),
    [
        ("http://localhost:8080", "http", "localhost:8080", True),
        ("http://localhost", "http", "localhost:80", True),
        ("https://localhost:8080", "http", "localhost:8080", False),
        ("http://localhost:8081", "http", "localhost:8080", False),
        ("http://localhost:8080@evil", "http", "localhost:8080", False),
        ("http://evil", "http", "localhost:8080", False),
        ("null", "http", "null", False),
        ("file://", "http", "localhost", False),
        ("", "http", "", False),
        ("https://chat.example.org", "http", "chat.example.org", True),
        ("http://chat.example.org", "https", "chat.example.org", False),
        ("http://[::1]:8080", "http", "[::1]:8080", True),
    ],
)
def test_a_page_is_the_servers_own_where_scheme_name_and_port_agree(
    origin: str, scheme: str, host: str, same: bool
) -> None:
    assert Names(["chat.example.org"]).same(origin, scheme, host) is same


def test_other_pages_are_those_that_were_named_and_what_is_no_origin_is_refused() -> None:
    names = Names(origins=["https://App.example.org/", "http://localhost:3000"])
    assert names.listed("https://app.example.org") and names.listed("http://localhost:3000")
    assert not names.listed("https://app.example.org:444") and not names.listed("null")
    for wrong in ("app.example.org", "https://", "ftp://x", "null", "*"):
        with pytest.raises(WrongName):
            Names(origins=[wrong])
    for wrong in ("https://chat.example.org", "chat.example.org:80", "a b", ""):
        with pytest.raises(WrongName):
            Names([wrong])
