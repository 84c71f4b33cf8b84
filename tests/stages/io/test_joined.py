"""Recordings that were joined: each part comes at its own rate and channels, and nothing of the later ones is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from tests.stages.io.recordings import encoded, heard, piped, pitch, tone, wav

LOW, HIGH = 400.0, 1_500.0


@pytest.fixture(autouse=True)
def needs_av() -> None:
    require_package("av", "audio")


def joined(folder: Path, suffix: str, codec: str, rates: tuple[int, int], container: str | None) -> bytes:
    """A second of a low tone, mono, and one of a high tone, stereo, at another rate."""
    return encoded(folder / f"1{suffix}", codec, tone(1.0, rates[0], LOW), rates[0], container=container) + encoded(
        folder / f"2{suffix}", codec, tone(1.0, rates[1], HIGH), rates[1], layout="stereo", container=container
    )


@pytest.mark.parametrize(
    ("suffix", "codec", "rates", "container"),
    [
        (".wav", "pcm_s16le", (44_100, 48_000), None),
        (".flac", "flac", (44_100, 48_000), None),
        (".mp3", "libmp3lame", (44_100, 48_000), None),
        (".aac", "aac", (44_100, 48_000), "adts"),
        (".ac3", "ac3", (44_100, 48_000), None),
        (".oga", "flac", (16_000, 48_000), None),
        (".opus", "libopus", (48_000, 48_000), None),
        (".webm", "libopus", (48_000, 48_000), None),
        (".mka", "aac", (44_100, 48_000), None),
        (".ts", "aac", (44_100, 48_000), None),
        (".m4a", "aac", (44_100, 48_000), None),
        (".aiff", "pcm_s16be", (44_100, 48_000), None),
        (".caf", "pcm_s16be", (44_100, 48_000), None),
        (".caf", "alac", (44_100, 48_000), None),
        (".au", "pcm_s16be", (44_100, 48_000), None),
        (".w64", "pcm_s16le", (44_100, 48_000), None),
        (".avi", "pcm_s16le", (44_100, 48_000), None),
    ],
)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_joined_recordings_are_heard_one_after_the_other(
    tmp_path: Path, suffix: str, codec: str, rates: tuple[int, int], container: str | None, by_pipe: bool
) -> None:
    content = joined(tmp_path, suffix, codec, rates, container)
    if by_pipe:
        with piped(content) as path:
            samples, _, error = heard(path)
    else:
        (tmp_path / f"a{suffix}").write_bytes(content)
        samples, _, error = heard(tmp_path / f"a{suffix}")
    assert error == ""
    assert len(samples) == pytest.approx(32_000, abs=3_500)
    assert pitch(samples[4_000:12_000]) == pytest.approx(LOW, abs=5)
    assert pitch(samples[-12_000:-4_000]) == pytest.approx(HIGH, abs=5)


def test_wavs_that_were_streamed_one_after_the_other_are_all_heard() -> None:
    parts = [wav(tone(1.0, rate, hz), rate, size=0xFFFFFFFF) for rate, hz in ((8_000, LOW), (22_050, HIGH))]
    with piped(b"".join(parts), 777) as path:
        samples, _, error = heard(path)
    assert error == ""
    assert len(samples) == pytest.approx(32_000, abs=50)
    assert pitch(samples[18_000:30_000]) == pytest.approx(HIGH, abs=5)


def test_an_aiff_that_does_not_know_its_size_is_followed_by_another_all_the_same(tmp_path: Path) -> None:
    content = bytearray(joined(tmp_path, ".aiff", "pcm_s16be", (44_100, 48_000), None))
    content[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.aiff").write_bytes(bytes(content))
    samples, _, error = heard(tmp_path / "a.aiff")
    assert error == ""
    assert len(samples) == pytest.approx(32_000, abs=50)


def test_a_second_part_that_is_damaged_is_told_and_the_first_is_heard(tmp_path: Path) -> None:
    second = wav(tone(1.0))
    (tmp_path / "a.wav").write_bytes(wav(tone(1.0)) + second[:16] + bytes(100))
    samples, _, error = heard(tmp_path / "a.wav")
    assert len(samples) == 16_000
    assert "a.wav cannot be read on after 1.0 s" in error


def test_a_second_part_that_is_cut_short_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(3.0)) + wav(tone(2.0))[:32_044])
    samples, _, error = heard(tmp_path / "a.wav")
    assert len(samples) == 64_000
    assert "is cut short: it says 5.0 s and holds 4.0 s" in error


@pytest.mark.parametrize("joint", [b"OggS", b"fLaC", b"RIFF", b"ID3", b"\x1aE\xdf\xa3"])
def test_what_only_looks_like_a_beginning_is_sound(tmp_path: Path, joint: bytes) -> None:
    samples = np.zeros(8_000, "<i2").tobytes()
    content = bytearray(wav(np.zeros(8_000, np.float32)))
    for at in range(100, len(samples) - 100, 1_000):
        content[at : at + len(joint)] = joint
    (tmp_path / "a.wav").write_bytes(bytes(content))
    heard_samples, _, error = heard(tmp_path / "a.wav")
    assert (len(heard_samples), error) == (8_000, "")
