"""A fleet as Prometheus reads it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.processes import thalweg, wait_until
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.fleet.hub.fleet_metrics import told
from thalweg.deploy.fleet.hub.overview import overview
from thalweg.deploy.fleet.hub.page import HubPage
from thalweg.deploy.fleet.hub.state import HubState

ROOT = Path(__file__).parents[3]
REPORT: dict[str, Any] = {
    "instance": "a",
    "vehicle": {"rung": 2},
    "rollout": {"current": 3},
    "backlog": {"events": {"records": 7}, "media": {"records": "many"}},
    "refused": {"telemetry": 4},
    "deadlines": {"in_time": 90, "late": 5, "dropped": -1},
}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[HubState]:
    require_package("cryptography", "hub")
    require_package("prometheus_client", "metrics")
    found = HubState(tmp_path / "hub")
    for name in ("drone-7", "boat-1"):
        found.nodes[name] = {"revoked": False, "desired": 4, "serials": {}, "instances": ["a"]}
        (tmp_path / "hub/nodes" / name).mkdir()
    found.heard("drone-7", REPORT, time.time())
    yield found
    found.close()


def test_each_node_has_its_state_and_what_it_told_is_a_number_or_nothing(state: HubState) -> None:
    lines = set(_text(state).splitlines())
    assert {
        'thalweg_node_up{node="drone-7"} 1.0',
        'thalweg_node_up{node="boat-1"} 0.0',
        'thalweg_node_release{node="drone-7"} 3.0',
        'thalweg_node_release_wanted{node="drone-7"} 4.0',
        'thalweg_node_rung{node="drone-7"} 2.0',
        'thalweg_node_waiting_records{kind="events",node="drone-7"} 7.0',
        'thalweg_node_waiting_records{kind="media",node="drone-7"} 0.0',
        'thalweg_node_refused_records_total{kind="telemetry",node="drone-7"} 4.0',
        'thalweg_node_deadlines_total{node="drone-7",outcome="late"} 5.0',
        'thalweg_node_deadlines_total{node="drone-7",outcome="dropped"} 0.0',
    } <= lines
    assert not any(line.startswith('thalweg_node_seen_seconds{node="boat-1"}') for line in lines)


def test_what_was_received_of_a_node_is_not_zero_where_it_cannot_be_read(state: HubState, tmp_path: Path) -> None:
    records = tmp_path / "hub/nodes/boat-1/records"
    records.mkdir()
    (records / "marks.json").write_bytes(b"{")
    found = re.findall(r'^thalweg_node_received_records_total.*node="([^"]*)"', _text(state), re.MULTILINE)
    assert set(found) == {"drone-7"}


def test_every_family_is_in_the_documentation(state: HubState) -> None:
    told_of = set(re.findall(r"^# TYPE (\w+)", _text(state), re.MULTILINE))
    documented = set(re.findall(r"`(thalweg_node_\w+)`", (ROOT / "docs" / "edge.md").read_text(encoding="utf-8")))
    assert told_of == documented


def test_the_dashboard_shows_every_family_by_labels_that_it_has(state: HubState) -> None:
    labels_of: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(thalweg_\w+)\{([^}]*)\}", _text(state), re.MULTILINE):
        labels_of.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    labels_of["thalweg_node_lost_records_total"] = {"node", "reason"}  # nothing is lost yet
    shown = expressions()
    assert set(re.findall(r"thalweg_\w+", " ".join(shown))) == set(labels_of)
    for expression in shown:
        there = set.union(*(labels_of[name] for name in re.findall(r"thalweg_\w+", expression)))
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            assert {label.strip() for label in labels.split(",")} <= there, expression
        assert set(re.findall(r"[{,]\s*(\w+)\s*!?=", expression)) <= there, expression


def test_every_expression_of_the_dashboard_is_promql() -> None:
    require_package("promql_parser", "dev")
    import promql_parser

    for expression in expressions():
        promql_parser.parse(expression.replace("$node", ".*").replace("$__rate_interval", "1m"))


def expressions() -> list[str]:
    """What the panels ask for."""
    dashboard = json.loads((ROOT / "deploy/dashboards/fleet.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


def test_the_page_serves_them(state: HubState) -> None:
    class Request:
        """Asks for whatever there is."""

        headers: dict[str, str] = {}

    answer = asyncio.run(HubPage(state)._metrics(Request()))  # type: ignore[arg-type]
    assert b'thalweg_node_up{node="drone-7"} 1.0' in (answer.body or b"")  # type: ignore[operator]


def _text(state: HubState) -> str:
    return told(overview(state), "")[0].decode()


@pytest.mark.real
def test_a_hub_answers_to_the_name_that_prometheus_knows_it_by(tmp_path: Path) -> None:
    port, page = free_port(), free_port()
    command = thalweg("hub", "run", "--folder", tmp_path, "--port", port, "--page", page)
    hub = subprocess.Popen(command, env=os.environ | {"THALWEG_HOST_NAME": "hub other.example"}, cwd=ROOT)
    try:
        wait_until(lambda: answers(page, "localhost") == 200)
        assert [answers(page, name) for name in ("hub", "other.example", "evil.example")] == [200, 200, 421]
    finally:
        hub.send_signal(signal.SIGTERM)
        hub.wait(30)


def answers(port: int, name: str) -> int:
    """The status of /metrics for who calls the server so; 0 where nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Host": name})
        return connection.getresponse().status
    except ConnectionError:
        return 0
    finally:
        connection.close()
