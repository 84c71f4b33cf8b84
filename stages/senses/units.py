"""Units to features, each as soon as it exists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.senses.bundle import load_bundle
from thalweg.pipeline.duration import Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Features, Unit
from thalweg.pipeline.senses.configuring import Kind
from thalweg.pipeline.signal import Signal, Skip
from thalweg.pipeline.stage import Context

Encoder = Callable[[NDArray[Any]], NDArray[np.float32]]


class EncodeUnits:
    """Encodes the units of one modality with one of several sizes of a network.

    A skip cancels the unit that is being encoded and drops the queued units of its sample. With `blocking` it is a
    baseline for comparison: it starts only when the last unit of the sample has arrived. `cancelled` and `skipped`
    count units, `busy_ns` is the time spent on encoding.

    For measurements under a virtual clock, set `pretend` (how long a unit takes in an encoder of a given size) and
    `wrap` (wraps each encoder).
    """

    inputs = {"unit": Unit}
    outputs = {"features": Features}
    configurable = ("size",)
    knobs = {"size": Kind.MODEL_SIZE}

    def __init__(
        self,
        modality: Annotated[str, Field(description="which of the model's modalities to encode")],
        model: Annotated[str, Field(description="a bundled model or the folder of one")] = "avwords",
        size: Annotated[str, Field(description="which of the modality's encoders, such as s, m or l")] = "l",
        first: Annotated[
            str | None, Field(description="size for the first unit of a sample; default: as `size`")
        ] = None,
        blocking: Annotated[bool, Field(description="wait for the whole sample before encoding any of it")] = False,
        cost: Annotated[
            dict[str, Duration] | None,
            Field(description="per size, the least time for a unit, to simulate a slower device"),
        ] = None,
    ) -> None:
        self.modality = modality
        self._bundle = load_bundle(model)
        self._size = self._default_size = size
        self._first = first
        self._wait_for_all = blocking
        self._costs_ns = cost or {}
        self.inline = False
        self._encoders: dict[str, Encoder] = {}
        self._held: list[Packet] = []
        self._skipped_epoch = 0
        self._epoch = 0
        self._scope: asyncio.Timeout | None = None
        self.skipped = 0
        self.cancelled = 0
        self.busy_ns = 0
        self.pretend: Callable[[str, Unit], int] | None = None
        self.wrap: Callable[[str, Encoder], Encoder] = lambda size, encoder: encoder

    def open(self, ctx: Context) -> None:
        """Load every size, since the size may change while it runs. Raises ModelError."""
        for size in self._bundle.modalities[self.modality].sizes:
            self._encoders[size] = self.wrap(size, self._bundle.encoder(self.modality, size))

    def configure(self, settings: dict[str, Any]) -> None:
        """Another size, from the next unit to the end of the sample."""
        self._size = settings["size"]

    def choices(self) -> dict[str, tuple[str, ...]]:
        """The sizes, smallest first."""
        return {"size": self._bundle.modalities[self.modality].sizes}

    def declare(self, settings: dict[str, Any]) -> None:
        """The size that samples begin with, from the next one on."""
        self._default_size = settings["size"]

    def snapshot(self) -> dict[str, Any]:
        """Which sample it is at and what of it is held; a size that is for this sample only."""
        only = self._size if self._size != self._default_size else ""
        return {"epoch": self._epoch, "skipped": self._skipped_epoch, "held": list(self._held), "only": only}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with that sample."""
        self._epoch, self._skipped_epoch = state["epoch"], state["skipped"]
        self._held = list(state["held"])
        self._size = state["only"] or self._default_size

    def least_ns(self, size: str) -> int:
        """How long a unit takes at least."""
        return self._costs_ns.get(size, 0)

    def encoder(self, size: str) -> Encoder:
        """One of the encoders, loaded anew. Raises ModelError."""
        return self._bundle.encoder(self.modality, size)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Let go of a sample that was skipped."""
        if isinstance(signal, Skip) and signal.stream == self.modality:
            self._skipped_epoch = max(self._skipped_epoch, signal.epoch)
            if self._scope is not None and self._epoch <= signal.epoch:
                self._scope.reschedule(asyncio.get_running_loop().time())

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Encode a unit, or hold it until its sample is whole."""
        unit = packet.payload
        assert isinstance(unit, Unit)
        if packet.epoch != self._epoch:
            self._epoch = packet.epoch
            self._size = self._default_size
            self._held.clear()
        if self._wait_for_all:
            self._held.append(packet)
            if not unit.last:
                return
            held, self._held = self._held, []
        else:
            held = [packet]
        for waiting in held:
            if waiting.epoch <= self._skipped_epoch:
                self.skipped += 1
                continue
            await self._encode(waiting, ctx)

    async def _encode(self, packet: Packet, ctx: Context) -> None:
        unit = packet.payload
        assert isinstance(unit, Unit)
        size = self._first if self._first is not None and unit.index == 0 else self._size
        start_ns = ctx.now_ns()
        try:
            async with asyncio.timeout(None) as self._scope:
                encoder = self._encoders[size]
                vector = encoder(unit.values) if self.inline else await ctx.compute(encoder, unit.values)
                cost_ns = self.least_ns(size) if self.pretend is None else self.pretend(size, unit)
                if cost_ns:
                    await ctx.sleep_until(start_ns + cost_ns)
        except TimeoutError:
            self.cancelled += 1
            return
        finally:
            self._scope = None
            self.busy_ns += ctx.now_ns() - start_ns
        ctx.emit(
            Features(
                vector=vector,
                modality=self.modality,
                index=unit.index,
                of=unit.of,
                sensed_ns=unit.sensed_ns,
                ends_ns=unit.ends_ns,
                last=unit.last,
                setting=size,
                cost_ns=ctx.now_ns() - start_ns,
                values=unit.values.size,
            ),
            time=packet.time,
            epoch=packet.epoch,
        )
