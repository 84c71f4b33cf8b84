"""Whisper with its real weights, on a recording of a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import require, require_package
from tests.stages.speech.test_whisper import transcripts, turn
from thalweg.deploy.testing import run_stage
from thalweg.models import ModelStore
from thalweg.stages.speech.whisper import Whisper


def test_a_person_is_understood() -> None:
    """Debian's pocketsphinx-testdata, with the real model."""
    require_package("ctranslate2", "whisper")
    recordings = Path("/usr/share/pocketsphinx/test/data/librivox")
    require(recordings.exists(), "apt-get install pocketsphinx-testdata")
    held = {each.model.name: each.complete for each in ModelStore().list()}
    require(held["whisper-tiny.en"], "thalweg models pull whisper-tiny.en")
    raw = (recordings / "sense_and_sensibility_01_austen_64kb-0930.wav").read_bytes()[44:]
    audio = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
    final = transcripts(run_stage(Whisper("whisper-tiny.en"), turn(audio)))[-1]
    assert final.text == "He might even have been made amiable himself."
    assert final.words[0].confidence > 0.3
