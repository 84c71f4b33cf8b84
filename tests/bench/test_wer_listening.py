"""What `bench wer` hears with is a recogniser as pipelines have it, on an engine of its own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import QUESTION, require_model
from thalweg.deploy.bench.speech.wer import listener
from thalweg.deploy.bench.speech.wer_sets import Utterance
from thalweg.deploy.testing import run_stage
from thalweg.pipeline.payload import AudioChunk
from thalweg.stages.io.audio import AudioFile

pytestmark = pytest.mark.real


def test_whisper_hears_as_in_a_pipeline_with_partial_texts() -> None:
    require_model("whisper-tiny.en")
    require_model("silero-vad")
    chunks = [p for p in run_stage(AudioFile(str(QUESTION), pace="full"), []).payloads() if isinstance(p, AudioChunk)]
    audio = np.concatenate([chunk.samples for chunk in chunks])
    heard = listener("whisper-tiny.en")(Utterance(audio, "", 0.3))
    assert "capital of France" in heard.text
    assert heard.partials and heard.first_s is not None and heard.cpu_s > 0
