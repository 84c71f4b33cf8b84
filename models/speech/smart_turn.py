"""Whether a speaker is done, judged by the sound: Smart Turn v3 (github.com/pipecat-ai/smart-turn, BSD-2-Clause).

A Whisper-tiny encoder with a small head through ONNX Runtime. It looks at the last 8 s, which end where the voice has
fallen silent; shorter audio is preceded by silence, and all of it is brought to mean 0 and deviation 1, as in training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.speech.whisper.mel import log_mel
from thalweg.models.store.onnx import open_session
from thalweg.models.store.sharing import Share

RATE = 16_000
SECONDS = 8


class SmartTurn:
    """The network is the same for all of a process. `close` in the end."""

    def __init__(self, model: Path) -> None:
        self._share: Share[Any] = Share(("smart-turn", model), lambda: _session(model))  # Any: it has no types

    def close(self) -> None:
        """Release the network. It is freed with its last user. Idempotent."""
        self._share.release()

    def complete(self, samples: NDArray[np.float32]) -> float:
        """How likely the turn in `samples` [time] at 16 kHz is complete, 0…1. Takes some 30 ms; from any thread."""
        return float(self._share.value.run(None, {"input_features": features(samples)[None]})[0].reshape(-1)[0])


def features(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """[80, 800] log-mel features of the last 8 s."""
    size = SECONDS * RATE
    held = np.zeros(size, np.float32)
    last = samples[-size:]
    held[size - len(last) :] = last
    held = (held - held.mean()) / np.sqrt(held.var() + 1e-7)
    return log_mel(held, SECONDS * 100)


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return open_session(model, options)
