"""RNN-T greedy decoding of many streams at once.

Each stream has its own prediction state and its own place in its own frames; one round asks the joint network about
every stream that has frames left, and the prediction network about those that emitted a token. Rows of a batch do not
see each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.speech.decoding.hypothesis import Emitted
from thalweg.models.speech.fastconformer.deployed import Deployed

Floats = NDArray[np.float32]
MAX_TOKENS_PER_FRAME = 10
_START = -1


class RnntState:
    """One stream between two chunks."""

    def __init__(self, layers: int, width: int) -> None:
        self.h = np.zeros((layers, width), np.float32)
        self.c = np.zeros((layers, width), np.float32)
        self.predicted: Any = None  # [joint] float32 once there is one
        self.emitted: list[Emitted] = []

    @property
    def stable_tokens(self) -> int:
        """How many leading tokens can no longer change: all."""
        return len(self.emitted)

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls."""
        predicted = None if self.predicted is None else self.predicted.copy()
        emitted = [(e.token, e.frame, e.log_prob) for e in self.emitted]
        return {"h": self.h.copy(), "c": self.c.copy(), "predicted": predicted, "emitted": emitted}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self.h, self.c, self.predicted = state["h"], state["c"], state["predicted"]
        self.emitted = [Emitted(*each) for each in state["emitted"]]


class RnntDecoder:
    """The prediction and joint networks. Not thread-safe: its owner takes turns."""

    def __init__(self, model: Deployed, threads: int = 1) -> None:
        self._config = model.config
        self._prediction = model.session("prediction", threads)
        self._joint = model.session("joint", threads)

    def start(self) -> RnntState:
        """The state of a new stream."""
        return RnntState(self._config.prediction_layers, self._config.prediction_width)

    def feed(self, states: Sequence[RnntState], frames: Sequence[Floats], firsts: Sequence[int]) -> None:
        """Take the `joint` output of a chunk of each stream, [n, joint]; `firsts`: the numbers of the first frames."""
        self._predict([(state, _START) for state in states if state.predicted is None])
        at = [0] * len(states)
        emitted_here = [0] * len(states)
        blank = self._config.vocabulary
        while active := [i for i, rows in enumerate(frames) if at[i] < len(rows)]:
            rows = np.stack([frames[i][at[i]] for i in active])
            predicted = np.stack(
                [state.predicted for state in (states[i] for i in active) if state.predicted is not None]
            )
            (log_probs,) = self._joint.run(None, {"frame": rows, "predicted": predicted})
            further = []
            for i, token, row in zip(active, log_probs.argmax(axis=1).tolist(), log_probs, strict=True):
                if token == blank or emitted_here[i] >= MAX_TOKENS_PER_FRAME:
                    at[i] += 1
                    emitted_here[i] = 0
                    continue
                states[i].emitted.append(Emitted(token, firsts[i] + at[i], float(row[token])))
                emitted_here[i] += 1
                further.append((states[i], token))
            self._predict(further)

    def _predict(self, further: Sequence[tuple[RnntState, int]]) -> None:
        if not further:
            return
        feeds = {
            "token": np.array([token for _, token in further], np.int64),
            "h": np.stack([state.h for state, _ in further], axis=1),
            "c": np.stack([state.c for state, _ in further], axis=1),
        }
        predicted, h, c = self._prediction.run(None, feeds)
        for i, (state, _) in enumerate(further):
            state.predicted, state.h, state.c = predicted[i], h[:, i], c[:, i]
