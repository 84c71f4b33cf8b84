"""A configuration for every sample: first units in, Configure signals out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.bundle import Bundle
from thalweg.models.fingerprint import fingerprint
from thalweg.models.predictor import Choice as ModelChoice
from thalweg.models.predictor import Predictor
from thalweg.pipeline.configuring import (
    Choice,
    ConfigureError,
    Kind,
    Knob,
    Optimizer,
    Profile,
    Request,
    Row,
    SlowDown,
    profile_from,
)
from thalweg.pipeline.duration import MS, parse_duration
from thalweg.pipeline.payload import Features
from thalweg.pipeline.signal import Configure, Direction
from thalweg.pipeline.stage import Context

log = logging.getLogger(__name__)

MARGIN = 0.1


class Tuner:
    """Watches what units cost, and chooses once per sample, when every modality has given its first unit.

    A modality that gives nothing in time is not waited for: until then stages go on as declared. An infeasible request
    gets the fastest combination and is said once each time the reason changes.
    """

    def __init__(self, profile: Profile, bundle: Bundle, budget_ms: float, *, predict: bool = False) -> None:
        self.request = Request(budget_ms=budget_ms, margin=MARGIN)
        self.optimizer = Optimizer(profile, predictor_of(profile, bundle) if predict else None)
        self.slow_down = SlowDown(profile.unit_ms)
        self.chosen: dict[int, Choice] = {}
        self._first: dict[str, NDArray[np.float32]] = {}
        self._epoch = 0
        self._said = ""

    @classmethod
    def always(cls, knobs: Sequence[Knob], settings: Mapping[str, str], bundle: Bundle) -> Tuner:
        """Chooses the same for every sample, at the moment at which it would choose: for profiling."""
        only = Profile(
            pipeline="", made="", fingerprint={}, knobs=tuple(knobs), slow_downs=(1.0,), unit_ms={},
            rows=(Row(settings, 1.0, (0.0,)),),
        )  # fmt: skip
        return cls(only, bundle, float("inf"))

    @classmethod
    def from_file(cls, path: Path, bundle: Bundle, budget_ms: float, foreign: str, *, predict: bool) -> Tuner:
        """Read a profile. Raises ConfigureError on one that is damaged, or of other hardware and to be refused."""
        try:
            profile = profile_from(json.loads(path.read_text()))
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
        if features.index == 0:  # later ones may be longer than those that were profiled, and cost more for that
            self.slow_down.observe(f"{features.modality}:{features.setting}", features.cost_ns / MS)
        if epoch > self._epoch:
            self._epoch = epoch
            self._first = {}
        if epoch < self._epoch or features.index != 0 or not np.isfinite(features.vector).all():
            return
        self._first[features.modality] = features.vector
        if all(m in self._first for m in modalities):
            self._choose(epoch, ctx)

    def _choose(self, epoch: int, ctx: Context) -> None:
        chosen = self.optimizer.choose(self.request, self.slow_down.factor, self._first)
        self.chosen[epoch] = chosen
        if len(self.chosen) > 1000:
            del self.chosen[next(iter(self.chosen))]
        if chosen.why and chosen.why != self._said:
            ctx.report(chosen.why)
        self._said = chosen.why
        for stage, settings in by_stage(chosen.settings).items():
            ctx.signal(Configure(origin=ctx.name, stage=stage, settings=settings, epoch=epoch), Direction.UP)


def by_stage(settings: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """`{"ear.size": "m"}` → `{"ear": {"size": "m"}}`."""
    found: dict[str, dict[str, object]] = {}
    for name, value in settings.items():
        stage, _, parameter = name.rpartition(".")
        found.setdefault(stage, {})[parameter] = value
    return found


def predictor_of(profile: Profile, bundle: Bundle) -> Predictor | None:
    """The bundle's accuracy predictor for the profile's rows; None where it knows nothing of these knobs."""
    if bundle.predictor is None:
        return None
    rows: list[list[ModelChoice]] = []
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
            choices.append(ModelChoice(size, unit))
        rows.append(choices)
    return Predictor(bundle.predictor, tuple(bundle.modalities), rows)
