"""How two systems that held the same conversation are judged."""

from __future__ import annotations

from thalweg.deploy.bench.dialogue.headtohead import Asked, SystemMeasured, judge

ASKED = [Asked("What is it?", 1.0, 2.0, 8.0), Asked("And that?", 8.0, 9.0, 15.0)]


def judged(heard_s: list[float], *words: tuple[float, str]) -> SystemMeasured:
    heard = SystemMeasured()
    told = [(100 + round(at * 1e9), text) for at, text in words]
    judge(heard, ASKED, {"started_ns": 100, "heard_ns": [100 + round(at * 1e9) for at in heard_s], "words": told})
    return heard


def test_an_answer_counts_from_the_end_of_its_question_to_the_next_one() -> None:
    heard = judged([2.5, 2.6, 15.5], (2.2, "What is it?"), (9.1, "And that?"))
    assert (heard.first_audio, heard.missed, heard.too_soon) == ([500.0], 1, 0)
    assert (heard.wrong, heard.words) == (0, 5)


def test_what_was_played_as_the_question_ended_is_no_answer_to_it() -> None:
    heard = judged([1.9, 2.1, 9.4])
    assert (heard.first_audio, heard.missed, heard.too_soon) == ([400.0], 0, 1)


def test_words_are_those_heard_until_the_next_question_put_together() -> None:
    assert judged([], (1.5, "What is"), (7.9, "it"), (8.1, "And hat")).wrong == 1


def test_an_answer_that_a_question_interrupts_ends_with_its_last_sound_before_the_end_of_the_question() -> None:
    assert judged([7.9, 8.1, 8.25, 9.5]).interrupt == [250.0]
    assert judged([7.95]).interrupt == [0.0], "what was cut off at once"
    assert judged([7.5, 8.1]).interrupt == [], "what was over before"


def test_what_is_only_there_to_interrupt_is_not_counted_as_a_question() -> None:
    heard = SystemMeasured()
    judge(heard, [Asked("Stop.", 1.0, 2.0, 8.0, counts=False)], {"started_ns": 0, "heard_ns": [], "words": []})
    assert (heard.missed, heard.words) == (0, 0)
