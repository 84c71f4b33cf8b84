"""Runs a multimodal pipeline file under the virtual clock: real models and real decisions, with time that is declared.

Encoders compute what they compute; how long a unit takes is what `cost` says (measured earlier, or declared), so
queues, waiting and overload come out exactly and nothing depends on what else the machine does. Features are remembered
across runs: the same unit in the same encoder is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.observing.trace import Trace
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Decision, Unit
from thalweg.pipeline.stage import Context
from thalweg.stages.senses.decide import DecideSamples
from thalweg.stages.senses.replay import Replay
from thalweg.stages.senses.units import EncodeUnits

Cost = Callable[[str, str, Unit], int]
"""Modality, size and unit → how long the encoder takes, ns."""

Memory = dict[tuple[str, str, bytes], NDArray[np.float32]]


class RehearsalError(ThalwegError):
    """A pipeline file that has no sensors to replay, or nothing that decides."""


class Keep:
    """Keeps every decision with the time it was taken at."""

    inputs = {"decision": Decision}

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, Decision]] = []

    def process(self, packet: Packet, ctx: Context) -> None:
        """Keep one."""
        assert isinstance(packet.payload, Decision)
        self.taken.append((packet.epoch, ctx.now_ns(), packet.payload))


@dataclass(slots=True)
class Rehearsal:
    """What came of a run: the decisions, and the stages by name, to be asked what they counted."""

    decisions: dict[int, tuple[int, Decision]] = field(default_factory=dict)
    verified: dict[int, Decision] = field(default_factory=dict)
    sensors: dict[str, Replay] = field(default_factory=dict)
    encoders: dict[str, EncodeUnits] = field(default_factory=dict)
    decide: DecideSamples | None = None
    labels: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)

    def right(self, epoch: int) -> bool:
        """Whether the sample was decided, and rightly."""
        found = self.decisions.get(epoch)
        return found is not None and found[1].name == self.labels[epoch - 1]

    @property
    def latencies_ms(self) -> list[float]:
        """Of every sample whose decision has one."""
        return [d.latency_ns / 1e6 for _, d in self.decisions.values() if d.latency_ns is not None]

    @property
    def accuracy(self) -> float:
        """Share of all samples that were decided rightly."""
        return sum(self.right(epoch) for epoch in range(1, len(self.labels) + 1)) / max(1, len(self.labels))


def rehearse(
    declared: Graph,
    cost: Cost | None,
    *,
    memory: Memory | None = None,
    prepare: Callable[[Rehearsal], None] | None = None,
    trace: Trace | None = None,
) -> Rehearsal:
    """Run the sensors, encoders and decision of a pipeline; its sinks are left out. Raises RehearsalError.

    `prepare` may change the stages before they run.
    """
    done = Rehearsal()
    graph = Graph(name=declared.name)
    keep = Keep()
    for vertex in declared.stages.values():
        stage = vertex.make()
        if isinstance(stage, Replay):
            done.sensors[vertex.name] = stage
        elif isinstance(stage, EncodeUnits):
            done.encoders[vertex.name] = stage
            _watch(stage, cost, memory)
        elif isinstance(stage, DecideSamples):
            done.decide = stage
            decide = vertex.name
        else:
            continue
        graph.add(vertex.name, stage)
    if done.decide is None or not done.sensors:
        raise RehearsalError(f"{declared.name} needs `sensing.replay` sensors and a `fusion.decide` stage")
    graph.add("kept", keep)
    for c in declared.connections:
        if c.source in graph.stages and c.target in graph.stages:
            graph.connect(f"{c.source}.{c.source_port}", f"{c.target}.{c.target_port}", capacity=c.capacity)
    graph.connect(decide, "kept", capacity=64)
    if prepare is not None:
        prepare(done)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock, trace=trace)
    run_virtual(worker.run(), clock)
    for epoch, at_ns, decision in keep.taken:
        if decision.verifies:
            done.verified[epoch] = decision
        else:
            done.decisions[epoch] = (at_ns, decision)
    done.labels = next(iter(done.sensors.values())).labels
    done.problems = [problem.message for problem in worker.problems]
    return done


def restrict(samples: int, done: Rehearsal) -> None:
    """Play no more samples than this; for `prepare`."""
    for sensor in done.sensors.values():
        sensor.restrict(samples)


def _watch(stage: EncodeUnits, cost: Cost | None, memory: Memory | None) -> None:
    modality = stage.modality
    if cost is not None:
        stage.pretend = lambda size, unit: cost(modality, size, unit)
    if memory is None:
        return

    def wrap(size: str, encoder: Callable[[NDArray[Any]], NDArray[np.float32]]) -> Any:
        def remembered(values: NDArray[Any]) -> NDArray[np.float32]:
            key = modality, size, blake2b(values.tobytes(), digest_size=16).digest()
            if key not in memory:
                memory[key] = encoder(values)
            return memory[key]

        return remembered

    stage.wrap = wrap
    stage.inline = True
