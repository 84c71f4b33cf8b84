"""What is known of a fleet, for Prometheus (docs/edge.md). What a node has told is validated by `overview`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from thalweg.deploy.fleet.hub.told import number_in
from thalweg.deploy.ops.observing.families import counter, encoded, gauge, need_metrics
from thalweg.pipeline.fleet.spool_policy import SpoolClass

if TYPE_CHECKING:
    from prometheus_client import Metric

KINDS = tuple(kind.value for kind in SpoolClass)
OUTCOMES = ("in_time", "late", "dropped")


def told(rows: list[dict[str, Any]], accepted: str) -> tuple[bytes, str]:
    """Rows of `overview` in the format that is asked for, and its name. Raises MetricsError without the package."""
    need_metrics()
    return encoded([*_states(rows), *_records(rows)], accepted)


def _states(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    up = gauge("thalweg_node_up", "1 where the node has reported of late", "node")
    seen = gauge("thalweg_node_seen_seconds", "Since its last report", "node")
    runs = gauge("thalweg_node_release", "The generation that is committed there", "node")
    wanted = gauge("thalweg_node_release_wanted", "The generation that it should run", "node")
    rung = gauge("thalweg_node_rung", "How far down its ladder of limits it is", "node")
    waiting = gauge("thalweg_node_waiting_records", "Records that wait there", "node", "kind")
    for row in rows:
        name = [row["node"]]
        up.add_metric(name, int(row["state"] == "here"))
        if row["seen_s"] is not None:
            seen.add_metric(name, row["seen_s"])
        runs.add_metric(name, row["current"])
        wanted.add_metric(name, row["wanted"])
        rung.add_metric(name, row["rung"])
        for kind in KINDS:
            waiting.add_metric([*name, kind], number_in(row["backlog"], kind, "records"))
    yield from (up, seen, runs, wanted, rung, waiting)


def _records(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    received = counter("thalweg_node_received_records", "Records that are here", "node", "kind")
    lost = counter("thalweg_node_lost_records", "Records that will never come", "node", "reason")
    refused = counter("thalweg_node_refused_records", "Records its spool did not take", "node", "kind")
    deadlines = counter("thalweg_node_deadlines", "Packets with a deadline, by what became of them", "node", "outcome")
    for row in rows:
        name = row["node"]
        for kind in KINDS:
            if not row["unread"]:  # nothing is not zero: a counter that falls was begun anew
                received.add_metric([name, kind], row["received"].get(kind, 0))
            refused.add_metric([name, kind], number_in(row["refused"], kind))
        for reason, count in row["lost"].items():
            lost.add_metric([name, reason], count)
        for outcome in OUTCOMES:
            deadlines.add_metric([name, outcome], number_in(row["deadlines"], outcome))
    yield from (received, lost, refused, deadlines)
