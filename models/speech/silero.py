"""Silero voice activity detection through ONNX Runtime (github.com/snakers4/silero-vad, MIT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.store.onnx import open_session
from thalweg.models.store.sharing import Share

RATE = 16_000
STEP = 512
_CONTEXT = 64


class SileroVad:
    """Says how likely each 32 ms of audio is speech. Keeps state between steps; one instance per stream.

    The network behind it is the same for all of a process.
    """

    def __init__(self, model: Path) -> None:
        self._share: Share[Any] = Share(("silero", model), lambda: _session(model))  # Any: ONNX Runtime has no types
        self._session = self._share.value
        self._rate = np.array(RATE, np.int64)
        self.reset()

    def close(self) -> None:
        """Free the network where no other stream uses it. Idempotent."""
        self._share.release()
        self._session = None

    def reset(self) -> None:
        """Forget what was heard."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def step(self, samples: NDArray[np.float32]) -> float:
        """Probability 0…1 that `samples` [512] float32 at 16 kHz are speech."""
        framed = np.concatenate([self._context, samples])[None]  # [1, 64 + 512]
        output, self._state = self._session.run(None, {"input": framed, "state": self._state, "sr": self._rate})
        self._context = samples[-_CONTEXT:]
        return float(output[0, 0])

    def snapshot(self) -> dict[str, NDArray[np.float32]]:
        """The state between two steps."""
        return {"state": self._state.copy(), "context": self._context.copy()}

    def restore(self, state: dict[str, NDArray[np.float32]]) -> None:
        """Go on from a snapshot."""
        self._state, self._context = state["state"], state["context"]


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return open_session(model, options)
