"""Which key goes where, and that no message holds one."""

from __future__ import annotations

import pytest

from thalweg.models.http import Address, HttpError, key_for

SECRET = "sk-SECRET123"
HERE, OPENAI, FOREIGN, FOG = (
    "http://127.0.0.1:8000/v1",
    "https://api.openai.com/v1",
    "https://other.example/v1",
    "http://fog:8000/v1",
)


def key(url: str, variable: str | None = None, **environ: str) -> str | None:
    return key_for(Address.parse(url), variable, environ)


def refusal(url: str, variable: str | None = None, **environ: str) -> str:
    with pytest.raises(HttpError) as caught:
        key(url, variable, **environ)
    assert "SECRET123" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("url", [HERE, OPENAI, "http://[::1]:80/v1", "http://localhost:9/v1"])
def test_the_key_of_openai_goes_to_openai_and_to_this_machine(url: str) -> None:
    assert key(url, OPENAI_API_KEY=SECRET) == SECRET


@pytest.mark.parametrize("url", [FOREIGN, FOG, "http://api.openai.com/v1", "https://api.openai.com.evil.example/v1"])
def test_a_key_that_nobody_named_is_not_sent_elsewhere(url: str) -> None:
    assert key(url, OPENAI_API_KEY=SECRET) is None


def test_the_key_of_a_provider_is_refused_elsewhere_with_the_way_to_allow_it() -> None:
    said = refusal(FOREIGN, "OPENAI_API_KEY", OPENAI_API_KEY=SECRET)
    assert "belongs to api.openai.com" in said
    assert "THALWEG_KEYS='OPENAI_API_KEY=https://other.example'" in said


def test_a_key_of_ones_own_goes_where_the_file_says_by_https() -> None:
    assert key(FOREIGN, "HOUSE_API_KEY", HOUSE_API_KEY=SECRET) == SECRET


def test_no_key_goes_out_in_clear() -> None:
    assert "without encryption" in refusal(FOG, "HOUSE_API_KEY", HOUSE_API_KEY=SECRET)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "HOME", "GITHUB_TOKEN", "DATABASE_URL", "PATH", "SSH_KEY"])
@pytest.mark.parametrize("url", [HERE, OPENAI, FOREIGN])
def test_a_variable_that_is_no_key_of_a_model_server_is_sent_nowhere(name: str, url: str) -> None:
    assert "does not look like the key of a model server" in refusal(url, name, **{name: SECRET})


def test_the_operator_may_bind_any_variable_to_any_address_also_in_clear() -> None:
    bound = "ODD_NAME=http://fog:8000, HOUSE_API_KEY=other.example"
    assert key(FOG, "ODD_NAME", ODD_NAME=SECRET, THALWEG_KEYS=bound) == SECRET
    assert key(FOREIGN, "HOUSE_API_KEY", HOUSE_API_KEY=SECRET, THALWEG_KEYS=bound) == SECRET


def test_what_is_bound_goes_nowhere_else_and_what_is_not_bound_stays_here() -> None:
    bound = "OPENAI_API_KEY=http://fog:8000"
    assert "to other addresses" in refusal(OPENAI, "OPENAI_API_KEY", OPENAI_API_KEY=SECRET, THALWEG_KEYS=bound)
    assert "does not bind HOUSE_API_KEY" in refusal(FOREIGN, "HOUSE_API_KEY", HOUSE_API_KEY=SECRET, THALWEG_KEYS=bound)
    assert key(HERE, "HOUSE_API_KEY", HOUSE_API_KEY=SECRET, THALWEG_KEYS=bound) == SECRET


@pytest.mark.parametrize("bindings", ["OPENAI_API_KEY", "OPENAI_API_KEY=", "OPENAI_API_KEY=http://", "K=ftp://x"])
def test_bindings_that_cannot_be_read_are_refused(bindings: str) -> None:
    assert "THALWEG_KEYS" in refusal(OPENAI, OPENAI_API_KEY=SECRET, THALWEG_KEYS=bindings)


def test_a_file_may_want_none() -> None:
    assert key(HERE, "", OPENAI_API_KEY=SECRET) is None


@pytest.mark.parametrize("variable", [None, "OPENAI_API_KEY", "HOUSE_API_KEY", "AWS_SECRET_ACCESS_KEY"])
def test_where_there_is_no_key_none_is_missed(variable: str | None) -> None:
    assert key(FOREIGN, variable) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"{SECRET}\n", "line break"),
        (f"{SECRET}\r\n", "line break"),
        (f" {SECRET}", "blank"),
        (f"\u201c{SECRET}\u201d", "quotation mark"),
        (f"{SECRET}\nX-Other: 1", "cannot be part of a key"),
        (f"sk-\u00e9{SECRET}", "cannot be part of a key"),
        (f"{SECRET}\x00", "cannot be part of a key"),
        (f"sk\ud83d{SECRET}", "cannot be part of a key"),
    ],
)
def test_a_value_that_is_no_key_is_refused_in_words_without_it(value: str, said: str) -> None:
    assert said in refusal(HERE, OPENAI_API_KEY=value)
