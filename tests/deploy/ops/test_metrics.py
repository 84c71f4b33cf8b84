"""Prometheus metrics: what is exported, what the dashboard asks for, and turns that are counted once."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.conftest import require_package
from thalweg.deploy.bench.dialogue.dashboard import Panel, draw, expressions
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.metrics import MetricsError, parse_address, serving_metrics
from thalweg.deploy.ops.observing.readings import Stats
from thalweg.deploy.ops.observing.stats import TurnStats, WorkerStats
from thalweg.deploy.ops.observing.turn_ledger import TurnLedger
from thalweg.deploy.reading import bundle_of, read_spec

ROOT = Path(__file__).parents[3]
TICKING = Path(__file__).parents[1] / "ticking" / "ticking.yaml"
DASHBOARD = ROOT / "deploy" / "dashboards" / "thalweg.json"
MS = 1_000_000
OF_A_SERVER = {
    "thalweg_sessions": ["state"],
    "thalweg_events_total": ["kind"],
    "thalweg_counts_total": ["kind"],
    "thalweg_conversation_turns": [],
    "thalweg_sessions_limit": [],
    "thalweg_loop_late_seconds": [],
    "thalweg_loop_tasks": [],
    "thalweg_cpu_share": [],
    "thalweg_interrupt_seconds": [],
    "thalweg_answer_seconds": [],
}
"""What `serve` exports besides: tests/deploy/server/observing/test_metrics.py holds it against a server."""

ELSEWHERE = {
    "thalweg_host_up": ["host"],
    "thalweg_front_places": [],
    "thalweg_front_conversations": [],
    "thalweg_front_events_total": ["kind"],
    "thalweg_node_up": ["node"],
    "thalweg_node_lost_records_total": ["node", "reason"],
}
"""What a front and a hub export: test_decisions.py and test_hub_metrics.py hold it against them."""


async def scrape(settings: dict[str, str]) -> str:
    """What Prometheus gets from the ticking pipeline on two workers after a while."""
    ready = asyncio.Event()
    spec = read_spec(TICKING, settings)
    deployment = Deployment(spec, bundle_of(TICKING, settings, traced=False), lambda _: None, on_ready=ready.set)

    async def look() -> tuple[Stats, dict[str, int]]:
        return await deployment.stats(), {"middle": 2}

    def fetch(url: str) -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    with serving_metrics("0", "ticking", look) as url:
        async with asyncio.TaskGroup() as group:
            group.create_task(deployment.run())
            await ready.wait()
            await asyncio.sleep(0.7)
            text = await asyncio.to_thread(fetch, url)
            deployment.stop()
    return text


@pytest.fixture(scope="module")
def scraped() -> str:
    require_package("prometheus_client", "metrics")
    return asyncio.run(scrape({"fail": "5"}))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.real
def test_every_worker_stage_and_channel_is_exported_with_the_worker_as_a_label(scraped: str) -> None:
    found = samples(scraped)
    relay = (("stage", "relay"), ("use", "ticking_stages:Relay"), ("worker", "middle"))
    units = found["thalweg_stage_units_total", relay]
    assert units > 0
    assert found["thalweg_stage_unit_duration_seconds_count", relay] == units
    assert found["thalweg_stage_failures_total", relay] == units // 5
    assert found["thalweg_stage_busy_seconds_total", relay] > 0
    assert found["thalweg_worker_up", (("worker", "local"),)] == 1
    assert found["thalweg_worker_restarts_total", (("worker", "middle"),)] == 2
    edge = (("channel", "clock.tick -> relay.tick"), ("side", "receiving"), ("worker", "middle"))
    assert found["thalweg_channel_capacity", edge] == 8
    assert found["thalweg_channel_age_seconds_count", edge] == found["thalweg_channel_popped_total", edge]
    assert found["thalweg_turns_started_total", ()] > 0


@pytest.mark.real
def test_buckets_of_a_histogram_rise_to_its_count(scraped: str) -> None:
    found = samples(scraped)
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in found.items()
        if name == "thalweg_stage_unit_duration_seconds_bucket" and dict(labels)["stage"] == "relay"
    ]
    counts = [count for _, count in sorted(buckets)]
    assert len(counts) == 23
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


@pytest.mark.real
def test_every_expression_of_the_dashboard_asks_for_metrics_and_labels_that_are_exported(scraped: str) -> None:
    labels_of: dict[str, set[str]] = {}
    for name, labels in samples(scraped):
        labels_of.setdefault(name, set()).update(dict(labels))
    labels_of.setdefault("thalweg_channel_dropped_total", set()).update({"worker", "channel", "side", "reason"})
    labels_of.setdefault("thalweg_turn_latency_seconds_bucket", set()).update({"milestone", "le"})
    expressions = [*expressions_of(json.loads(DASHBOARD.read_text())), *alerts()]
    for name, labels in (OF_A_SERVER | ELSEWHERE).items():
        labels_of[name], labels_of[f"{name}_bucket"] = set(labels), {*labels, "le"}
    exported = set(re.findall(r"^# TYPE (\w+)", scraped, re.MULTILINE)) | set(OF_A_SERVER) | set(ELSEWHERE)
    assert len(expressions) > 25
    for expression in expressions:
        names = re.findall(r"\bthalweg_\w+", expression)
        assert names, expression
        for name in names:
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            assert {name, family} & exported, f"{name} is not exported"
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            asked = {label.strip() for label in labels.split(",")} - {"instance", "host"}
            assert asked <= set.union(*(labels_of[name] for name in names)), expression
        for label in set(re.findall(r"[{,]\s*(\w+)\s*=", expression)) - {"instance", "host"}:
            assert label in set.union(*(labels_of[name] for name in names)), expression


def test_every_expression_of_the_dashboard_is_promql() -> None:
    require_package("promql_parser", "dev")
    import promql_parser

    filled = {"$__rate_interval": "1m", "$__range": "1h", "$worker": ".*", "$instance": ".*", "$host": ".*"}
    for expression in [*expressions_of(json.loads(DASHBOARD.read_text())), *alerts()]:
        if not expression.startswith("label_values("):
            for variable, value in filled.items():
                expression = expression.replace(variable, value)
            promql_parser.parse(expression)


def test_alerts_tell_of_whatever_may_be_gone() -> None:
    """A worker, a host, a node, and the one who would tell of them."""
    watched = " ".join(alerts())
    for sign in ("up == 0 and on (job, instance)", "thalweg_worker_up ==", "thalweg_host_up ==", "thalweg_node_up =="):
        assert sign in watched


def alerts() -> list[str]:
    """What the rules beside the dashboard ask for."""
    found = yaml.safe_load((DASHBOARD.parent / "alerts.yaml").read_text())
    return [rule["expr"] for group in found["groups"] for rule in group["rules"]]


def expressions_of(dashboard: dict[str, object]) -> list[str]:
    """Every `expr` and every query of a variable."""
    text = json.dumps(dashboard)
    queries = re.findall(r'"query": "(label_values\((?:[^"\\]|\\.)*\))"', text)
    return [json.loads(f'"{found}"') for found in re.findall(r'"expr": "((?:[^"\\]|\\.)*)"', text)] + queries


@pytest.mark.real
def test_the_page_on_metrics_names_exactly_what_is_exported(scraped: str) -> None:
    exported = set(re.findall(r"^# TYPE (\w+)", scraped, re.MULTILINE)) | set(OF_A_SERVER)
    documented = set(re.findall(r"`(thalweg_\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert documented == exported


def test_a_port_that_is_taken_is_said_so() -> None:
    require_package("prometheus_client", "metrics")

    async def try_it(port: int) -> None:
        async def nothing() -> tuple[Stats, dict[str, int]]:
            return {}, {}

        with serving_metrics(str(port), "x", nothing):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MetricsError, match="Address already in use; give another address with --metrics"):
            asyncio.run(try_it(taken.getsockname()[1]))


def test_an_address_is_a_port_or_a_host_and_a_port() -> None:
    assert parse_address("9464") == ("127.0.0.1", 9464)
    assert parse_address("0.0.0.0:9464") == ("0.0.0.0", 9464)
    with pytest.raises(MetricsError, match="expected PORT or HOST:PORT"):
        parse_address("everywhere")


def look_at(*turns: TurnStats) -> dict[str, WorkerStats | None]:
    """One worker per turn, each with what it saw."""
    empty: WorkerStats = {
        "pid": 1, "now_ns": 0, "started_ns": 0, "cpu_s": 0.0, "resident_bytes": 0, "open_files": 0, "problems": 0,
        "stages": {}, "channels": {}, "turns": [],
    }  # fmt: skip
    return {f"w{i}": {**empty, "turns": [turn]} for i, turn in enumerate(turns)} | {"gone": None}


def turn(epoch: int, end: int | None = None, **marks: int) -> TurnStats:
    return {
        "epoch": epoch, "speech_end_ns": end, "marks": marks, "complete": False, "interrupted": False, "failed": False
    }  # fmt: skip


def test_a_turn_seen_by_two_workers_many_times_is_one_turn_with_each_milestone_once() -> None:
    ledger = TurnLedger()
    heard = turn(3, end=100 * MS, first_partial=90 * MS)
    answered = turn(3, first_token=400 * MS) | {"complete": True}
    ledger.update(look_at(heard))
    ledger.update(look_at(heard, answered))
    ledger.update(look_at(heard, answered))
    assert ledger.started == 1
    assert ledger.outcomes == {"complete": 1, "interrupted": 0, "failed": 0}
    assert ledger.latencies["first_token"].count == 1
    assert 300 * MS <= ledger.latencies["first_token"].quantile(0.5) <= 320 * MS
    assert ledger.latencies["first_partial"].maximum_ns == 0


def test_turns_beyond_what_is_kept_are_not_counted_anew_when_they_are_told_again() -> None:
    ledger = TurnLedger()
    for epoch in range(1, 2000):
        ledger.update(look_at(turn(epoch)))
    ledger.update(look_at(turn(1)))
    assert ledger.started == 1999


def test_an_hours_picture_asks_for_all_that_the_dashboard_asks_for() -> None:
    asked = [expression for _, targets in expressions() for expression, _ in targets]
    assert len(asked) > 25 and not any("$" in expression for expression in asked)
    assert 'max(thalweg_loop_late_seconds{instance=~".*", host=~".*"})' in asked


@pytest.mark.real  # Matplotlib looks for fonts with another program the first time
def test_a_panel_with_nothing_to_show_is_drawn_as_such(tmp_path: Path) -> None:
    require_package("matplotlib", "plot")
    draw([Panel("one", "s", [("a", [(0.0, 1.0), (60.0, 2.0)])]), Panel("none", "s")], tmp_path / "panels.png")
    assert (tmp_path / "panels.png").read_bytes().startswith(b"\x89PNG")
