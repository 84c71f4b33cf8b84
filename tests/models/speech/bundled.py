"""What tests of recognisers that come with the package share: which there are, and speech for them to hear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import QUESTION, require_package
from thalweg.models import ModelStore
from thalweg.models.recipes.asr.corpus.data import Utterance, human_recordings
from thalweg.models.speech.loading import recognisers

SAID = "what is the capital of france how many days are in a week"
HUMAN = Path("/usr/share/pocketsphinx/test/data")


def bundled() -> list[str]:
    """The names of bundled recognisers."""
    store = ModelStore()
    return [name for name in recognisers(store) if store.registry[name].bundled]


def bundled_or_none() -> list[Any]:
    """As parameters of a test; a skipped one where none is bundled, which no installation could change."""
    return list(bundled()) or [pytest.param("", marks=pytest.mark.skip(reason="no recogniser is bundled yet"))]


def spoken_question() -> NDArray[np.float32]:
    """The synthetic question of the examples, [time] float32 at 16 kHz."""
    require_package("av", "audio")
    from thalweg.stages.io.sound import decoded

    return np.concatenate(list(decoded(QUESTION, 16_000, 16_000)))


def people() -> list[Utterance]:
    """Recordings of people, if they are installed."""
    return human_recordings(HUMAN) if HUMAN.exists() else []
