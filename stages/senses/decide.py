"""From the features of several modalities to one decision, as early as the evidence allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.senses.bundle import gate_input, load_bundle
from thalweg.models.senses.incremental import Aggregator, FusionHead, softmax
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Decision, Features
from thalweg.pipeline.senses.ordering import Ordering
from thalweg.pipeline.senses.skipping import Action, AskGate, Decide, SampleSkipper, SkipPolicy, Stop
from thalweg.pipeline.signal import Direction, Interrupt, Signal, Skip
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.senses.tune import Tuner

Gate = Callable[["Seen"], float]
"""How likely a decision from what was seen is as good as from the whole sample, 0…1."""

_KEPT = 4
_CALLS_KEPT = 10_000


@dataclass(slots=True)
class Seen:
    """A sample as far as it has come. `shares`: of each modality, 0…1; `logits`: fused, [class]."""

    epoch: int
    checkpoint: float
    pooled: dict[str, NDArray[np.float32]]
    shares: dict[str, float]
    logits: NDArray[np.float32]


@dataclass(slots=True)
class _Sample:
    skipper: SampleSkipper
    aggregators: dict[str, Aggregator]
    orders: dict[str, Ordering[Features]]
    shares: dict[str, float] = field(default_factory=dict)
    ends_ns: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    verify: bool = False


class DecideSamples:
    """Aggregates the features of each modality over time, fuses them and decides, once per sample (epoch).

    It decides when every modality has ended, or, with `skip`, as soon as the gate predicts that the rest of the slow
    ones would not change the decision: then a Skip signal stops their sensors and encoders. A modality that is silent
    for `patience` is left out; the decision reports that, with a lower confidence. No sample takes longer than `limit`.
    Duplicate units and features that are not finite are dropped, swapped neighbours are reordered; all are counted.
    With a `profile` each sample gets the most accurate configuration within `budget`, by the current cost of units.
    Samples are matched by epoch, not by time, so clock drift costs only latency.
    """

    inputs = {"features": Port(Features, many=True)}
    outputs = {"decision": Decision}

    def __init__(
        self,
        model: Annotated[str, Field(description="a bundled model or the folder of one")] = "avwords",
        modalities: Annotated[
            tuple[str, ...] | None, Field(description="modalities to wait for; default: all of the model")
        ] = None,
        skip: Annotated[bool, Field(description="let the gate end samples early")] = False,
        checkpoints: Annotated[
            tuple[float, ...], Field(description="shares of the slow modalities at which the gate is asked")
        ] = (0.5, 0.6, 0.7, 0.8, 0.9),
        threshold: Annotated[
            float | None, Field(ge=0, description="threshold of the gate; default: as calibrated")
        ] = None,
        verify: Annotated[
            float, Field(ge=0, le=1, description="share of skipped samples that also run to the end")
        ] = 0.0,
        patience: Annotated[Duration, Field(description="silence after which a modality is given up")] = 500 * MS,
        limit: Annotated[Duration, Field(description="the longest that a sample may take")] = 10_000 * MS,
        profile: Annotated[
            Path | None, Field(description="file of `thalweg profile`, to choose a configuration for each sample")
        ] = None,
        budget: Annotated[Duration, Field(description="the latency that the configuration must keep to")] = 150 * MS,
        foreign: Annotated[
            Literal["refuse", "warn"], Field(description="what to do with a profile from other hardware")
        ] = "refuse",
        predict: Annotated[
            bool,
            Field(description="predict accuracy from the first units of each sample, not from the profile's average"),
        ] = False,
        aggregate: Annotated[bool, Field(description="temporal aggregation; false: mean pooling")] = True,
    ) -> None:
        self._bundle = load_bundle(model)
        names = modalities or tuple(self._bundle.modalities)
        kind = "aggregation" if aggregate else "pooling"
        self._nets = {m: self._bundle.aggregation(m, kind) for m in names}
        self._fusion: FusionHead = self._bundle.fusion("fusion" if aggregate else "pooling_fusion")
        self._policy = SkipPolicy(
            modalities=names,
            checkpoints=tuple(checkpoints) if skip else (),
            threshold=self._bundle.threshold if threshold is None else threshold,
            patience_ns=patience,
            limit_ns=limit,
        )
        self._verify = verify
        self._verify_debt = 0.0
        self._samples: dict[int, _Sample] = {}
        self._floor = 0
        self.gate: Gate = self._ask_gate
        self.gate_calls = deque[tuple[int, float, float]](maxlen=_CALLS_KEPT)
        self.skips = self.verified = self.changed = 0
        self.broken = self.late = self.repeated = self.lost = 0
        self._labels: dict[int, int] = {}
        self.newest = 0
        self.tuner = (
            None if profile is None else Tuner.from_file(profile, self._bundle, budget / MS, foreign, predict=predict)
        )

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take one unit's features."""
        features = packet.payload
        assert isinstance(features, Features)
        if packet.epoch < self._floor:
            self.late += 1
            return
        sample = self._samples.get(packet.epoch) or self._begin(packet.epoch)
        order = sample.orders.get(features.modality)
        if order is None:
            known = ", ".join(self._policy.modalities)
            ctx.report(f"features of {features.modality!r} came; this stage decides from {known}")
            return
        sample.ends_ns[features.modality] = features.ends_ns
        if self.tuner is not None:
            self.tuner.take(packet.epoch, features, self._policy.modalities, ctx)
        before = order.repeated, order.lost
        for ready in order.push(features.index, features, last=features.last):
            self._take(packet.epoch, sample, ready, ctx)
        self.repeated += order.repeated - before[0]
        self.lost += order.lost - before[1]
        self._rest(ctx)

    def wake(self, ctx: Context) -> None:
        """Give up on sensors that have sent nothing in time."""
        for epoch, sample in list(self._samples.items()):
            self._act(epoch, sample, sample.skipper.tick(ctx.now_ns()), ctx)
        self._rest(ctx)

    def finish(self, ctx: Context) -> None:
        """Decide what is open."""
        for epoch, sample in list(self._samples.items()):
            self._act(epoch, sample, sample.skipper.ended(), ctx)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """An interrupt: older samples are of no interest any more."""
        if isinstance(signal, Interrupt):
            self._floor = max(self._floor, signal.epoch)
            self._samples = {e: s for e, s in self._samples.items() if e >= self._floor}
            self._labels = {e: label for e, label in self._labels.items() if e >= self._floor}

    def _begin(self, epoch: int) -> _Sample:
        self.newest = max(self.newest, epoch)
        self._verify_debt += self._verify
        verify = self._verify_debt >= 1 - 1e-9
        self._verify_debt -= verify
        sample = self._samples[epoch] = _Sample(
            SampleSkipper(self._policy, verify=verify),
            {m: Aggregator(net) for m, net in self._nets.items()},
            {m: Ordering() for m in self._nets},
            verify=verify,
        )
        for old in [e for e, s in self._samples.items() if s.skipper.closed and e < epoch - _KEPT]:
            self._floor = max(self._floor, old + 1)
            del self._samples[old]
            self._labels.pop(old, None)
        return sample

    def _take(self, epoch: int, sample: _Sample, features: Features, ctx: Context) -> None:
        modality = features.modality
        if not sample.skipper.closed:
            if np.isfinite(features.vector).all():
                sample.aggregators[modality].push(features.vector)
            else:
                sample.broken += 1
                self.broken += 1
        progress = 1.0 if features.last else (features.index + 1) / features.of if features.of else 0.0
        sample.shares[modality] = max(progress, sample.shares.get(modality, 0.0))
        late = sample.skipper.late
        actions = sample.skipper.unit(modality, progress, features.last, ctx.now_ns())
        self.late += sample.skipper.late - late
        self._act(epoch, sample, actions, ctx)

    def _act(self, epoch: int, sample: _Sample, actions: Iterable[Action], ctx: Context) -> None:
        for action in actions:
            if isinstance(action, AskGate):
                self._act(epoch, sample, self._asked(epoch, sample, action, ctx), ctx)
            elif isinstance(action, Stop):
                for modality in action.modalities:
                    ctx.signal(Skip(origin=ctx.name, stream=modality, epoch=epoch), Direction.UP)
            elif isinstance(action, Decide):
                self._decide(epoch, sample, action.reason, ctx)
            else:
                self._decide(epoch, sample, "complete", ctx, verifies=True)

    def _asked(self, epoch: int, sample: _Sample, ask: AskGate, ctx: Context) -> list[Action]:
        began_ns = ctx.now_ns()
        pooled = self._pooled(sample)
        if not pooled:
            return []
        seen = Seen(epoch, ask.checkpoint, pooled, dict(sample.shares), self._fusion(pooled))
        probability = self.gate(seen)
        self.gate_calls.append((epoch, ask.checkpoint, (ctx.now_ns() - began_ns) / 1e6))
        actions = sample.skipper.answered(probability)
        self.skips += bool(actions)
        return actions

    def _ask_gate(self, seen: Seen) -> float:
        gate = self._bundle.gate
        if gate is None:
            return 0.0
        logit = gate(gate_input(tuple(self._bundle.modalities), seen.pooled, seen.shares, seen.logits))
        return float(1 / (1 + np.exp(-np.clip(logit[0], -30, 30))))

    def _pooled(self, sample: _Sample) -> dict[str, NDArray[np.float32]]:
        return {m: a.answer() for m, a in sample.aggregators.items() if a.count}

    def _decide(self, epoch: int, sample: _Sample, reason: str, ctx: Context, *, verifies: bool = False) -> None:
        pooled = self._pooled(sample)
        if not pooled:
            ctx.report(f"sample {epoch} gave nothing of use on any of {', '.join(self._policy.modalities)}")
            return
        scores = softmax(self._fusion(pooled))
        label = int(scores.argmax())
        confidence = float(scores[label])
        missing = tuple(m for m in self._policy.modalities if m not in pooled)
        for modality in missing:
            confidence *= self._bundle.modalities[modality].without
        ends = [end for end in sample.ends_ns.values() if end]
        if verifies:
            self.verified += 1
            self.changed += label != self._labels.pop(epoch, label)
        elif sample.skipper.decided == "skipped" and sample.verify:
            self._labels[epoch] = label
        ctx.emit(
            Decision(
                name=self._bundle.classes[label],
                label=label,
                confidence=min(1.0, confidence),
                scores=scores,
                used={m: sample.aggregators[m].count for m in pooled},
                reason=reason,
                missing=missing,
                latency_ns=max(0, ctx.now_ns() - min(ends)) if ends else None,
                verifies=verifies,
            ),
            epoch=epoch,
        )

    def _rest(self, ctx: Context) -> None:
        """Ask to be woken when the next sample would have to be given up."""
        deadlines = [d for s in self._samples.values() if (d := s.skipper.deadline_ns) is not None]
        ctx.wake_at(min(deadlines) if deadlines else None)
