"""From two looks at running workers to rates, and from those to a screen."""

from __future__ import annotations

import io

from rich.console import Console

from thalweg.deploy.ops.keeping.top import screen
from thalweg.deploy.ops.observing.live import line_of, table_of
from thalweg.deploy.ops.observing.readings import Reading, Readings
from thalweg.deploy.ops.observing.stats import ChannelStats, WorkerStats
from thalweg.pipeline.observing.histogram import Histogram

MS = 1_000_000


def channel(pushed: int, popped: int, side: str = "whole", ages_ms: tuple[int, ...] = ()) -> ChannelStats:
    age = Histogram()
    for age_ms in ages_ms:
        age.record(age_ms * MS)
    return {
        "side": side, "policy": "block", "capacity": 8, "depth": pushed - popped, "max_depth": 8,
        "pushed": pushed, "popped": popped,
        "drops": {"stale": 2} if pushed > 100 else {}, "age": age.plain(),
    }  # fmt: skip


def worker(units: int, each_ms: int, *, pid: int = 7, cpu_s: float = 0.0) -> WorkerStats:
    """A source, `mic`, which feeds `ears`, which has worked on `units` packets."""
    work = Histogram()
    for _ in range(units):
        work.record(each_ms * MS)
    return {
        "pid": pid, "now_ns": 0, "started_ns": 0, "cpu_s": cpu_s, "resident_bytes": 50_000_000, "open_files": 9,
        "problems": 1,
        "stages": {
            "mic": {"use": "mic", "units": 0, "failures": 0, "work": Histogram().plain(), "counts": {}},
            "ears": {"use": "ears", "units": units, "failures": 1, "work": work.plain(), "counts": {}},
        },
        "channels": {"mic.audio -> ears.audio": channel(units + 3, units, ages_ms=(5,) * units)},
        "turns": [],
    }  # fmt: skip


def test_rates_times_and_shares_are_those_between_the_looks() -> None:
    readings = Readings()
    readings.read({"w": worker(100, 1, cpu_s=1.0)}, at_s=10.0)
    now = worker(100, 1, cpu_s=2.0)
    now["stages"]["ears"] = worker(150, 1)["stages"]["ears"]
    reading = readings.read({"w": now}, at_s=12.0)
    ears = next(stage for stage in reading.stages if stage.stage == "ears")
    assert reading.seconds == 2.0
    assert ears.rate == 25.0
    assert ears.busy == 0.025
    assert 1.0 <= ears.p50_ms <= 1.07
    assert (ears.queue, ears.failures) == (3, 1)
    assert reading.workers[0].cpu == 0.5


def test_the_rate_of_a_source_is_that_of_what_it_gives() -> None:
    readings = Readings()
    readings.read({"w": worker(0, 1)}, at_s=0.0)
    reading = readings.read({"w": worker(10, 1)}, at_s=1.0)
    assert [stage.rate for stage in reading.stages if stage.stage == "mic"] == [10.0]


def test_a_worker_that_was_started_again_counts_from_nothing() -> None:
    readings = Readings()
    readings.read({"w": worker(1000, 1, pid=7)}, at_s=0.0)
    reading = readings.read({"w": worker(10, 1, pid=8)}, at_s=1.0)
    assert [stage.rate for stage in reading.stages if stage.stage == "ears"] == [10.0]


def test_only_the_last_five_seconds_count_however_long_it_is_watched() -> None:
    readings = Readings()
    for second in range(60):
        reading = readings.read({"w": worker(second, 1)}, at_s=float(second))
    assert reading.seconds == 5.0


def test_a_worker_that_does_not_answer_is_left_out_and_the_others_are_not() -> None:
    reading = Readings().read({"w": worker(1, 1), "gone": None}, at_s=0.0)
    assert [found.worker for found in reading.workers] == ["w"]


def shown(reading: Reading, height: int) -> list[str]:
    status = {
        "name": "kiosk",
        "state": "ready",
        "since": 0.0,
        "file": "kiosk.yaml",
        "workers": {
            "w": {"state": "running", "pid": 7, "restarts": 2, "stages": ["mic", "ears"]},
            "gone": {"state": "dead", "pid": None, "restarts": 5, "stages": []},
        },
    }
    console = Console(width=120, height=height or 50)
    with console.capture() as captured:
        console.print(screen(status, reading, (120, height) if height else None))
    return captured.get().splitlines()


def test_the_screen_shows_workers_stages_channels_and_what_is_dead() -> None:
    lines = shown(Readings().read({"w": worker(200, 1), "gone": None}, at_s=0.0), 0)
    text = "\n".join(lines)
    assert "gone    dead" in text
    assert "ears   w" in text
    assert "3/8" in text and "2 stale" in text


def test_what_a_stage_counts_itself_is_shown_below_the_stages_and_cut_where_there_is_no_room() -> None:
    counting = worker(200, 1)
    counting["stages"]["ears"]["counts"] = {
        "asked_house": 3,
        "answered_house": 2,
        **{f"more_{i}": i for i in range(40)},
    }
    reading = Readings().read({"w": counting}, at_s=0.0)
    assert next(s for s in reading.plain()["stages"] if s["stage"] == "ears")["counts"]["asked_house"] == 3
    (line,) = [line for line in shown(reading, 24) if line.startswith("ears: ")]
    assert line.startswith("ears: answered house 2, asked house 3, more 0")
    assert len(line) <= 120
    assert not any(line.startswith("ears: ") for line in shown(reading, 14))


def test_a_low_terminal_shows_the_busiest_channels_and_says_that_others_are_missing() -> None:
    many = worker(5, 1)
    many["channels"] |= {f"mic.audio -> ears.a{i}": channel(i, 0) for i in range(40)}
    lines = shown(Readings().read({"w": many}, at_s=0.0), 24)
    assert len(lines) <= 24
    assert any("quieter channels" in line for line in lines)
    assert any("39/8" in line for line in lines)


def test_while_it_runs_each_stage_is_shown_with_its_worker_where_there_are_several() -> None:
    readings = Readings()
    readings.read({"pool.1": worker(0, 1), "pool.2": worker(0, 1)}, 0.0)
    reading = readings.read({"pool.1": worker(10, 1), "pool.2": worker(30, 1), "gone": None}, 2.0)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(table_of(reading))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert rows[0][:3] == ["stage", "worker", "units/s"]
    assert [row[:3] for row in rows if row[0] == "ears"] == [["ears", "pool.1", "5.0"], ["ears", "pool.2", "15.0"]]
    assert "ears 40" in line_of(reading, 2.0) and line_of(reading, 2.0).endswith("errors 2")


def test_with_one_worker_its_name_is_left_out() -> None:
    readings = Readings()
    reading = readings.read({"local": worker(10, 1)}, 0.0)
    assert [str(column.header) for column in table_of(reading).columns][:2] == ["stage", "units/s"]
