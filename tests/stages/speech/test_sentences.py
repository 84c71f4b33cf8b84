"""Cutting replies into pieces: early, at places where a reader would breathe, losing nothing."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.deploy.testing import packet, run_stage
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Failure
from thalweg.stages.speech.sentences import Sentences


def pieces(text: str, **settings: int) -> list[str]:
    tokens = [packet(Token(text=part), epoch=1) for part in re.findall(r"\s*\S+|\s+$", text)]
    tokens.append(packet(Token(text="", last=True), epoch=1))
    return [sentence.text for sentence in run_stage(Sentences(**settings), tokens).payloads() if sentence.text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris is the capital. It is old.", ["Paris is the capital.", "It is old."]),
        ("It weighs 3.5 kg. Heavy!", ["It weighs 3.5 kg.", "Heavy!"]),
        ("Dr. Who came, e.g. today.", ["Dr. Who came,", "e.g. today."]),
        ("The sky is blue because of air, and so on.", ["The sky is blue", "because of air, and so on."]),
        ("No, never.", ["No, never."]),
        ("The largest planet of our own system is far away.", ["The largest planet of our own system", "is far away."]),
        ("a b c d e f g h i j k l m n", ["a b c d e f g h i", "j k l m n"]),
        ('He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ("1. First do this. 2. Then that.", ["1. First do this.", "2. Then that."]),
        ("no full stop at all", ["no full stop at all"]),
        ("The moon is about 384,400 kilometers away.", ["The moon is about", "384,400 kilometers away."]),
        ("He was born in 1969.", ["He was born in 1969."]),
        ("It is 10,000 steps.", ["It is 10,000 steps."]),
        ("Das sind etwa 1,5 Meter.", ["Das sind etwa 1,5 Meter."]),
        ("The numbers are 1,2,3 here.", ["The numbers are 1,2,3 here."]),
        ("Some say it is 31415 and more.", ["Some say it is", "31415 and more."]),
    ],
)
def test_pieces_end_where_a_reader_would_breathe(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_text_without_an_end_is_cut_at_a_space() -> None:
    assert max(map(len, pieces("word " * 200, longest=50))) <= 50


def test_a_piece_comes_out_while_the_reply_still_forms() -> None:
    tokens = [packet(Token(text=t), time=i) for i, t in enumerate(["One two three.", " Four"])]
    assert [s.text for s in run_stage(Sentences(), tokens).payloads()] == ["One two three."]


def test_a_reply_that_failed_is_not_spoken_to_its_end() -> None:
    failure = Failure(origin="chat", epoch=1, message="gone")
    items = [
        packet(Token(text="This will"), time=0, epoch=1),
        (1, failure),
        packet(Token(text="Next."), time=2, epoch=2),
        packet(Token(text="", last=True), time=3, epoch=2),
    ]
    assert [s.text for s in run_stage(Sentences(), items).payloads()] == ["Next."]


@given(st.text(alphabet="ab .,;!?\n", max_size=120), st.integers(min_value=20, max_value=60))
def test_nothing_but_space_is_lost(text: str, longest: int) -> None:
    assert "".join("".join(pieces(text, longest=longest)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Dr. Smith lives in the U.S. capital today. Yes", 42),
        ("We meet at 9 a.m. sharp. Yes", 24),
        ("It is 3:30 p.m. Let us go. Yes", 15),
        ("J. R. R. Tolkien wrote it. Yes", 26),
        ("(Dr. Jones agrees.) Fine. Yes", 19),
        ('"Mr. Green is here." Then', 20),
        ("It opens on Jan. 5 at noon. Yes", 27),
        ("The answer is no. I am sure.", 17),
        ("There are 12. You have 3.", 13),
        ("1. Wash it. 2. Dry it.", 11),
        ("Wait... what? Yes", 13),
        ("Go to www.example.com. It is free.", 22),
        ("東京です。大阪です", 5),
        ("هل أنت هنا؟نعم", 11),
        ("यह है।वह", 6),
        ("See Fig. ", 0),
        ("It is 9 p.m. ", 0),
        ("今日は。", 0),
    ],
)
def test_a_sentence_ends_at_its_own_mark_in_any_script(text: str, ends: int) -> None:
    from thalweg.stages.speech.sentence_ends import end_of_sentence

    assert end_of_sentence(text) == ends


def heard(text: str, sizes: list[int]) -> str:
    """What is said of a reply whose tokens are so long, one after the other and over again."""
    tokens, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= len(text):
            break
        tokens.append(packet(Token(text=text[at : at + size]), epoch=1))
        at += size
    tokens.append(packet(Token(text="", last=True), epoch=1))
    payloads = run_stage(Sentences(), tokens).payloads()
    assert "".join("".join(s.text for s in payloads).split()) == "".join(text.split())
    return " ".join(s.said for s in payloads if s.said)


REPLY = """Here is the code:

```python
def add(a, b):
    # Add, please. Really!
    return a + b
```

See [the long, winding guide. Really](https://example.com/a,b?c=d e) and `f(a, b)` now. Bye."""


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_code_and_links_are_left_out_wherever_tokens_and_pieces_end(sizes: list[int]) -> None:
    said = "Here is the code: See the long, winding guide. Really and f(a, b) now. Bye."
    assert heard(REPLY, sizes) == said


def test_the_next_reply_does_not_begin_in_the_code_of_the_one_before() -> None:
    items = [
        packet(Token(text="```py\nprint(1)\n"), epoch=1),
        packet(Token(text="Next one."), epoch=2),
        packet(Token(text="", last=True), epoch=2),
    ]
    assert [s.said for s in run_stage(Sentences(), items).payloads()] == ["", "", "Next one."]


def test_a_stage_restored_within_code_goes_on_in_it() -> None:
    before, after = Sentences(), Sentences()
    run_stage(before, [packet(Token(text="So:\n```py\nprint(1)\npri"), epoch=1)])
    after.restore(json.loads(json.dumps(before.snapshot())))
    rest = [packet(Token(text="nt(2)\n```\nDone."), epoch=1), packet(Token(text="", last=True), epoch=1)]
    assert [s.said for s in run_stage(after, rest).payloads()] == ["", "", "Done."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今日は、いい天気です。明日は", ["今日は、いい天気です。", "明日は"]),
        ("今日はとても、いい天気です。", ["今日はとても、", "いい天気です。"]),
        ("نعم أنا هنا، شكرا لك.", ["نعم أنا هنا،", "شكرا لك."]),
        ("It costs 1,234,567.89 yen.", ["It costs 1,234,567.89 yen."]),
    ],
)
def test_clauses_end_at_the_marks_of_any_script(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_a_word_without_an_end_costs_no_more_the_longer_it_gets() -> None:
    began = time.process_time()
    pieces("![a](data:image/png;base64," + "A" * 3500 + ") done.")
    pieces("x" * 20_000)
    assert time.process_time() - began < 5.0
