"""What a decoder raises: its own error, bounded, printable, whatever happened inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.pipeline.decoding import DECODERS, LONGEST_TEXT, LONGEST_VALUE, decoder, reason_of, shown
from thalweg.pipeline.errors import PayloadError, ThalwegError
from thalweg.pipeline.text import printable


class OwnError(ThalwegError):
    """What the decoders here raise."""


class Sulky(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise RecursionError


def failing(error: Exception) -> Callable[[], None]:
    @decoder(OwnError, "the thing")
    def fails() -> None:
        raise error

    DECODERS.remove(fails)
    return fails


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("x"), "the thing cannot be read: KeyError: 'x'"),
        (RecursionError(), "the thing cannot be read: RecursionError"),
        (MemoryError(), "the thing cannot be read: MemoryError"),
        (AttributeError("it has no such thing"), "the thing cannot be read: AttributeError: it has no such thing"),
        (PayloadError("the rate is 0 Hz"), "the thing cannot be read: the rate is 0 Hz"),
        (Sulky(), "the thing cannot be read: Sulky"),
        (OwnError("exactly this"), "exactly this"),
        (OwnError("clear \x1b[2J"), "clear \\x1b[2J"),
    ],
)
def test_whatever_is_raised_inside_becomes_the_decoders_own_error(error: Exception, says: str) -> None:
    with pytest.raises(OwnError) as caught:
        failing(error)()
    assert str(caught.value) == says


@pytest.mark.parametrize("error", [OwnError("x" * 10_000), ValueError("x" * 10_000)])
def test_a_long_text_is_cut(error: Exception) -> None:
    with pytest.raises(OwnError) as caught:
        failing(error)()
    assert len(str(caught.value)) <= LONGEST_TEXT + 50


def test_being_interrupted_is_no_matter_of_the_bytes() -> None:
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt())()  # type: ignore[arg-type]


def test_a_value_is_shown_short_whatever_it_is() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, "x" * 10**6, b"\0" * 10**6, 10**100_000, {"a": [{}] * 1000}, object(), "\x1b]0;x\x07\u202e"):
        assert len(shown(value)) <= LONGEST_VALUE
        assert printable(shown(value), None) == shown(value)


@given(st.text(alphabet=st.characters(codec=None), max_size=2000))
def test_what_an_exception_says_prints_and_is_bounded(text: str) -> None:
    said = reason_of(ValueError(text))
    assert printable(said, None) == said and len(said) <= LONGEST_TEXT
