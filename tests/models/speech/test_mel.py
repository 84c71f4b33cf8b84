"""The front end: cut anywhere, the same features in every bit; the mathematics against a direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.mel import MelConfig, MelStream, log_mel, mel_filters

CONFIG = MelConfig()


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def pieces(audio: NDArray[np.float32], cuts: list[int]) -> list[NDArray[np.float32]]:
    return np.split(audio, sorted(min(cut, len(audio)) for cut in cuts))


@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(0, 6000),
    cuts=st.lists(st.integers(0, 6000), max_size=12),
    handed_over=st.integers(0, 12),
)
def test_any_split_with_a_snapshot_anywhere_gives_the_same_bits(
    samples: int, cuts: list[int], handed_over: int
) -> None:
    audio = noise(samples)
    stream = MelStream(CONFIG)
    found = []
    for i, piece in enumerate(pieces(audio, cuts)):
        if i == handed_over:
            moved = MelStream(CONFIG)
            moved.restore(stream.snapshot())
            stream = moved
        found.append(stream.feed(piece))
    found.append(stream.finish())
    assert np.array_equal(np.concatenate(found), log_mel(audio, CONFIG))


def test_one_sample_at_a_time_gives_the_same_bits() -> None:
    audio = noise(1700)
    stream = MelStream(CONFIG)
    found = np.concatenate([*(stream.feed(audio[i : i + 1]) for i in range(len(audio))), stream.finish()])
    assert np.array_equal(found, log_mel(audio, CONFIG))


def test_a_frame_comes_out_with_the_last_sample_under_its_window() -> None:
    stream = MelStream(CONFIG)
    assert len(stream.feed(noise(199))) == 0
    assert len(stream.feed(noise(1))) == 1
    assert len(stream.feed(noise(159))) == 0
    assert len(stream.feed(noise(1))) == 1


def test_frame_t_is_centred_on_sample_t_times_hop() -> None:
    audio = np.zeros(3200, np.float32)
    audio[1600] = 1.0
    features = log_mel(audio, CONFIG)
    assert features.shape == (20, 80)
    assert features.mean(axis=1).argmax() == 10


def test_the_features_are_those_of_a_direct_computation_in_double_precision() -> None:
    audio = noise(2000)
    emphasised = np.append(audio[0], audio[1:] - 0.97 * audio[:-1].astype(np.float64))
    padded = np.pad(emphasised, 256)
    window = np.pad(np.hanning(400), 56)
    frames = np.stack([padded[t * 160 : t * 160 + 512] * window for t in range(12)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    expected = np.log(power @ mel_filters(CONFIG).T.astype(np.float64) + 2**-24)
    assert np.abs(log_mel(audio, CONFIG) - expected).max() < 1e-4


def test_per_feature_normalisation_is_for_whole_utterances_only() -> None:
    config = MelConfig(normalize="per_feature")
    features = log_mel(noise(16_000), config)
    assert np.abs(features.mean(axis=0)).max() < 1e-4
    assert np.abs(features.std(axis=0, ddof=1) - 1).max() < 1e-3
    with pytest.raises(ModelError, match="need the whole utterance"):
        MelStream(config)


def test_samples_that_are_not_numbers_are_refused_and_leave_the_stream_as_it_was() -> None:
    audio = noise(4000)
    stream = MelStream(CONFIG)
    found = [stream.feed(audio[:2000])]
    with pytest.raises(ModelError, match="1 of 3 audio samples are not numbers"):
        stream.feed(np.array([0, np.nan, 0], np.float32))
    found += [stream.feed(audio[2000:]), stream.finish()]
    assert np.array_equal(np.concatenate(found), log_mel(audio, CONFIG))


@pytest.mark.real
def test_an_hour_of_silence_holds_no_more_than_a_window() -> None:
    stream = MelStream(CONFIG)
    for _ in range(360):
        stream.feed(np.zeros(160_000, np.float32))
    assert stream.frames == 359_999
    assert len(stream.snapshot()["held"]) < 1024
