"""What of a decode is not believed."""

from __future__ import annotations

from thalweg.models.speech.whisper.guards import is_monotonous, is_silence, loop, most_tokens


def evenly(count: int, each_s: float) -> list[tuple[float, float]]:
    return [(n * each_s, (n + 1) * each_s) for n in range(count)]


def test_a_loop_is_found_where_nobody_speaks_so_fast() -> None:
    words = ["so", "thank", "you", "thank", "you", "thank", "you", "thank", "you"]
    assert loop(words, evenly(9, 0.05)) == (3, 9)


def test_who_says_the_same_again_and_takes_the_time_for_it_is_believed() -> None:
    assert loop(["five"] * 6, evenly(6, 0.35)) is None
    assert loop(["row", "row", "row", "your", "boat"], evenly(5, 0.3)) is None


def test_twice_is_no_loop() -> None:
    assert loop(["bye", "bye"], evenly(2, 0.01)) is None


def test_a_text_that_says_one_thing_over_and_over_is_monotonous_and_a_short_one_never() -> None:
    assert is_monotonous("I think that it is. " * 20)
    assert not is_monotonous("no no no no no no")
    assert not is_monotonous("And Mr. John Dashwood had then leisure to consider how much there might be in his power.")


def test_silence_needs_both_signs() -> None:
    assert is_silence(0.8, -1.3)
    assert not is_silence(0.8, -0.3)
    assert not is_silence(0.2, -1.3)


def test_the_cap_grows_with_the_audio() -> None:
    assert most_tokens(1.0) < most_tokens(10.0) < 150
