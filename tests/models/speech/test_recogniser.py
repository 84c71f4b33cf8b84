"""Streaming equals offline, whatever the look-ahead, the cuts, the company and the place."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models.speech.deployments import Offline, deploy, speechlike
from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.hypothesis import Guess
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.fastconformer.lookahead import AdaptiveConfig, AdaptiveLookahead
from thalweg.models.speech.recogniser import Recogniser, Stream

pytestmark = pytest.mark.real

Floats = NDArray[np.float32]
LOOKAHEADS = (13, 6, 1, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    return deploy(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def offline() -> Offline:
    return Offline()


class Recorder:
    """A decoder that keeps the CTC output and says nothing."""

    def __init__(self) -> None:
        self.rows: list[Floats] = []
        self.emitted: list[object] = []
        self.stable_tokens = 0

    def feed(self, log_probs: Floats, frame: int) -> None:
        assert frame == sum(map(len, self.rows))
        self.rows.append(log_probs.copy())

    def snapshot(self) -> dict[str, object]:
        return {"rows": list(self.rows)}

    def restore(self, state: dict[str, list[Floats]]) -> None:
        self.rows = list(state["rows"])

    @property
    def log_probs(self) -> Floats:
        return np.concatenate(self.rows) if self.rows else np.zeros((0, 29), np.float32)


def record(engine: Recogniser, lookahead: int, **options: object) -> tuple[Stream, Recorder]:
    recorder = Recorder()
    stream = engine.open(lookahead, head="ctc", ctc=lambda: recorder, **options)  # type: ignore[arg-type, return-value]
    return stream, recorder


def cut(audio: Floats, seed: int) -> list[Floats]:
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(len(audio) + 1) for _ in range(rng.randrange(20)))
    return np.split(audio, cuts)


def whole(model: Deployed, audio: Floats, lookahead: int | None = None, head: str | None = None) -> Guess:
    stream = Recogniser(model).open(lookahead, head=head)
    stream.feed(audio)
    return stream.finish()


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
@pytest.mark.parametrize("samples", [1, 160, 161, 1_280, 1_440, 1_441, 20_000, 150_017])
def test_streaming_equals_offline_for_every_lookahead_and_ragged_end(
    model: Deployed, offline: Offline, lookahead: int, samples: int
) -> None:
    audio = speechlike(10)[:samples]
    stream, recorder = record(Recogniser(model), lookahead)
    for piece in cut(audio, samples):
        stream.feed(piece)
    stream.finish()
    _, expected = offline.encode(audio, [lookahead + 1]) if samples >= 160 else (None, np.zeros((0, 29)))
    assert recorder.log_probs.shape == expected.shape
    assert np.abs(recorder.log_probs - expected).max(initial=0) < 1e-4


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000))
def test_streams_of_different_lengths_and_lookaheads_do_not_see_each_other(
    model: Deployed, offline: Offline, seed: int
) -> None:
    rng = random.Random(seed)
    engine = Recogniser(model, max_batch=4)
    audios = [speechlike(rng.uniform(0.1, 4), seed + i) for i in range(5)]
    lookaheads = [rng.choice(LOOKAHEADS) for _ in audios]
    streams = [record(engine, lookahead) for lookahead in lookaheads]
    pieces = [cut(audio, seed + i) for i, audio in enumerate(audios)]
    while open_now := [i for i, left in enumerate(pieces) if left]:
        i = rng.choice(open_now)
        streams[i][0].feed(pieces[i].pop(0))
    for stream, _ in streams:
        stream.finish()
    for audio, lookahead, (_, recorder) in zip(audios, lookaheads, streams, strict=True):
        assert np.abs(recorder.log_probs - offline.encode(audio, [lookahead + 1])[1]).max() < 1e-4
    assert engine.open_streams == 0


@pytest.mark.parametrize("int8", [False, True])
def test_a_batch_gives_what_each_stream_gives_alone(tmp_path: Path, int8: bool) -> None:
    model = deploy(tmp_path / "m", int8=int8)
    audios = [speechlike(2, seed) * (seed % 3 * 40 + 0.01) for seed in range(6)]  # very different levels
    alone = [record(Recogniser(model), 1) for _ in audios]
    for (stream, _), audio in zip(alone, audios, strict=True):
        stream.feed(audio)
        stream.finish()
    engine = Recogniser(model)
    together = [record(engine, 1) for _ in audios]
    for (stream, _), audio in zip(together, audios, strict=True):
        mel = stream._mel.feed(audio)
        stream._pending, stream._held = [mel], len(mel)
    for stream, _ in together:
        stream.finish()
    for (_, one), (_, other) in zip(alone, together, strict=True):
        assert np.abs(one.log_probs - other.log_probs).max() < 1e-5


@pytest.mark.parametrize("head", ["ctc", "rnnt"])
@pytest.mark.parametrize("at", [0, 700, 17_001, 32_000])
def test_a_snapshot_goes_on_in_another_engine_with_the_same_output(model: Deployed, head: str, at: int) -> None:
    audio = speechlike(4)
    first = Recogniser(model)
    company = first.open(1, head=head)
    company.feed(speechlike(1, 7))
    stream = first.open(1, head=head)
    stream.feed(audio[:at])
    state = stream.snapshot()
    stream.close()
    moved = Recogniser(model).open(1, head=head)
    moved.restore(state)
    moved.feed(audio[at:])
    assert moved.finish() == whole(model, audio, 1, head)


def test_a_snapshot_is_not_touched_by_the_stream_it_was_taken_of(model: Deployed) -> None:
    audio = speechlike(3)
    stream = Recogniser(model).open(1)
    stream.feed(audio[:16_000])
    state = stream.snapshot()
    stream.feed(speechlike(2, 9))
    moved = Recogniser(model).open(1)
    moved.restore(state)
    moved.feed(audio[16_000:])
    assert moved.finish() == whole(model, audio, 1)


def test_a_snapshot_of_another_head_or_model_is_refused(model: Deployed, tmp_path: Path) -> None:
    from dataclasses import replace

    state = Recogniser(model).open(1, head="ctc").snapshot()
    with pytest.raises(ModelError, match="a snapshot of head 'ctc'"):
        Recogniser(model).open(1, head="rnnt").restore(state)
    other = deploy(tmp_path / "m", replace(model.config, layers=1))
    with pytest.raises(ModelError, match="a snapshot of another model: cache k is"):
        Recogniser(other).open(1, head="ctc").restore(state)


@settings(deadline=None, max_examples=15)
@given(choices=st.lists(st.sampled_from(LOOKAHEADS), min_size=1, max_size=12))
def test_the_lookahead_may_change_at_any_chunk_border(model: Deployed, offline: Offline, choices: list[int]) -> None:
    audio = speechlike(14)  # longer than twelve chunks of the farthest look-ahead: every choice has its chunk
    stream, recorder = record(Recogniser(model), choices[0])
    at = 0
    for choice in choices:
        stream.lookahead = choice
        frames = stream.frames
        while stream.frames == frames and at < len(audio):
            stream.feed(audio[at : at + 80])
            at += 80
    stream.lookahead = 0
    stream.feed(audio[at:])
    stream.finish()
    expected = offline.encode(audio, [*(choice + 1 for choice in choices), 1])[1]
    assert np.abs(recorder.log_probs - expected).max() < 1e-4


def test_an_adaptive_stream_is_what_offline_gives_for_the_chunks_it_chose(model: Deployed, offline: Offline) -> None:
    audio = speechlike(12)
    adaptive = AdaptiveLookahead(
        model.config.lookaheads, frame_ms=80, bound_ms=500, config=AdaptiveConfig(raise_at=0.3, lower_at=0.28, calm=1)
    )
    stream, recorder = record(Recogniser(model), 1, adaptive=adaptive)
    for piece in cut(audio, 3):
        stream.feed(piece)
    stream.finish()
    assert len(set(stream.chunks[:-1])) > 1, "the policy never changed its mind: the test shows nothing"
    assert max(stream.chunks) <= 7
    assert np.abs(recorder.log_probs - offline.encode(audio, stream.chunks)[1]).max() < 1e-4


def test_threads_feeding_at_once_get_what_they_would_get_alone(model: Deployed) -> None:
    engine = Recogniser(model)
    audios = [speechlike(2, seed) for seed in range(8)]
    found: dict[int, Guess] = {}

    def serve(i: int) -> None:
        stream = engine.open(1)
        for piece in cut(audios[i], i):
            stream.feed(piece)
        found[i] = stream.finish()

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(len(audios))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i].text for i in range(len(audios))] == [whole(model, audio, 1).text for audio in audios]


def test_a_hundred_streams_open_and_close_at_random_without_growth_or_cross_talk(model: Deployed) -> None:
    rng = random.Random(5)
    engine = Recogniser(model, max_streams=16)
    audios = [speechlike(0.8, seed) for seed in range(4)]
    expected = [whole(model, audio, 1, "ctc").text for audio in audios]
    running: list[tuple[Stream, int, list[Floats]]] = []
    opened = 0
    while opened < 100 or running:
        if opened < 100 and len(running) < 16 and rng.random() < 0.4:
            i = rng.randrange(4)
            running.append((engine.open(1, head="ctc"), i, cut(audios[i], opened)))
            opened += 1
        elif running:
            stream, i, pieces = running[rng.randrange(len(running))]
            if pieces and rng.random() < 0.95:
                stream.feed(pieces.pop(0))
                continue
            running.remove(next(entry for entry in running if entry[0] is stream))
            if pieces:
                stream.close()  # hung up in the middle
            else:
                assert stream.finish().text == expected[i]
    assert engine.open_streams == 0
    assert engine._encoder.allocated_bytes == 0


def test_more_streams_than_fit_are_refused_and_room_is_used_again(model: Deployed) -> None:
    engine = Recogniser(model, max_streams=2)
    first, second = engine.open(), engine.open()
    with pytest.raises(ModelError, match="2 streams are open, no more fit"):
        engine.open()
    first.close()
    first.close()
    engine.open().close()
    second.close()


def test_a_stream_that_could_not_be_made_takes_no_room(model: Deployed) -> None:
    engine = Recogniser(model, max_streams=1)
    with pytest.raises(AttributeError):
        engine.open(adaptive=object())  # type: ignore[arg-type]
    engine.open().close()


def test_a_closed_stream_takes_nothing_and_touches_nobody(model: Deployed) -> None:
    audio = speechlike(1.25)
    engine = Recogniser(model)
    closed = engine.open()
    closed.close()
    other = engine.open()
    other.feed(audio[:10_000])
    with pytest.raises(ModelError, match="this stream is closed"):
        closed.feed(audio)
    other.feed(audio[10_000:])
    assert other.finish() == whole(model, audio)


def test_the_end_waits_for_a_chunk_that_another_thread_has_taken_in_hand(
    model: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, audio = Recogniser(model), speechlike(0.15)
    ending, other = engine.open(), engine.open()
    step, take, begun = engine._step, ending._take, threading.Event()

    def slow(*args: Any) -> None:
        begun.set()
        time.sleep(0.2)
        step(*args)

    def taken(mel: Floats, ending: bool = False) -> None:
        take(mel, ending)
        if ending:
            monkeypatch.setattr(engine, "_step", slow)
            thread.start()
            assert begun.wait(5)

    thread = threading.Thread(target=other.feed, args=(speechlike(0.25),))
    monkeypatch.setattr(ending, "_take", taken)
    ending.hold(audio)
    assert ending.finish() == whole(model, audio)
    thread.join()


def test_an_hour_of_silence_in_one_piece_and_sample_by_sample_holds_nothing(model: Deployed) -> None:
    engine = Recogniser(model)
    stream = engine.open(13, head="ctc")
    before = engine._encoder.allocated_bytes
    stream.feed(np.zeros(16_000 * 3_600, np.float32))
    for _ in range(2_000):
        stream.feed(np.zeros(1, np.float32))
    assert engine._encoder.allocated_bytes == before
    assert stream._held <= 14 * 8
    assert stream.frames >= 44_980


def test_audio_that_is_not_a_number_costs_only_itself(model: Deployed) -> None:
    audio = speechlike(2)
    stream = Recogniser(model).open(1)
    stream.feed(audio[:9_000])
    with pytest.raises(ModelError, match="not numbers"):
        stream.feed(np.full(100, np.nan, np.float32))
    stream.feed(audio[9_000:])
    assert stream.finish() == whole(model, audio, 1)


def test_clipped_audio_gives_finite_numbers(model: Deployed) -> None:
    stream, recorder = record(Recogniser(model), 1)
    stream.feed(np.sign(speechlike(1)) * 1e4)
    stream.finish()
    assert np.isfinite(recorder.log_probs).all()


def test_int8_takes_rows_of_zeros(tmp_path: Path) -> None:
    stream, recorder = record(Recogniser(deploy(tmp_path / "m", int8=True)), 13)
    stream.feed(np.zeros(4_000, np.float32))  # most of the chunk lies beyond the end
    stream.finish()
    assert np.isfinite(recorder.log_probs).all()


def test_what_the_model_was_not_trained_for_is_refused(model: Deployed) -> None:
    with pytest.raises(ModelError, match=r"look-ahead 5, this model was trained for \[0, 1, 6, 13\] frames"):
        Recogniser(model).open(5)
    with pytest.raises(ModelError, match="no head 'attention', it has rnnt and ctc"):
        Recogniser(model).open(head="attention")


def test_partials_only_grow_and_their_stable_part_stays(model: Deployed) -> None:
    stream = Recogniser(model).open(1)
    guesses = []
    for piece in np.split(speechlike(6), 60):
        stream.feed(piece)
        guesses.append(stream.guess())
    final = stream.finish()
    assert all(final.text.startswith(guess.text[: guess.stable_chars]) for guess in guesses)
    assert final.stable_chars == len(final.text) > 0
    assert [word.text for word in final.words] == final.text.split()
    assert all(0 <= word.start_s < word.end_s <= 6.2 and 0 < word.confidence <= 1 for word in final.words)
