"""Sensing, encoding and deciding unit by unit, whole pipelines under a virtual clock, good input and bad."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import EXAMPLES, require_package
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import run_virtual
from thalweg.models.senses.packs import Pack
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Decision, Features, Unit
from thalweg.pipeline.signal import Configure, Direction
from thalweg.pipeline.stage import Context
from thalweg.stages.senses.decide import DecideSamples
from thalweg.stages.senses.replay import Replay
from thalweg.stages.senses.units import EncodeUnits

MS = 1_000_000
PACK = EXAMPLES / "avwords.npz"
SAMPLES = 4


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_package("onnxruntime", "multimodal")


class Keep:
    """Keeps decisions and when they came."""

    inputs = {"decision": Decision}

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.at_ms: list[float] = []

    def process(self, packet: Packet, ctx: Context) -> None:
        self.packets.append(packet)
        self.at_ms.append(ctx.now_ns() / MS)

    @property
    def decisions(self) -> list[Any]:
        return [packet.payload for packet in self.packets]


Change = Callable[[Unit], Sequence[Unit]]


class Spoil:
    """Does something to the units of one modality."""

    inputs = {"unit": Unit}
    outputs = {"unit": Unit}

    def __init__(self, change: Change, stall: tuple[int, float] | None = None) -> None:
        self._change, self._stall = change, stall

    async def process(self, packet: Packet, ctx: Context) -> None:
        unit = packet.payload
        assert isinstance(unit, Unit)
        if self._stall is not None and unit.index == self._stall[0]:
            await asyncio.sleep(self._stall[1])
        for changed in self._change(unit):
            ctx.emit(changed)


@dataclass
class Run:
    """The parts of a run that tests look at."""

    keep: Keep = field(default_factory=Keep)
    sensors: dict[str, Replay] = field(default_factory=dict)
    encoders: dict[str, EncodeUnits] = field(default_factory=dict)
    decide: DecideSamples = field(default_factory=DecideSamples)
    problems: list[str] = field(default_factory=list)


def run(
    decide: DecideSamples | None = None,
    *,
    lags_ms: dict[str, int] | None = None,
    costs_ms: dict[str, int] | None = None,
    spoil: dict[str, Spoil] | None = None,
    samples: int = SAMPLES,
    **encoder: Any,
) -> Run:
    """`costs_ms`: per modality, of every unit."""
    done = Run(decide=decide or DecideSamples())
    graph = Graph()
    graph.add("decide", done.decide)
    graph.add("keep", done.keep)
    graph.connect("decide", "keep")
    for m in ("audio", "video"):
        lag = (lags_ms or {}).get(m, 0) * MS
        done.sensors[m] = Replay(PACK, m, unit=40 * MS, lag=lag, limit=samples, gap=3000 * MS)
        done.encoders[m] = EncodeUnits(m, cost={"l": (costs_ms or {}).get(m, 0) * MS}, **encoder)
        graph.add(f"{m}_sensor", done.sensors[m])
        graph.add(f"{m}_encoder", done.encoders[m])
        source = f"{m}_sensor"
        if spoil and m in spoil:
            graph.add(f"{m}_spoil", spoil[m])
            graph.connect(source, f"{m}_spoil", capacity=64)
            source = f"{m}_spoil"
        graph.connect(source, f"{m}_encoder", capacity=64)
        graph.connect(f"{m}_encoder", "decide", capacity=64)
    clock = VirtualClock()
    worker = Worker(graph, clock=clock)
    run_virtual(worker.run(), clock)
    done.problems = [problem.message for problem in worker.problems]
    return done


def test_a_sample_is_decided_one_unit_cost_after_its_end_with_pipelining() -> None:
    done = run(costs_ms={"audio": 10, "video": 20})
    assert [d.latency_ns / MS for d in done.keep.decisions] == pytest.approx([20] * SAMPLES, abs=0.1)
    assert [d.reason for d in done.keep.decisions] == ["complete"] * SAMPLES


def test_blocking_decides_after_all_units_cost_one_after_the_other_and_decides_alike() -> None:
    blocking = run(costs_ms={"audio": 10, "video": 20}, blocking=True)
    pipelined = run(costs_ms={"audio": 10, "video": 20})
    assert [d.latency_ns / MS for d in blocking.keep.decisions] == pytest.approx([480] * SAMPLES, abs=0.1)
    for a, b in zip(blocking.keep.decisions, pipelined.keep.decisions, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


def test_decisions_are_right_more_often_than_not() -> None:
    done = run(samples=34)
    labels = Pack(PACK).labels
    right = sum(p.payload.name == labels[p.epoch - 1] for p in done.keep.packets)
    assert right >= 26


@pytest.mark.parametrize(("slow", "fast"), [("video", "audio"), ("audio", "video")])
def test_a_gate_that_always_skips_stops_the_slow_sensor_whichever_it_is(slow: str, fast: str) -> None:
    decide = DecideSamples(skip=True, threshold=0.0)
    done = run(decide, lags_ms={slow: 400}, costs_ms={slow: 10})
    assert {d.reason for d in done.keep.decisions} == {"skipped"}
    assert done.sensors[slow].unsensed == SAMPLES * 10
    assert done.sensors[fast].unsensed == 0
    assert max(d.latency_ns for d in done.keep.decisions) <= 1 * MS


def test_a_skip_cancels_the_encoding_under_way_and_drops_what_waits() -> None:
    done = run(DecideSamples(skip=True, threshold=0.0), costs_ms={"video": 70})
    encoder = done.encoders["video"]
    assert encoder.cancelled == SAMPLES
    assert encoder.skipped > 0
    assert {d.reason for d in done.keep.decisions} == {"skipped"}


def test_a_gate_that_never_skips_costs_nothing_but_its_own_time() -> None:
    never = run(DecideSamples(skip=True, threshold=1.01), lags_ms={"video": 400})
    without = run(lags_ms={"video": 400})
    assert [d.latency_ns for d in never.keep.decisions] == [d.latency_ns for d in without.keep.decisions]
    assert never.sensors["video"].unsensed == 0
    assert never.decide.skips == 0


def test_verification_decides_early_senses_all_and_says_what_the_skip_cost() -> None:
    decide = DecideSamples(skip=True, threshold=0.0, verify=0.5)
    done = run(decide, lags_ms={"video": 400})
    assert [d.verifies for d in done.keep.decisions].count(True) == SAMPLES // 2
    assert decide.verified == SAMPLES // 2
    assert done.sensors["video"].unsensed == SAMPLES // 2 * 10


def drop_all(unit: Unit) -> Sequence[Unit]:
    return ()


def test_a_dead_modality_is_left_out_after_the_patience_and_the_decision_says_so() -> None:
    done = run(spoil={"video": Spoil(drop_all)})
    whole = run()
    reasons = [d.reason for d in done.keep.decisions]
    assert reasons == ["silent"] * (SAMPLES - 1) + ["ended"]
    for dead, alive in zip(done.keep.decisions, whole.keep.decisions, strict=True):
        assert dead.missing == ("video",)
        assert "video" not in dead.used
        assert dead.confidence < alive.confidence + 0.1
    assert done.keep.at_ms[0] == pytest.approx(960, abs=50)


def test_a_modality_that_ends_early_without_saying_so_is_used_as_far_as_it_went() -> None:
    done = run(spoil={"video": Spoil(lambda u: (u,) if u.index < 12 else ())})
    assert {d.used["video"] for d in done.keep.decisions} == {12}
    assert [d.reason for d in done.keep.decisions] == ["silent"] * (SAMPLES - 1) + ["ended"]


def test_a_modality_that_stalls_for_a_second_is_given_up_and_what_comes_later_changes_nothing() -> None:
    done = run(spoil={"video": Spoil(lambda u: (u,), stall=(12, 1.0))})
    assert [d.reason for d in done.keep.decisions] == ["silent"] * SAMPLES
    assert done.decide.late == SAMPLES * 12


def test_a_stall_shorter_than_the_patience_is_waited_for() -> None:
    done = run(DecideSamples(patience=1500 * MS), spoil={"video": Spoil(lambda u: (u,), stall=(12, 1.0))})
    assert [d.reason for d in done.keep.decisions] == ["complete"] * SAMPLES


def test_a_late_modality_of_200_ms_drift_costs_200_ms_and_no_accuracy() -> None:
    drifted, straight = run(lags_ms={"audio": 200}), run()
    assert [d.label for d in drifted.keep.decisions] == [d.label for d in straight.keep.decisions]
    assert [d.latency_ns / MS for d in drifted.keep.decisions] == pytest.approx([200] * SAMPLES, abs=0.1)


def doubled(unit: Unit) -> Sequence[Unit]:
    return (unit, unit)


class Swap:
    """Swaps each pair of neighbours but the last."""

    def __init__(self) -> None:
        self.held: Unit | None = None

    def __call__(self, unit: Unit) -> Sequence[Unit]:
        if unit.index >= 22:
            return (unit,)
        if unit.index % 2 == 0:
            self.held = unit
            return ()
        assert self.held is not None
        first, self.held = self.held, None
        return (unit, first)


@pytest.mark.parametrize("change", [doubled, Swap()])
def test_doubled_and_swapped_units_change_no_decision(change: Change) -> None:
    spoiled, straight = run(spoil={"audio": Spoil(change)}), run()
    for a, b in zip(spoiled.keep.decisions, straight.keep.decisions, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert spoiled.decide.repeated == (SAMPLES * 24 if change is doubled else 0)


def test_features_that_are_not_numbers_are_left_out_and_counted() -> None:
    def break_some(unit: Unit) -> Sequence[Unit]:
        values = np.full_like(unit.values, np.nan) if unit.index % 4 == 0 else unit.values
        return (replace(unit, values=values),)

    done = run(spoil={"audio": Spoil(break_some)})
    assert {d.used["audio"] for d in done.keep.decisions} == {18}
    assert done.decide.broken == SAMPLES * 6
    assert all(np.isfinite(d.scores).all() for d in done.keep.decisions)


def test_a_sample_of_nothing_but_nan_is_reported_and_not_guessed() -> None:
    def nan(unit: Unit) -> Sequence[Unit]:
        return (replace(unit, values=np.full(unit.values.shape, np.nan, np.float32)),)

    done = run(spoil={"audio": Spoil(nan), "video": Spoil(drop_all)})
    assert done.keep.decisions == []
    assert len(done.problems) == SAMPLES
    assert "gave nothing of use" in done.problems[0]


def test_features_of_an_unknown_modality_are_reported() -> None:
    decide = DecideSamples(modalities=("audio",))
    done = run(decide)
    assert "decides from audio" in done.problems[0]
    assert len(done.keep.decisions) == SAMPLES


class Collect:
    """Keeps the units of a sensor."""

    inputs = {"unit": Unit}
    outputs = {"unit": Unit}

    def __init__(self) -> None:
        self.units: list[tuple[int, Unit]] = []

    def process(self, packet: Packet, ctx: Context) -> None:
        assert isinstance(packet.payload, Unit)
        self.units.append((packet.epoch, packet.payload))


class Turn(Collect):
    """Asks for another length of units at the given place."""

    def __init__(self, at: tuple[int, int], signal: Configure) -> None:
        super().__init__()
        self._at, self._signal = at, signal

    def process(self, packet: Packet, ctx: Context) -> None:
        super().process(packet, ctx)
        if (packet.epoch, len(self.units)) == self._at:
            ctx.signal(self._signal, Direction.UP)


def played(modality: str, unit_ms: int, turn: Collect) -> list[tuple[int, Unit]]:
    """Two samples of the example's pack."""
    graph = Graph()
    graph.add("sensor", Replay(PACK, modality, unit=unit_ms * MS, units=(40 * MS, 60 * MS, 120 * MS), limit=2))
    graph.add("turn", turn)
    graph.connect("sensor", "turn", capacity=64)
    clock = VirtualClock()
    run_virtual(Worker(graph, clock=clock).run(), clock)
    return turn.units


