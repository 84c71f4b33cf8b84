"""Piper voices through the `piper-tts` package (GPL-3.0-or-later, and so only ever an optional extra)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.speech.vits import PADDING, CutError, halves
from thalweg.models.store.bounded import read_at_most, read_json_at_most
from thalweg.models.store.damaged import damaged
from thalweg.models.store.onnx import open_session

THREADS = 2
MOST_BYTES = 1_000_000_000
_FIXED = 0.24
"""Of a sentence's length what no length scale changes, at scale 1: pauses, and phones of whole frames. Measured of
piper-en-us-joe over four sentences: 0.5 made it 0.57 times as fast, 2 made it 1.61 times, 3 made it 1.96 times."""
FIRST = 24
"""Frames of the first piece of a sentence, 0.28 s of sound; each further one is twice as long."""
LOUD = 0.9
QUIETEST = 0.3
"""A voice that says the sentence for its level more softly than this cannot read it."""
_CALIBRATION = "The river flows fastest where it is deepest."


@dataclass(frozen=True, slots=True)
class SpokenPiece:
    """Sound as it is made: `samples`, [time] float32. `done`: how much of the text is said with it, 0…1, by its phones
    and the time they take.
    """

    samples: NDArray[np.float32]
    done: float


class PiperVoice:
    """Speaks text, for several callers in turn: its phonemizer (espeak) is one per process and not made for threads.

    `rate`: samples per second of what it makes. The sound of a sentence comes in pieces while the rest is being
    decoded; a voice of several speakers makes it whole.

    Every sentence is as loud as the voice says it: there is one level for the voice, which brings a sentence of known
    words to a peak of `LOUD`. What goes beyond the range is cut off there, and makes the next sentences softer.
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
        try:
            cut = halves(read_at_most(model, MOST_BYTES))
        except (OSError, CutError) as error:
            raise damaged(model, error) from None
        try:
            halved = [open_session(model, options, half) for half in cut[:2]] if cut else []
        except ModelError:  # a network that is not as it looks: whole, it may be sound
            halved = []
        session = halved[0] if halved else open_session(model, options)
        self._decoder: Any = halved[1] if halved else None  # Any: ONNX Runtime has no types
        self._frames = cut[2] if cut else ""
        self._turn = threading.Lock()
        try:
            said = PiperConfig.from_dict(read_json_at_most(config))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(config, repr(error)) from None
        self._voice = Voice(config=said, session=session)
        self.rate: int = self._voice.config.sample_rate
        self._length_scale: float = self._voice.config.length_scale
        self._gain = 0.0
        self._loudest = 0.0

    def warm(self) -> None:
        """Say something unheard: the first time is the slowest, and it tells how loud the voice is. Idempotent."""
        if not self._gain:
            with self._turn:
                sentences = self._voice.phonemize(_CALIBRATION)
            made = [samples for phones in sentences for samples, _ in self._sentence(phones, None)]
            loudest = max([float(np.abs(samples).max(initial=0)) for samples in made], default=0.0)
            self._gain = LOUD / max(loudest, QUIETEST)

    def speak(self, text: str, **manner: float) -> NDArray[np.float32]:
        """Audio of all of `text`, [time] float32. `manner`: see `stream`."""
        made = [piece.samples for piece in self.stream(text, **manner)]
        return np.concatenate([np.zeros(0, np.float32), *made])

    def stream(
        self,
        text: str,
        *,
        speed: float = 1.0,
        length_scale: float | None = None,
        noise_scale: float | None = None,
        noise_w_scale: float | None = None,
    ) -> Iterator[SpokenPiece]:
        """The sound of `text` as it is made.

        speed: times the voice's own, 0.5 to 2; length_scale, in its place: above 1 slower; noise_scale: how
        much the sound varies from time to time, noise_w_scale: how much the lengths of phones do. All as the voice has
        them where they are not given.
        """
        from piper.config import SynthesisConfig

        if length_scale is None and speed != 1.0:
            length_scale = self._length_scale * (1 / speed - _FIXED) / (1 - _FIXED)
        manner = SynthesisConfig(length_scale=length_scale, noise_scale=noise_scale, noise_w_scale=noise_w_scale)
        self.warm()
        with self._turn:
            sentences = [phones for phones in self._voice.phonemize(text) if phones]
        phones, said = sum(map(len, sentences)), 0
        for sentence in sentences:
            self._gain = min(self._gain, 1.0 / max(self._loudest, QUIETEST))
            for samples, share in self._sentence(sentence, manner):
                done = (said + share * len(sentence)) / phones
                yield SpokenPiece(self._levelled(samples), done)
            said += len(sentence)

    def _sentence(self, phones: list[str], manner: Any) -> Iterator[tuple[NDArray[np.float32], float]]:
        """(samples, how much of the sentence is said with them)."""
        ids = self._voice.phonemes_to_ids(phones)
        with self._turn:
            made = np.asarray(self._voice.phoneme_ids_to_audio(ids, manner), np.float32)
        if self._decoder is None:
            yield np.atleast_1d(made), 1.0
            return
        count = made.shape[1]
        for begin, end in pieces(count):
            left, right = min(begin, PADDING), min(count - end, PADDING)
            with self._turn:
                (decoded,) = self._decoder.run(None, {self._frames: made[None, :, begin - left : end + right]})
            samples = np.asarray(decoded, np.float32).reshape(-1)
            frame = len(samples) // (end - begin + left + right)
            yield samples[left * frame : len(samples) - right * frame], end / count

    def _levelled(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self._loudest = max(self._loudest, float(np.abs(samples).max(initial=0)))
        levelled: NDArray[np.float32] = np.clip(samples * np.float32(self._gain), -1.0, 1.0)
        return levelled


def pieces(count: int) -> list[tuple[int, int]]:
    """How `count` frames are divided: (begin, end) of each piece. The last is no shorter than half of `FIRST`."""
    found, begin, size = [], 0, FIRST
    while begin < count:
        end = begin + size if count - begin - size >= FIRST // 2 else count
        found.append((begin, end))
        begin, size = end, 2 * size
    return found
