"""Decoders and the small machines around them, against searches over everything and by their tables."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.ctc import CtcBeam, CtcGreedy, Phrases
from thalweg.models.speech.decoding.hypothesis import Emitted, words_of
from thalweg.models.speech.decoding.ngram import NGram
from thalweg.models.speech.decoding.tokens import Tokens
from thalweg.models.speech.endpoint import Endpoint, EndpointConfig
from thalweg.models.speech.fastconformer.lookahead import AdaptiveConfig, AdaptiveLookahead

AB = Tokens((" ", "a", "b"), characters=True)
PIECES = Tokens(("▁he", "llo", "▁world", "s"))


def log_probs(frames: int, classes: int, seed: int, sharp: float = 1.5) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).standard_normal((frames, classes)) * sharp
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 5), cut=st.integers(0, 5))
def test_a_wide_beam_finds_the_most_probable_labelling(seed: int, frames: int, cut: int) -> None:
    rows = log_probs(frames, 4, seed)
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=frames):
        score = float(sum(rows[t, token] for t, token in enumerate(path)))
        labelling = collapse(path, 3)
        totals[labelling] = float(np.logaddexp(totals.get(labelling, -np.inf), score))
    beam = CtcBeam(AB, width=2_000, per_frame=4, prune=1e9)
    beam.feed(rows[:cut], 0)
    beam.feed(rows[cut:], min(cut, frames))
    best = tuple(e.token for e in beam.emitted)
    assert totals[best] == pytest.approx(max(totals.values()), abs=1e-4)
    assert beam._beam[0].score == pytest.approx(totals[best], abs=1e-3)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(0, 30), max_size=4), beam=st.booleans())
def test_splits_and_snapshots_change_nothing(seed: int, cuts: list[int], beam: bool) -> None:
    rows = log_probs(30, 4, seed)

    def make() -> CtcBeam | CtcGreedy:
        return CtcBeam(AB, width=4, phrases=Phrases(["ab b"])) if beam else CtcGreedy(3)

    whole = make()
    whole.feed(rows, 0)
    decoder, at = make(), 0
    for cut in [*sorted(cuts), 30]:
        decoder.feed(rows[at:cut], at)
        moved = make()
        moved.restore(decoder.snapshot())
        decoder, at = moved, cut
    assert [(e.token, e.frame) for e in decoder.emitted] == [(e.token, e.frame) for e in whole.emitted]


def test_greedy_keeps_repeats_only_across_a_blank() -> None:
    rows = np.full((6, 4), -9, np.float32)
    for frame, token in enumerate([1, 1, 3, 1, 2, 2]):
        rows[frame, token] = -0.1
    greedy = CtcGreedy(3)
    greedy.feed(rows[:4], 0)
    greedy.feed(rows[4:], 4)
    assert [(e.token, e.frame) for e in greedy.emitted] == [(1, 0), (1, 3), (2, 4)]


def test_a_boosted_phrase_wins_where_the_sound_is_undecided() -> None:
    rows = np.log(np.array([[0.02, 0.5, 0.46, 0.02]] * 1, np.float32))
    plain, boosted = CtcBeam(AB), CtcBeam(AB, phrases=Phrases(["b"], bonus=1.0))
    for decoder in (plain, boosted):
        decoder.feed(rows, 0)
    assert [AB.text([e.token for e in d.emitted]) for d in (plain, boosted)] == ["a", "b"]


def test_a_phrase_that_breaks_off_gives_its_bonus_back() -> None:
    phrases = Phrases(["abab"], bonus=1.0)
    state, gained = phrases.follow((phrases.root, 0), " aba")
    assert gained == 4.0
    _, after = phrases.follow(state, " ")
    assert gained + after == 1.0  # the space may begin the phrase again


def test_what_the_beam_agrees_on_is_stable() -> None:
    sure = np.log(np.array([[1e-6, 1, 1e-6, 1e-6], [1e-6, 1e-6, 1e-6, 1]], np.float32))
    unsure = np.log(np.array([[0.05, 0.15, 0.4, 0.4]], np.float32))
    beam = CtcBeam(AB, width=3, per_frame=4)
    for frame in range(6):
        beam.feed(sure, 2 * frame)
    assert beam.stable_tokens >= 5
    stable = [e.token for e in beam.emitted][: beam.stable_tokens]
    beam.feed(unsure, 12)
    assert [e.token for e in beam.emitted][: len(stable)] == stable


def test_words_have_times_and_confidence() -> None:
    emitted = [Emitted(0, 2, -0.1), Emitted(1, 4, -0.3), Emitted(2, 9, 0.0), Emitted(3, 10, 0.0)]
    first, second = words_of(emitted, PIECES, 0.08)
    assert (first.text, first.start_s, first.end_s) == ("hello", 0.16, 0.4)
    assert first.confidence == pytest.approx(np.exp(-0.2), abs=1e-4)
    assert (second.text, second.end_s, second.confidence) == ("worlds", 0.88, 1.0)


ARPA = """\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-1.0 <s> -0.3
-0.5 the -0.2
-2.0 cat
-3.0 <unk>

