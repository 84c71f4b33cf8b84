"""Reading audio: every format comes out the same, and damage is said, whatever kind it is."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import QUESTION, require_package, write_wav
from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import Outcome, run_stage
from thalweg.pipeline.duration import MS
from thalweg.stages.io.audio import AudioFile


@pytest.fixture(autouse=True)
def needs_av() -> None:
    require_package("av", "audio")


def tone(seconds: float, rate: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, codec: str, layout: str, sample_format: str, rate: int) -> Path:
    """Write a second of a tone with FFmpeg."""
    import av

    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        samples = np.repeat(tone(1.0, rate)[:, None], channels, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def read(path: Path, rate: int = 16_000) -> Outcome:
    return run_stage(AudioFile(path, rate=rate, pace="full"), {})


@pytest.mark.parametrize(
    ("codec", "layout", "sample_format", "rate"),
    [
        ("pcm_u8", "mono", "u8", 16_000),
        ("pcm_s16le", "stereo", "s16", 44_100),
        ("pcm_s24le", "mono", "s32", 48_000),
        ("pcm_f32le", "mono", "flt", 16_000),
        ("pcm_s16le", "mono", "s16", 8_000),
        ("pcm_s16le", "5.1", "s16", 48_000),
        ("flac", "mono", "s16", 16_000),
    ],
)
def test_every_format_comes_out_as_mono_float_at_the_wanted_rate(
    tmp_path: Path, codec: str, layout: str, sample_format: str, rate: int
) -> None:
    path = encode(tmp_path / f"tone.{'flac' if codec == 'flac' else 'wav'}", codec, layout, sample_format, rate)
    outcome = read(path)
    samples = np.concatenate([chunk.samples for chunk in outcome.payloads()])
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert outcome.problems == []
    assert abs(len(samples) - 16_000) <= 32
    assert abs(spectrum.argmax() * 16_000 / len(samples) - 440) < 2


def test_units_come_at_the_pace_of_a_microphone(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(0.2, 16_000))
    outcome = run_stage(AudioFile(path, unit=20 * MS), {})
    assert [(e.packet.time, e.at_ns) for e in outcome.emitted[:3]] == [
        (0, 20 * MS),
        (20 * MS, 40 * MS),
        (40 * MS, 60 * MS),
    ]


def test_at_full_pace_no_time_passes(tmp_path: Path) -> None:
    outcome = read(write_wav(tmp_path / "a.wav", tone(60, 16_000)))
    assert (len(outcome.emitted), outcome.emitted[-1].at_ns) == (3000, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is not an audio file"),
        (b"hello, this is text", "is not an audio file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "is not an audio file"),
    ],
)
def test_what_is_no_audio_is_refused_before_the_run(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartError, match=message):
        read(path)


def test_a_file_without_samples_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="holds no audio samples"):
        read(write_wav(tmp_path / "a.wav", np.zeros(0, np.float32)))


def test_a_file_that_is_cut_short_gives_what_it_has_and_says_what_is_missing(tmp_path: Path) -> None:
    whole = write_wav(tmp_path / "a.wav", tone(2.0, 16_000)).read_bytes()
    (tmp_path / "b.wav").write_bytes(whole[: len(whole) // 2])
    outcome = read(tmp_path / "b.wav")
    (problem,) = outcome.problems
    assert "is cut short: it says 2.0 s and holds 1.0 s" in problem
    assert sum(len(chunk.samples) for chunk in outcome.payloads()) == pytest.approx(16_000, abs=100)


def test_damage_in_the_middle_costs_that_piece_and_is_said(tmp_path: Path) -> None:
    content = bytearray(QUESTION.read_bytes())
    content[30_000:34_000] = np.random.default_rng(1).bytes(4_000)
    path = tmp_path / "a.flac"
    path.write_bytes(bytes(content))
    outcome = read(path)
    assert len(outcome.problems) == 1
    assert sum(len(chunk.samples) for chunk in outcome.payloads()) > 80_000


def test_samples_survive_unchanged(tmp_path: Path) -> None:
    samples = tone(0.5, 16_000)
    with wave.open(str(write_wav(tmp_path / "a.wav", samples))) as file:
        stored = np.frombuffer(file.readframes(8000), "<i2").astype(np.float32) / 32768
    read_back = np.concatenate([chunk.samples for chunk in read(tmp_path / "a.wav").payloads()])
    np.testing.assert_allclose(read_back, stored, atol=1e-6)
