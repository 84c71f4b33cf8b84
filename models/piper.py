"""Piper voices through the `piper-tts` package (GPL-3.0-or-later, and so only ever an optional extra)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class PiperVoice:
    """Speaks text, for several callers in turn: its phonemizer (espeak) is one per process and not made for threads.

    `rate`: samples per second of what it makes.
    """

    def __init__(self, model: Path, config: Path) -> None:
        from piper import PiperVoice as Voice

        self._turn = threading.Lock()
        self._voice = Voice.load(str(model), str(config))
        self.rate: int = self._voice.config.sample_rate

    def speak(self, text: str) -> Iterator[NDArray[np.float32]]:
        """Audio of `text`, [time] float32, one array per sentence in it."""
        chunks = iter(self._voice.synthesize(text))
        while True:
            with self._turn:
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield np.asarray(chunk.audio_float_array, np.float32)
