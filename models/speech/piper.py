"""Piper voices through the `piper-tts` package (GPL-3.0-or-later, and so only ever an optional extra)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.store.bounded import read_json_at_most
from thalweg.models.store.damaged import damaged
from thalweg.models.store.onnx import open_session

THREADS = 2
_FIXED = 0.24
"""Of a sentence's length what no length scale changes, at scale 1: pauses, and phones of whole frames. Measured of
piper-en-us-joe over four sentences: 0.5 made it 0.57 times as fast, 2 made it 1.61 times, 3 made it 1.96 times."""


class PiperVoice:
    """Speaks text, for several callers in turn: its phonemizer (espeak) is one per process and not made for threads.

    `rate`: samples per second of what it makes.
    """

    def __init__(self, model: Path, config: Path) -> None:
        import onnxruntime
        from piper import PiperVoice as Voice
        from piper.config import PiperConfig

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(THREADS, os.cpu_count() or 1)
        # threads that spin while they wait for each other take a busy machine's cores from what they wait for:
        # beside one busy thread on two cores a sentence took 640 ms with it, 440 ms without
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = open_session(model, options)
        self._turn = threading.Lock()
        try:
            said = PiperConfig.from_dict(read_json_at_most(config))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(config, repr(error)) from None
        self._voice = Voice(config=said, session=session)
        self.rate: int = self._voice.config.sample_rate
        self._length_scale: float = self._voice.config.length_scale

    def speak(
        self,
        text: str,
        *,
        speed: float = 1.0,
        length_scale: float | None = None,
        noise_scale: float | None = None,
        noise_w_scale: float | None = None,
    ) -> Iterator[NDArray[np.float32]]:
        """Audio of `text`, [time] float32, one array per sentence in it.

        speed: times the voice's own, 0.5 to 2; length_scale, in its place: above 1 slower; noise_scale: how
        much the sound varies from time to time, noise_w_scale: how much the lengths of phones do. All as the voice has
        them where they are not given.
        """
        from piper.config import SynthesisConfig

        if length_scale is None and speed != 1.0:
            length_scale = self._length_scale * (1 / speed - _FIXED) / (1 - _FIXED)
        manner = SynthesisConfig(length_scale=length_scale, noise_scale=noise_scale, noise_w_scale=noise_w_scale)
        chunks = iter(self._voice.synthesize(text, manner))
        while True:
            with self._turn:
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield np.asarray(chunk.audio_float_array, np.float32)
