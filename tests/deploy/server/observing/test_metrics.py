"""Metrics of a server: conversations summed, those that are over included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.ops.test_metrics import OF_A_SERVER, samples
from tests.deploy.server.serving import Server, run
from thalweg.deploy.ops.observing.merging import at_rest, merged
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.server.observing.tally import Tally
from thalweg.pipeline.dialogue.playout import Finished
from thalweg.pipeline.observing.histogram import Histogram
from thalweg.pipeline.observing.turn import Turn
from thalweg.transports.webrtc.client import Talker

MS = 1_000_000
ADMIN = {"Authorization": "Bearer admin"}


async def scraped(server: Server) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    status, text = await server.ask("GET", "/metrics", headers=ADMIN)
    assert status == 200
    return samples(text)


def test_all_of_a_conversation_is_counted_and_stays_counted_when_it_is_over() -> None:
    require_package("prometheus_client", "webrtc")
    channel = (("channel", "microphone.audio -> speaker.audio"), ("side", "whole"), ("worker", "local"))
    pushed = "thalweg_channel_pushed_total", channel
    replaced = "thalweg_counts_total", (("kind", "frames_replaced"),)

    async def case(server: Server) -> None:
        async with Talker(server.url):
            await server.until(lambda: server.conversations.talking)
            session = next(iter(server.conversations.sessions.values()))
            session.worker.turns.turns[1] = Turn(1, 0, speech_end_ns=1_000 * MS)
            session.worker.turns.turns[2] = Turn(2, 1_900 * MS)
            session.call.started[1] = 1_700 * MS
            session.call.counts["frames_replaced"] += 3
            await server.until(lambda: session.tally.played.count)
            session.call.finished.append(Finished(epoch=1, time_ns=2_000 * MS, text="so", complete=False))
            await server.until(lambda: session.tally.answers.count)
            during = await scraped(server)
            assert during["thalweg_turns_started_total", ()] == 2
            assert during["thalweg_turn_latency_seconds_sum", (("milestone", "played"),)] == pytest.approx(0.7)
            assert during["thalweg_interrupt_seconds_sum", ()] == pytest.approx(0.1)
            assert during["thalweg_answer_seconds_sum", ()] == pytest.approx(0.3)
            assert during["thalweg_worker_up", (("worker", "local"),)] == 1
            assert during[pushed] > 0
            assert during[replaced] == 3
        await server.until(lambda: not server.conversations.sessions)
        after = await scraped(server)
        assert after["thalweg_turns_started_total", ()] == 2
        assert after["thalweg_interrupt_seconds_count", ()] == 1
        assert after[pushed] >= during[pushed] and after[replaced] == 3
        assert after["thalweg_channel_depth", channel] == after["thalweg_channel_capacity", channel] == 0
        _, text = await server.ask("GET", "/metrics", headers=ADMIN)
        exported = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE thalweg_")}
        assert set(OF_A_SERVER) <= exported

    run(case)


def reading(units: int, depth: int = 1, **counts: int) -> WorkerStats:
    work = Histogram()
    for _ in range(units):
        work.record(5 * MS)
    stage: Any = {"use": "a.b", "units": units, "failures": 1, "work": work.plain(), "counts": counts}
    channel: Any = {
        "side": "whole", "policy": "block", "capacity": 8, "depth": depth, "max_depth": depth, "pushed": units,
        "popped": units - depth, "drops": {"stale": units}, "age": work.plain(),
    }  # fmt: skip
    return {
        "pid": 1, "now_ns": 0, "started_ns": 0, "cpu_s": 0.0, "resident_bytes": 0, "open_files": 0, "problems": 1,
        "stages": {"s": stage}, "channels": {"c": channel}, "turns": [],
    }  # fmt: skip


def test_readings_are_summed_by_stage_and_channel() -> None:
    whole = merged([reading(3, hits=1), reading(4, hits=2, misses=1)])
    assert whole is not None
    stage, channel = whole["stages"]["s"], whole["channels"]["c"]
    assert (stage["units"], stage["failures"], stage["counts"]) == (7, 2, {"hits": 3, "misses": 1})
    assert Histogram.from_plain(stage["work"]).count == 7
    assert (channel["capacity"], channel["depth"], channel["pushed"], channel["drops"]) == (16, 2, 7, {"stale": 7})
    assert whole["problems"] == 2
    assert merged([]) is None


def test_of_what_has_ended_nothing_waits_and_all_is_counted() -> None:
    over, other = Tally(), Tally()
    other.workers = {"local": reading(5, depth=2)}
    over.close(other)
    over.close(other)
    channel = over.with_those_under_way([]).workers["local"]["channels"]["c"]
    assert (channel["depth"], channel["capacity"], channel["pushed"]) == (0, 0, 10)
    assert over.with_those_under_way([other]).workers["local"]["channels"]["c"]["depth"] == 2
    assert at_rest(reading(1))["stages"] == reading(1)["stages"]
