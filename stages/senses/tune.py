"""A configuration for every sample: what units cost in, Configure signals out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.senses.bundle import Bundle
from thalweg.models.senses.predictor import PredictedChoice, Predictor
from thalweg.models.store.bounded import read_json_at_most
from thalweg.models.store.fingerprint import fingerprint
from thalweg.pipeline.duration import MS, parse_duration
from thalweg.pipeline.packet import AMBIENT
from thalweg.pipeline.payload import Features
from thalweg.pipeline.senses.configuring import (
    Choice,
    ConfigureError,
    Kind,
    Optimizer,
    Profile,
    Request,
    SlowDown,
    profile_from,
    unit_key,
)
from thalweg.pipeline.signal import Configure, Direction, by_stage
from thalweg.pipeline.stage import Context

log = logging.getLogger(__name__)

MARGIN = 0.1


class Tuner:
    """Watches what units cost, and chooses once per sample, when every modality has given its first unit.

    What is best by then is what samples begin with from the next one on, so that a sample is of one kind from its
    first unit to its last. The sample under way is changed only where what it began with would be too late by now.

    With `predict` it is another matter: what is best for a sample is known only after its first units, by the bundle's
    predictor. So every sample begins as the pipeline file says and gets what was chosen for it from then on.

    A modality that gives nothing in time is not waited for: until then stages go on as declared. An infeasible request
    gets the fastest combination and is said once each time the reason changes.
    """

    def __init__(self, profile: Profile, bundle: Bundle, budget_ms: float, *, predict: bool = False) -> None:
        self.request = Request(budget_ms=budget_ms, margin=MARGIN)
        self._predicts = predict
        self._declared: Mapping[str, str] = {}
        self.optimizer = Optimizer(profile, predictor_of(profile, bundle) if predict else None)
        self.slow_down = SlowDown(profile.unit_ms)
        self.chosen: dict[int, Choice] = {}
        self._first: dict[str, NDArray[np.float32]] = {}
        self._epoch = 0
        self._said = ""

    @classmethod
    def from_file(cls, path: Path, bundle: Bundle, budget_ms: float, foreign: str, *, predict: bool) -> Tuner:
        """Read a profile. Raises ConfigureError on one that is damaged, or of other hardware and to be refused."""
        try:
            profile = profile_from(read_json_at_most(path))
        except (OSError, ValueError) as error:
            raise ConfigureError(f"the profile {path} cannot be read: {error}") from None
        differences = profile.foreign(fingerprint())
        if differences:
            message = f"the profile {path} is of other hardware ({'; '.join(differences)})"
            if foreign == "refuse":
                raise ConfigureError(f"{message}; make one here with `thalweg profile`, or set foreign: warn")
            log.warning("%s: its latencies are scaled by what units cost here, its accuracies hold", message)
        return cls(profile, bundle, budget_ms, predict=predict)

    def take(self, epoch: int, features: Features, modalities: Sequence[str], ctx: Context) -> None:
        """A unit was encoded."""
        key = unit_key(features.modality, features.setting, features.values)
        self.slow_down.observe(key, features.cost_ns / MS)
        if epoch > self._epoch:
            self._epoch = epoch
            self._first = {}
        if epoch < self._epoch or features.index != 0 or not np.isfinite(features.vector).all():
            return
        self._first[features.modality] = features.vector
        if all(m in self._first for m in modalities):
            self._choose(epoch, ctx)

    def _choose(self, epoch: int, ctx: Context) -> None:
        factor = self.slow_down.factor
        if self._predicts:
            chosen = self.optimizer.choose(self.request, factor, self._first)
            self._send(chosen.settings, epoch, ctx)
        else:
            begun = self._declared
            chosen = self.optimizer.stay(begun, self.request, factor)
            if chosen.settings != begun:
                self._send(chosen.settings, epoch, ctx)
            self._declared = self.optimizer.choose(self.request, factor).settings
            if self._declared != begun:
                self._send(self._declared, AMBIENT, ctx)
        self.chosen[epoch] = chosen
        if len(self.chosen) > 1000:
            del self.chosen[next(iter(self.chosen))]
        if chosen.why and chosen.why != self._said:
            ctx.report(chosen.why)
        self._said = chosen.why

    def _send(self, settings: Mapping[str, str], epoch: int, ctx: Context) -> None:
        for stage, some in by_stage(settings).items():
            ctx.signal(Configure(origin=ctx.name, stage=stage, settings=some, epoch=epoch), Direction.UP)


def predictor_of(profile: Profile, bundle: Bundle) -> Predictor | None:
    """The bundle's accuracy predictor for the profile's rows; None where it knows nothing of these knobs."""
    if bundle.predictor is None:
        return None
    rows: list[list[PredictedChoice]] = []
    for row in profile.rows:
        choices = []
        for modality, info in bundle.modalities.items():
            size, unit = len(info.sizes) - 1, 0
            for knob in profile.knobs:
                value = row.settings[knob.name]
                if knob.modality == modality and knob.kind is Kind.MODEL_SIZE and value in info.sizes:
                    size = info.sizes.index(value)
                elif knob.modality == modality and knob.kind is Kind.UNIT_LENGTH:
                    milliseconds = parse_duration(value) // MS
                    if milliseconds not in info.units_ms:
                        return None
                    unit = info.units_ms.index(milliseconds)
            choices.append(PredictedChoice(size, unit))
        rows.append(choices)
    return Predictor(bundle.predictor, tuple(bundle.modalities), rows)
