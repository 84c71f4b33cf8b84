"""What one recogniser makes of one utterance: its text, and when each part would have been shown.

Audio is handed over in pieces of 20 ms, without real-time waits: the clock is that of the audio, and the recogniser's
processor time is added to it, as on a core of its own. A piece that comes while an earlier one is processed waits, so a
recogniser slower than speech falls behind here as it would in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
PIECE = 320
_RATE = 16_000
_SPEECH = 1e-3  # of the loudest 10 ms: 30 dB below it


class Listener(Protocol):
    """A recogniser of one utterance."""

    def feed(self, samples: Floats) -> None:
        """Take [time] float32 at 16 kHz."""
        ...

    def partial(self) -> str:
        """The text so far."""
        ...

    def finish(self) -> str:
        """The utterance has ended: its text."""
        ...


@dataclass(frozen=True, slots=True)
class Hearing:
    """`final_ms`: from the last sample to the final text. `first_ms`: from where speech begins to the first text shown,
    or None where none was ever shown. `changed`: words that were shown and then taken back, in all partials."""

    text: str
    final_ms: float
    first_ms: float | None
    changed: int


def hear(
    listener: Listener, audio: Floats, begin_s: float = 0.0, clock: Callable[[], float] = time.process_time
) -> Hearing:
    """Play `audio`, whose speech begins at `begin_s`. Raises what the recogniser raises."""
    free_s = 0.0  # when the recogniser is done with what it was given
    first_s: float | None = None
    shown, changed = "", 0
    for at in range(0, len(audio), PIECE):
        piece = audio[at : at + PIECE]
        start = clock()
        listener.feed(piece)
        text = listener.partial()
        free_s = max(free_s, (at + len(piece)) / _RATE) + clock() - start
        if text and text != shown:
            first_s = free_s if first_s is None else first_s
            changed += taken_back(shown, text)
            shown = text
    start = clock()
    text = listener.finish()
    end_s = len(audio) / _RATE
    free_s = max(free_s, end_s) + clock() - start
    if first_s is None and text:
        first_s = free_s
    first_ms = None if first_s is None else (first_s - begin_s) * 1e3
    return Hearing(text, (free_s - end_s) * 1e3, first_ms, changed + taken_back(shown, text))


def taken_back(before: str, after: str) -> int:
    """Words of `before` from the first on that is not in the same place of `after`."""
    old, new = before.split(), after.split()
    kept = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return len(old) - kept


def speech_begins_s(audio: Floats) -> float:
    """Where the first 10 ms lie that are within 30 dB of the loudest; for recordings without noise."""
    frames = audio[: len(audio) // 160 * 160].reshape(-1, 160)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > _SPEECH * power.max()) if len(power) else power
    return float(loud[0]) / 100 if len(loud) else 0.0


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions together, and the number of words that were said."""
    reference, guess = said.split(), heard.split()
    row = list(range(len(guess) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(guess, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1], len(reference)