\\2-grams:
-0.1 <s> the
-0.4 the cat

\\end\\
"""


def test_an_ngram_backs_off(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA)
    model = NGram.load(tmp_path / "lm.arpa")
    assert model.score(("<s>",), "the") == -0.1
    assert model.score(("<s>",), "cat") == pytest.approx(-2.3)
    assert model.score(("the",), "dog") == pytest.approx(-3.2)


@pytest.mark.parametrize("text", ["", "hello\n", "\\1-grams:\nx the\n", "\\2-grams:\n-1 the\n"])
def test_what_is_no_arpa_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lm.arpa").write_text(text)
    with pytest.raises(ModelError, match=r"lm\.arpa"):
        NGram.load(tmp_path / "lm.arpa")


def test_an_ngram_decides_between_words_that_sound_alike(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text("\\1-grams:\n-0.2 a\n-4.0 b\n-5 <unk>\n")
    rows = np.log(np.array([[0.01, 0.45, 0.53, 0.01], [0.97, 0.01, 0.01, 0.01]], np.float32))
    with_model = CtcBeam(AB, ngram=NGram.load(tmp_path / "lm.arpa"))
    without = CtcBeam(AB)
    for decoder in (with_model, without):
        decoder.feed(rows, 0)
    assert [AB.text([e.token for e in d.emitted]) for d in (with_model, without)] == ["a", "b"]


def test_the_policy_looks_further_while_unsure_within_its_bound() -> None:
    policy = AdaptiveLookahead((13, 6, 1, 0), frame_ms=80, bound_ms=500, config=AdaptiveConfig(calm=2))
    steps = [policy.update(uncertainty=u, voice=True) for u in (0.5, 0.5, 0.5, 0.1, 0.01, 0.01, 0.01, 0.01)]
    assert steps == [1, 6, 6, 6, 6, 1, 1, 0]


@settings(deadline=None)
@given(updates=st.lists(st.tuples(st.floats(0, 1), st.booleans())), bound=st.sampled_from([0, 79, 80, 500, 2000]))
def test_the_policy_never_leaves_its_bound_and_is_shortest_in_silence(
    updates: list[tuple[float, bool]], bound: int
) -> None:
    policy = AdaptiveLookahead((13, 6, 1, 0), frame_ms=80, bound_ms=bound)
    for uncertainty, voice in updates:
        chosen = policy.update(uncertainty=uncertainty, voice=voice)
        assert chosen * 80 <= bound
        assert voice or chosen == 0


def test_a_bound_below_every_lookahead_is_refused() -> None:
    with pytest.raises(ModelError, match="no look-ahead of this model is within 50 ms"):
        AdaptiveLookahead((13, 6), frame_ms=80, bound_ms=50)


def test_an_utterance_is_over_once_voice_and_decoder_are_both_silent() -> None:
    loud, quiet = np.full(1600, 0.3, np.float32), np.full(1600, 0.001, np.float32)
    cases: list[tuple[list[tuple[NDArray[np.float32], float | None]], bool]] = [
        ([(loud, 80), (quiet, 180), (quiet, 280), (quiet, 380)], True),
        ([(loud, 80), (loud, 500), (loud, 900)], False),  # a long vowel
        ([(loud, None), (quiet, None), (quiet, None)], False),  # nothing was said
        ([(loud, 80), (quiet, 100), (quiet, 0), (quiet, 80)], False),  # the decoder is still at it
    ]
    for steps, over in cases:
        machine = Endpoint(EndpointConfig())
        said = [machine.update(samples, 16_000, since) for samples, since in steps]
        assert any(said) is over


def test_the_end_is_said_once() -> None:
    machine = Endpoint()
    machine.update(np.full(1600, 0.3, np.float32), 16_000, 0)
    said = [machine.update(np.zeros(4800, np.float32), 16_000, 1000) for _ in range(3)]
    assert said == [True, False, False]