@pytest.mark.parametrize(("modality", "unit_ms"), [("audio", 60), ("video", 120)])
def test_after_a_change_units_end_where_they_would_have_had_the_sample_begun_so(modality: str, unit_ms: int) -> None:
    change = Configure(stage="sensor", settings={"unit": f"{unit_ms}ms"}, epoch=1)
    units = played(modality, 40, Turn((1, 2), change))
    changed = [unit for epoch, unit in units if epoch == 1]
    begun_so = [unit for epoch, unit in played(modality, unit_ms, Collect()) if epoch == 1]
    assert [unit.sensed_ns for unit in changed[-6:]] == [unit.sensed_ns for unit in begun_so[-6:]]
    np.testing.assert_array_equal(changed[-1].values, begun_so[-1].values)
    assert {unit.of for unit in changed[4:]} == {len(changed)}
    assert len([unit for epoch, unit in units if epoch == 2]) == 24


def test_a_length_for_no_one_sample_is_taken_up_by_the_next_one() -> None:
    units = played("video", 40, Turn((1, 2), Configure(stage="sensor", settings={"unit": "120ms"})))
    assert [[epoch for epoch, _ in units].count(sample) for sample in (1, 2)] == [24, 8]


def test_samples_that_are_played_again_are_samples_of_their_own() -> None:
    graph, turn = Graph(), Collect()
    sensor = Replay(PACK, "video", unit=120 * MS, limit=2, loops=2)
    graph.add("sensor", sensor)
    graph.add("turn", turn)
    graph.connect("sensor", "turn", capacity=64)
    clock = VirtualClock()
    run_virtual(Worker(graph, clock=clock).run(), clock)
    played_of = {sample: [unit.values for epoch, unit in turn.units if epoch == sample] for sample in (1, 2, 3, 4)}
    np.testing.assert_array_equal(played_of[3], played_of[1])
    np.testing.assert_array_equal(played_of[4], played_of[2])
    assert len(turn.units) == 32 and len(sensor.labels) == 4


def test_memory_does_not_grow_with_the_number_of_samples() -> None:
    done = run(samples=20)
    assert len(done.decide._samples) <= 6


def test_a_pack_that_is_none_is_refused(tmp_path: Path) -> None:
    from thalweg.models.senses.samples import SampleError

    (tmp_path / "x.npz").write_bytes(b"not a pack")
    with pytest.raises(SampleError, match="no pack of samples"):
        Pack(tmp_path / "x.npz")


def test_features_refuse_another_shape() -> None:
    from thalweg.pipeline.errors import PayloadError

    with pytest.raises(PayloadError, match="channel"):
        Features(vector=np.zeros((2, 2), np.float32), modality="a", index=0, of=1, sensed_ns=0)
