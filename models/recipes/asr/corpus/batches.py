"""Features of all shards, in memory, and batches drawn from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.recipes.asr.corpus.align import Spans
from thalweg.models.recipes.asr.corpus.data import read_shard, shards
from thalweg.models.speech.mel import MelConfig, log_mel

FRAMES_PER_S = 100


@dataclass(frozen=True, slots=True)
class UtteranceFeatures:
    """Log-mel features of an utterance, [frame, mel] float16, what it says, and when (`Utterance.spans`)."""

    mel: NDArray[np.float16]
    text: str
    spans: Spans

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.mel) / FRAMES_PER_S


class Features:
    """All shards of a folder; 58 MB for an hour of speech. New shards are found when the folder is read again."""

    def __init__(self, folder: Path, config: MelConfig) -> None:
        self._folder, self._config = folder, config
        self._kept: dict[Path, list[UtteranceFeatures]] = {}

    def read(self) -> list[UtteranceFeatures]:
        """Everything that is there. Raises FileNotFoundError where nothing is."""
        for path in shards(self._folder):
            if path not in self._kept:
                self._kept[path] = [
                    UtteranceFeatures(log_mel(u.audio, self._config).astype(np.float16), u.text, u.spans)
                    for u in read_shard(path)
                ]
        if not self._kept:
            raise FileNotFoundError(f"{self._folder} holds no shards: run `data` first")
        return [heard for part in self._kept.values() for heard in part]


def batches(
    features: Features,
    batch_s: float,
    longest_s: Callable[[], float],
    rng: random.Random,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[list[UtteranceFeatures]]:
    """Without end: utterances of about the same length, `batch_s` seconds together, none longer than `longest_s`.

    Of several processes with equal `rng` each gets batches of its own, at any time about as long as those of the
    others: they wait for each other at every step.
    """
    while True:
        everything = features.read()
        some = [heard for heard in everything if heard.seconds <= longest_s()] or everything
        some.sort(key=lambda heard: heard.seconds * rng.uniform(0.9, 1.1))
        found: list[list[UtteranceFeatures]] = []
        batch: list[UtteranceFeatures] = []
        seconds = 0.0
        for heard in some:
            if batch and seconds + heard.seconds > batch_s:
                found.append(batch)
                batch, seconds = [], 0.0
            batch.append(heard)
            seconds += heard.seconds
        found.append(batch)
        found += found[: -len(found) % processes]
        alike = [found[i : i + processes] for i in range(0, len(found), processes)]
        rng.shuffle(alike)
        for group in alike[: max(1, len(alike) // 4)]:  # then the limit may have grown, or shards have come
            yield group[rank]
