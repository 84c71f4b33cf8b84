"""Recorded samples as a sensor would have given them, unit by unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.senses.packs import open_samples
from thalweg.models.senses.samples import SampleError, Samples
from thalweg.pipeline.duration import MS, Duration, format_duration
from thalweg.pipeline.payload import Unit
from thalweg.pipeline.senses.configuring import Kind
from thalweg.pipeline.signal import Signal, Skip
from thalweg.pipeline.stage import Context


class Replay:
    """Plays one modality of recorded samples at their recorded pace. Each sample is an epoch, from 1.

    A unit is emitted `lag` after the end of its capture, as by a sensor that first processes and then sends. Several of
    these with the same `gap` play the same samples side by side. A skip ends the sample: units that were not emitted by
    then never are; `unsensed` counts them.
    """

    outputs = {"unit": Unit}
    configurable = ("unit",)
    knobs = {"unit": Kind.UNIT_LENGTH}

    def __init__(
        self,
        path: Annotated[Path, Field(description="a pack of samples, or a folder of clips in LRW's layout")],
        modality: Annotated[str, Field(description="modality to play")],
        unit: Annotated[
            Duration | None, Field(description="length of a unit; default: a tick of the recording")
        ] = None,
        units: Annotated[
            tuple[Duration, ...], Field(description="lengths of a unit that can be chosen while it runs")
        ] = (),
        lag: Annotated[Duration, Field(description="from the end of a unit's capture until it is emitted")] = 0,
        gap: Annotated[Duration, Field(description="pause between two samples")] = 500 * MS,
        limit: Annotated[int | None, Field(ge=1, description="samples to play; default: all")] = None,
        first: Annotated[int, Field(ge=0, description="index of the first sample, from 0")] = 0,
        loops: Annotated[int, Field(ge=1, description="how often to play them")] = 1,
    ) -> None:
        self._path, self.modality = path, modality
        self._unit_ns = self._default_ns = unit or 0
        self._units_ns = units
        self._lag_ns, self.gap_ns = lag, gap
        self._limit, self._first, self._loops = limit, first, loops
        self._samples: Samples | None = None
        self._stopped = 0
        self.unsensed = 0
        self.sensed = 0

    def open(self, ctx: Context) -> None:
        """Raises SampleError where there is nothing to play."""
        self._samples = open_samples(self._path)
        if self.modality not in self._samples.tracks:
            have = ", ".join(self._samples.tracks)
            raise SampleError(f"{self._path} has no {self.modality!r}; it has {have}")

    def configure(self, settings: dict[str, Any]) -> None:
        """Another length of units, for the rest of this sample; the next one begins as declared.

        After one that is shorter, units end where they would have, had the sample begun so.
        """
        self._unit_ns = settings["unit"] or 0

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The lengths of a unit, longest (cheapest) first."""
        return {"unit": tuple(format_duration(unit) for unit in sorted(self._units_ns, reverse=True))}

    def declare(self, settings: dict[str, Any]) -> None:
        """The length that samples begin with, from the next one on."""
        self._default_ns = settings["unit"] or 0

    def restrict(self, samples: int) -> None:
        """Play no more samples than this."""
        self._limit = samples if self._limit is None else min(samples, self._limit)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the samples that are played, in order; epoch 1 is the first. Known once it is open."""
        assert self._samples is not None
        return self._samples.labels[self._first :][: self._limit] * self._loops

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Stop the sample."""
        if isinstance(signal, Skip) and signal.stream == self.modality:
            self._stopped = max(self._stopped, signal.epoch)

    async def run(self, ctx: Context) -> None:
        """Play every sample."""
        assert self._samples is not None
        start_ns = ctx.now_ns()
        count = len(self.labels)
        for i in range(count):
            self._unit_ns = self._default_ns
            index = self._first + i % (count // self._loops)
            ticks = await ctx.compute(self._samples.ticks, index, self.modality)
            await self._play(ctx, i + 1, ticks, start_ns)
            start_ns += self._samples.window_ns + self.gap_ns

    async def _play(self, ctx: Context, epoch: int, ticks: NDArray[Any], start_ns: int) -> None:
        """One sample."""
        assert self._samples is not None
        track = self._samples.tracks[self.modality]
        at = index = 0
        ends_ns = start_ns + len(ticks) * track.tick_ns
        while at < len(ticks):
            per = max(1, round(self._unit_ns / track.tick_ns))
            upto = min((at // per + 1) * per, len(ticks))
            due_ns = start_ns + (at + 1 if track.join == "pick" else upto) * track.tick_ns + self._lag_ns
            await ctx.sleep_until(due_ns)
            left = -(-len(ticks) // per) - at // per
            if self._stopped >= epoch:
                self.unsensed += left
                break
            picked = ticks[at] if track.join == "pick" else np.concatenate(ticks[at:upto])
            await ctx.send(
                Unit(
                    values=np.ascontiguousarray(picked),
                    modality=self.modality,
                    index=index,
                    of=index + left,
                    sensed_ns=ctx.now_ns(),
                    ends_ns=ends_ns + self._lag_ns,
                    last=left == 1,
                ),
                time=start_ns + at * track.tick_ns,
                epoch=epoch,
            )
            self.sensed += 1
            at, index = upto, index + 1
