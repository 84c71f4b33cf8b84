"""Whisper's features and tokens, against its authors' formula and against what is known of the vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models.speech.whisper.tiny import tokens
from thalweg.models.errors import ModelError
from thalweg.models.speech.whisper.mel import log_mel, mel_filters
from thalweg.models.speech.whisper.vocabulary import Vocabulary

RATE = 16_000


def chirp(seconds: float = 1.5) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * (200 + 900 * time) * time)).astype(np.float32)


def by_the_book(samples: np.ndarray, frames: int) -> np.ndarray:
    """The formula as the paper's code has it, window by window, in double precision."""
    padded = np.pad(samples.astype(float), (0, frames * 160 - len(samples)))
    padded = np.pad(padded, 200, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    rows = []
    for at in range(frames):
        power = np.abs(np.fft.rfft(padded[at * 160 : at * 160 + 400] * hann)) ** 2
        rows.append(np.log10(np.maximum(mel_filters(80).astype(float) @ power, 1e-10)))
    log = np.array(rows).T
    return (np.maximum(log, log.max() - 8) + 4) / 4


@pytest.mark.parametrize("frames", [150, 500, 800])
def test_features_are_those_of_the_reference_whatever_silence_follows(frames: int) -> None:
    assert np.abs(log_mel(chirp(), frames) - by_the_book(chirp(), frames)).max() < 1e-4


def test_features_of_nothing_are_flat() -> None:
    assert np.allclose(log_mel(np.zeros(0, np.float32), 500), -1.5)


def test_mel_filters_have_slaneys_edges_and_areas() -> None:
    """Values of the file that Whisper's authors publish."""
    filters = mel_filters(80)
    assert filters[0, 1] == pytest.approx(0.02486259, abs=1e-7)
    assert filters[40, 41:46] == pytest.approx([0, 0.00541111, 0.01473557, 0.00651819, 0], abs=1e-7)
    assert filters[79].max() == pytest.approx(0.00316471, abs=1e-7)


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(tokens())


@given(st.text(max_size=40))
def test_text_comes_back_from_its_tokens(text: str) -> None:
    vocabulary = Vocabulary(tokens())
    assert vocabulary.text(vocabulary.encode(text)) == text.encode("utf-8", "replace").decode("utf-8")


def test_the_lower_number_is_merged_first(vocabulary: Vocabulary) -> None:
    (the,) = vocabulary.encode(" the")
    assert vocabulary.text([the]) == " the"


def test_words_keep_their_punctuation_and_characters_stay_whole(vocabulary: Vocabulary) -> None:
    said = vocabulary.encode(" He said “wait”, Köln! 日本")
    groups = [vocabulary.text(group) for group in vocabulary.words(said)]
    assert groups == [" He", " said", " “wait”,", " Köln!", " 日", "本"]


def test_times_and_special_tokens_are_no_text(vocabulary: Vocabulary) -> None:
    assert vocabulary.time_s(vocabulary.first_time + 75) == pytest.approx(1.5)
    assert vocabulary.time_s(vocabulary.end) is None
    assert vocabulary.text([vocabulary.start, vocabulary.first_time]) == ""
    assert vocabulary.languages()[:3] == ("en", "zh", "de")


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no <\|endoftext\|>: it is not that of a Whisper model"):
        Vocabulary(["a", "b"])


def test_broken_characters_are_shown_as_such(vocabulary: Vocabulary) -> None:
    assert vocabulary.text(vocabulary.encode("ö")[:1]) == "�"
    assert not math.isnan(log_mel(chirp(), 150).sum())
