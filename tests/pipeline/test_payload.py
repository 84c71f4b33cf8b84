from __future__ import annotations

import numpy as np
import pytest

from thalweg import AudioChunk, EncodedVideo, Speech, SpeechEvent, Transcript, VideoFrame
from thalweg.pipeline.errors import PayloadError


def test_audio_duration_follows_from_rate_and_samples() -> None:
    assert AudioChunk(samples=np.zeros((320, 2), np.float32), rate=16_000).duration_ns == 20_000_000


def test_audio_that_is_not_float32_is_refused_with_what_to_do() -> None:
    with pytest.raises(PayloadError, match="int16, expected float32"):
        AudioChunk(samples=np.zeros(320, np.int16), rate=16_000)  # type: ignore[arg-type]


def test_audio_at_no_rate_is_refused() -> None:
    with pytest.raises(PayloadError, match="0 Hz"):
        AudioChunk(samples=np.zeros(320, np.float32), rate=0)


def test_empty_video_frame_is_refused() -> None:
    with pytest.raises(PayloadError, match="shape"):
        VideoFrame(pixels=np.zeros((0, 4, 3), np.uint8))


def test_speech_end_needs_the_time_at_which_the_voice_stopped() -> None:
    audio = AudioChunk(samples=np.zeros(0, np.float32), rate=16_000)
    with pytest.raises(PayloadError, match="END"):
        Speech(audio=audio, event=SpeechEvent.END)


def test_stable_part_of_a_transcript_cannot_exceed_its_text() -> None:
    with pytest.raises(PayloadError, match=r"expected 0…3"):
        Transcript(text="yes", final=False, stable_chars=4)


def test_encoded_video_without_data_is_refused() -> None:
    with pytest.raises(PayloadError, match="no data"):
        EncodedVideo(data=b"", codec="h264", width=64, height=48, key=True)
