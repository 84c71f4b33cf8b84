"""How to train: two plans, for a graphics processor and for a few processor cores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from thalweg.models.speech.fastconformer.config import SMALL, FastConformerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A network and a schedule. Shares are shares of the whole run, 0…1, by time worked and not by steps.

    batch_s: seconds of speech in a batch. peak: highest learning rate. aligned: up to there the loss
    goes from knowing which phone is said when (`losses.aligned_labels`) to CTC, and from speech as it was made to
    augmented speech. lengthening: until there, the longest utterance grows from 2 s to all.
    ctc_only: until there, no RNN-T loss.
    """

    network: FastConformerConfig = field(default=SMALL)
    vocabulary: int = 256
    batch_s: float = 240.0
    peak: float = 1.5e-3
    warmup: float = 0.02
    aligned: float = 0.1
    lengthening: float = 0.1
    ctc_only: float = 0.1
    ctc_weight: float = 0.3
    dropout: float = 0.1
    average: float = 0.999
    save_every_s: float = 300.0
    seed: int = 0

    def rate(self, done: float) -> float:
        """The learning rate after this share of the run: up in a line, down in half a cosine to a fiftieth."""
        if done < self.warmup:
            return self.peak * done / self.warmup
        left = min(1.0, (done - self.warmup) / (1 - self.warmup))
        return self.peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * left)))

    def longest_s(self, done: float) -> float:
        """The longest utterance to learn from after this share of the run."""
        return 2.0 + 18.0 * min(1.0, done / self.lengthening) if self.lengthening else 20.0


_TINY = replace(
    SMALL, layers=8, width=144, subsampling_width=48, prediction_width=160, joint_width=160, prediction_layers=1
)

PLANS = {
    "gpu": Plan(),
    "cpu": Plan(
        network=_TINY,
        batch_s=60.0,
        peak=1.2e-3,
        aligned=0.15,
        lengthening=0.1,
        ctc_only=0.25,
        dropout=0.0,
        warmup=0.03,
        average=0.998,
    ),
}
"""`gpu`: NeMo's small network, 12 million parameters in the encoder; `cpu`: 4 million, its RNN-T head comes later."""
