"""What is an address, and which are this machine's."""

from __future__ import annotations

import pytest

from thalweg.models.http import Address, HttpError, quoted


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8/v1", "http://127.9.9.9", "http://localhost", "http://a.localhost:1", "http://[::1]:8/v1",
     "http://[::ffff:127.0.0.1]", "http://0.0.0.0:80", "http://LOCALHOST."],
)  # fmt: skip
def test_these_are_this_machine(text: str) -> None:
    assert Address.parse(text).loopback


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.1",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://fog:80",
        "http://[fe80::1]",
    ],
)
def test_these_are_not(text: str) -> None:
    assert not Address.parse(text).loopback


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "ftp://x",
        "http://",
        "http://h:99999",
        "http://[::1",
        "http://a b",
        "http://\x1b]0;x",
        "file:///etc/passwd",
    ],
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(HttpError, match="expected something like"):
        Address.parse(text)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(HttpError) as caught:
        Address.parse("https://me:SECRET@host/v1")
    assert "SECRET" not in str(caught.value)


def test_a_query_goes_along_and_is_not_shown() -> None:
    address = Address.parse("https://host/v1/?api-version=1&key=SECRET")
    assert address.at("chat/completions") == "https://host/v1/chat/completions?api-version=1&key=SECRET"
    assert str(address) == "https://host/v1"


def test_the_origin_leaves_out_a_port_that_goes_without_saying() -> None:
    assert Address.parse("https://host:443/v1").origin == "https://host"
    assert Address.parse("http://[::1]:8000/v1").origin == "http://[::1]:8000"


def test_foreign_words_are_shown_short_on_one_line_and_without_what_moves_a_terminal() -> None:
    assert quoted("a\x1b[2J\x07b\n c\u202etxt\u2028d\ud83d\x9b1me", 100) == "a [2J b ctxt d 1me"
    assert quoted("x" * 10**6, 5) == "xxxxx…"
    assert quoted("👩\u200d🚀 नमस्\u200dते") == "👩\u200d🚀 नमस्\u200dते"
