"""From which probability on the gate is believed: chosen on held-out samples for a stated loss of accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A held-out sample as the gate saw it. `gate`, `right`: per checkpoint; `right_whole`: with everything seen."""

    gate: tuple[float, ...]
    right: tuple[bool, ...]
    right_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a threshold does on held-out samples: accuracies and the share of samples cut short, 0…1."""

    threshold: float
    accuracy: float
    accuracy_whole: float
    skip_ratio: float


def outcome_at(trials: Sequence[Trial], threshold: float) -> Calibration:
    """What would have come of `trials` under a threshold: the first checkpoint whose gate reaches it is taken."""
    right = skipped = 0
    for trial in trials:
        stop = next((i for i, p in enumerate(trial.gate) if p >= threshold), None)
        skipped += stop is not None
        right += trial.right_whole if stop is None else trial.right[stop]
    n = max(1, len(trials))
    whole = sum(t.right_whole for t in trials)
    return Calibration(threshold=threshold, accuracy=right / n, accuracy_whole=whole / n, skip_ratio=skipped / n)


def calibrate(trials: Sequence[Trial], loss: float) -> Calibration:
    """The threshold that skips most while accuracy on `trials` falls by at most `loss` (0.01 is a point).

    Every threshold above it keeps within the loss too, so a lucky dip is not chosen. Where none does, the threshold is
    above 1: never skip. The promise holds for data like the trials, not for others.
    """
    candidates = sorted({round(p, 4) for trial in trials for p in trial.gate}, reverse=True)
    best = outcome_at(trials, 1.01)
    for threshold in candidates:
        found = outcome_at(trials, threshold)
        if found.accuracy < found.accuracy_whole - loss - 1e-12:
            break
        best = found
    return best
