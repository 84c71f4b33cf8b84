"""What decoders give becomes clean mono at one rate, every moment at its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from tests.stages.io.recordings import Samples, encoded, heard, tone, wav


@pytest.fixture(autouse=True)
def needs_av() -> None:
    require_package("av", "audio")


def stamped(path: Path, pieces: list[tuple[float, Samples]], codec: str = "pcm_s16le", rate: int = 16_000) -> Path:
    """Sound with time stamps of one's own: each piece begins at its second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        for start_s, samples in pieces:
            for at in range(0, len(samples), 1_600):
                part = (samples[at : at + 1_600] * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate = rate
                frame.pts = round(start_s * rate) + at
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def loud(samples: Samples) -> list[tuple[float, float]]:
    """From when to when there is sound, s, to a tenth."""
    level = np.abs(samples[: len(samples) // 1_600 * 1_600]).reshape(-1, 1_600).max(1) > 0.1
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level.astype(int), [0]])))
    return [(float(a) / 10, float(b) / 10) for a, b in edges.reshape(-1, 2)]


def test_a_pause_in_the_time_stamps_is_silence_of_its_length(tmp_path: Path) -> None:
    path = stamped(tmp_path / "a.mkv", [(0.0, tone(1.0)), (3.0, tone(1.0)), (4.3, tone(0.5))])
    samples, notes, error = heard(path)
    assert error == ""
    assert loud(samples) == [(0.0, 1.0), (3.0, 4.0), (4.3, 4.8)]
    assert ["has no sound for 2.0 s, as its time stamps say" in note for note in notes] == [True]


def test_small_differences_of_time_stamps_are_not_heard(tmp_path: Path) -> None:
    path = stamped(tmp_path / "a.mkv", [(0.0, tone(1.0)), (1.05, tone(1.0)), (2.02, tone(1.0))])
    samples, notes, error = heard(path)
    assert (len(samples), notes, error) == (48_000, [], "")


def test_sound_that_begins_after_the_pictures_begins_late(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for i in range(30):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            picture.pts = i
            container.mux(pictures.encode(picture))
            if i >= 20:
                frame = av.AudioFrame.from_ndarray((tone(0.1) * 32767).astype(np.int16)[None], "s16", "mono")
                frame.sample_rate, frame.pts = 16_000, i * 1_600
                container.mux(sound.encode(frame))
        container.mux([*pictures.encode(None), *sound.encode(None)])
    samples, _, error = heard(tmp_path / "a.mkv")
    assert error == ""
    assert loud(samples) == [(2.0, 3.0)]


def test_time_stamps_that_run_away_are_told_and_not_waited_for(tmp_path: Path) -> None:
    path = stamped(tmp_path / "a.mkv", [(0.0, tone(1.0)), (90_000.0, tone(1.0)), (90_002.0, tone(1.0))])
    samples, notes, _ = heard(path)
    assert loud(samples) == [(0.0, 2.0), (3.0, 4.0)]
    assert "jumps by 89999 s in its time stamps after 1.0 s, left out" in notes[0]


def test_what_is_missing_of_an_unbroken_recording_is_silence_and_damage(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.2, 80_000).astype(np.float32)
    content = bytearray(encoded(tmp_path / "a.flac", "flac", noise, 16_000))
    content[60_000:100_000] = bytes(40_000)
    (tmp_path / "a.flac").write_bytes(bytes(content))
    samples, _, error = heard(tmp_path / "a.flac")
    assert len(samples) == 80_000
    assert "is damaged: 1." in error
    assert "s could not be read and are silence" in error


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_silence_and_said_once(tmp_path: Path, bad: float) -> None:
    samples = tone(1.0)
    samples[[100, 200, 9_000]] = bad
    (tmp_path / "a.wav").write_bytes(wav(samples, form=3))
    found, notes, error = heard(tmp_path / "a.wav")
    assert error == ""
    assert np.isfinite(found).all() and np.abs(found).max() < 0.6
    assert ["holds samples that are no numbers" in note for note in notes] == [True]


@pytest.mark.parametrize(("scale", "offset"), [(32_768.0, 0.0), (32_768.0, 0.3), (2.0**31, 0.0)])
def test_floats_on_the_scale_of_integers_are_brought_down_and_said_once(
    tmp_path: Path, scale: float, offset: float
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(np.rint(tone(1.0) * scale).astype(np.float32) + np.float32(offset), form=3))
    found, notes, _ = heard(tmp_path / "a.wav")
    assert np.abs(found).max() == pytest.approx(0.5, abs=0.01)
    assert ["they are taken to be on the scale of integers" in note for note in notes] == [True]


def test_floats_a_little_over_full_scale_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(1.0) * 5, form=3))
    found, notes, _ = heard(tmp_path / "a.wav")
    assert np.abs(found).max() == pytest.approx(2.5, abs=0.01)
    assert notes == []


def test_telephone_sound_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(3.0, 8_000), 8_000))
    _, notes, _ = heard(tmp_path / "a.wav")
    assert ["was recorded at 8000 Hz, as telephones do" in note for note in notes] == [True]
    assert heard(tmp_path / "a.wav", rate=8_000)[1] == []


def test_of_several_tracks_the_first_is_read_and_another_can_be_asked_for(tmp_path: Path) -> None:
    import av

    from thalweg.stages.io.sound import decoded

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for stream, level in zip(streams, (1_000, 9_000), strict=True):
            frame = av.AudioFrame.from_ndarray(np.full((1, 1_600), level, np.int16), "s16", "mono")
            frame.sample_rate = 16_000
            container.mux(stream.encode(frame))
    first, notes, _ = heard(tmp_path / "a.mkv")
    second = np.concatenate(list(decoded(tmp_path / "a.mkv", 16_000, 320, track=2)))
    assert "holds 2 sound tracks; number 1 is read" in notes[0]
    assert first.max() * 32768 == pytest.approx(1_000)
    assert second.max() * 32768 == pytest.approx(9_000)
    with pytest.raises(Exception, match="has 2 audio track\\(s\\), there is no number 3"):
        next(decoded(tmp_path / "a.mkv", 16_000, 320, track=3))
