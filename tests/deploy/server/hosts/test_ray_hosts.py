"""Which nodes of a Ray cluster get a host, and which host ends: the cluster here is what the test says it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.deploy.server.hosts.housing import bundle_of
from tests.deploy.server.hosts.test_decisions import room
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.server.hosts import ray_hosts
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.link import LinkState
from thalweg.deploy.server.hosts.news import LOADING, HostState
from thalweg.deploy.server.hosts.ray_hosts import _PREFIX, RayHosts, _Found
from thalweg.deploy.server.hosts.record import HostRecord
from thalweg.deploy.server.hosts.shrinking import Shrinking
from thalweg.deploy.server.hosts.subprocesses import SubprocessHosts
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.file.spec import load_spec

TEXT = pipeline()
DIGEST = bundle_of(TEXT).digest[:6]


class ActorBrokeError(Exception):
    """Of Ray."""


class Cluster:
    """Nodes by name, which all have the resource of hosts; `broken`: nodes on which no host can be started.

    `late`: hosts that do not answer yet. `calls`: how often each was asked, and how long it was waited for them all.
    """

    def __init__(self, *nodes: str, broken: str = "") -> None:
        self._nodes = nodes
        self.late: list[str] = []
        self.calls: Counter[str] = Counter()
        self.waited_s = 0.0
        self._broken = broken
        self.hosts: list[str] = []
        self.asked: list[int] = []
        self.util = SimpleNamespace(
            list_named_actors=lambda all_namespaces: [
                {"namespace": "thalweg-scripted", "name": f"{_PREFIX}{name}"} for name in self.hosts
            ],
        )
        self.exceptions = SimpleNamespace(RayError=ActorBrokeError)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": f"{name:0>40}", "Alive": True, "Resources": {"thalweg": 1.0}} for name in self._nodes]

    def get_actor(self, name: str, namespace: str) -> Any:
        return self._handle(name.removeprefix(_PREFIX))

    def start(self, name: str) -> Any:
        self.hosts.append(name)
        return self._handle(name)

    def _handle(self, name: str) -> Any:
        return SimpleNamespace(record=SimpleNamespace(remote=lambda: self._asked(name)))

    def _asked(self, name: str) -> str:
        self.calls[name] += 1
        return name

    def wait(self, asked: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        late = [name for name in asked if name in self.late]
        self.waited_s += timeout if late else 0.0
        return [name for name in asked if name not in late], late

    def get(self, name: str) -> dict[str, Any]:
        if self._broken and self._broken in name:
            raise ActorBrokeError("Traceback\n  ...\nModelError: no model small-one in the store\n")
        return {"name": name}


def hosts_of(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, shrink_s: float = 0.0) -> RayHosts:
    settings = ServerSettings(shrink_s=shrink_s)
    hosts = RayHosts(Front(load_spec(TEXT, "pipeline.yaml"), settings, "p"), bundle_of(TEXT), settings)
    monkeypatch.setattr("thalweg.deploy.server.hosts.ray_hosts.connected_ray", lambda: cluster)
    sdk = SimpleNamespace(request_resources=lambda bundles: cluster.asked.append(len(bundles)))
    monkeypatch.setattr("importlib.import_module", lambda name: sdk)
    monkeypatch.setattr(hosts, "_actor", lambda ray, name, node, marked: cluster.start(name))
    return hosts


def named(*nodes: str) -> list[str]:
    return [f"{node:0>8}-{DIGEST}" for node in nodes]


def test_each_node_gets_a_host_and_none_a_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a", "b")
    hosts = hosts_of(cluster, monkeypatch)
    for _ in range(2):
        assert [record["name"] for record in hosts._survey(1, set()).records] == named("a", "b")
    assert cluster.hosts == named("a", "b")


def test_a_node_on_which_ray_cannot_place_a_host_delays_the_others_by_a_second_a_look_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster("a", "b")
    cluster.late = named("b")
    hosts = hosts_of(cluster, monkeypatch)
    now = SimpleNamespace(monotonic=lambda: cluster.waited_s)
    monkeypatch.setattr(ray_hosts, "time", now)
    told = []
    while cluster.waited_s < 40.0:
        before_s = cluster.waited_s
        found = hosts._survey(1, set())
        assert [record["name"] for record in found.records] == named("a")
        assert cluster.waited_s - before_s <= 1.0
        told.append((cluster.waited_s, found.missing))
    late = {named("b")[0]: "it was not there within 30 s"}
    assert all(missing == (late if now_s > 30.0 else {}) for now_s, missing in told)
    assert cluster.calls[named("b")[0]] == 1, "it is waited for, and not asked again"
    cluster.late.clear()
    found = hosts._survey(1, set())
    assert sorted(record["name"] for record in found.records) == named("a", "b")
    assert found.missing == {}


def test_where_hosts_end_by_themselves_as_many_are_started_as_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a", "b", "c")
    hosts = hosts_of(cluster, monkeypatch, shrink_s=60.0)
    for wanted, there in ((1, "a"), (1, "a"), (2, "ab"), (1, "ab")):
        hosts._survey(wanted, set())
        assert cluster.hosts == named(*there)
    assert cluster.asked == [1, 2, 1], "what is not wanted any more is not asked of the autoscaler"
    hosts._survey(2, {named("a")[0]})
    assert cluster.hosts == named(*"abc"), "a host that is emptied counts no more"


def test_a_node_on_which_no_host_can_be_started_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a", "b", broken=named("b")[0])
    hosts = hosts_of(cluster, monkeypatch)
    found = hosts._survey(1, set())
    assert [record["name"] for record in found.records] == named("a")
    assert found.missing == {named("b")[0]: "ModelError: no model small-one in the store"}
    hosts._front.missing = found.missing
    assert asyncio.run(hosts._front.hosts()) == [
        {"name": named("b")[0], "state": "failed", "why": "ModelError: no model small-one in the store"}
    ]
    assert hosts._front.not_ready


def test_where_the_first_node_can_start_no_host_the_next_one_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster("a", "b", "c", broken=named("a")[0])
    hosts = hosts_of(cluster, monkeypatch, shrink_s=60.0)
    for _ in range(2):
        found = hosts._survey(1, set())
        hosts._front.missing = found.missing
        cluster.hosts = [name for name in cluster.hosts if name not in found.missing]
    assert [record["name"] for record in found.records] == named("b")
    assert found.missing == {named("a")[0]: "ModelError: no model small-one in the store"}, "the operator is still told"


@pytest.mark.parametrize(
    ("state", "useless"),
    [({}, False), ({"not_ready": LOADING}, False), ({"not_ready": "no model"}, True), ({"draining": True}, True)],
)
def test_a_host_that_has_no_pipeline_or_is_emptied_stands_in_the_way_of_none(
    monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], useless: bool
) -> None:
    hosts = hosts_of(Cluster("a"), monkeypatch, shrink_s=60.0)
    hosts._front.add(HostRecord(name="a", url="unix:/x", token="t" * 40, version="1", protocol=1, pipeline="p"))
    hosts._front.links["a"].told = HostState(**state)
    assert hosts._useless() == ({"a"} if useless else set())


def test_a_host_that_says_what_cannot_be_read_keeps_no_other_away(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = hosts_of(Cluster("a"), monkeypatch)
    good = HostRecord(name="b", url="unix:/x", token="t" * 40, version="1", protocol=1, pipeline="p")

    async def surveyed(*_: Any) -> _Found:
        return _Found([{"name": "a"}, good.model_dump()], {})

    monkeypatch.setattr(ray_hosts, "aside", surveyed)

    async def look() -> None:
        async with beside(hosts.run()):
            await asyncio.sleep(0)

    asyncio.run(look())
    assert list(hosts._front.links) == ["b"]
    assert list(hosts._front.missing) == ["a"]


def test_a_host_of_this_machine_that_failed_is_told_of_until_others_are_there_in_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    front = Front(load_spec(TEXT, "pipeline.yaml"), ServerSettings(), "p")
    front.missing = {"host-3": "it ended with code 1: the log says more"}
    front.add(HostRecord(name="host-1", url="unix:/x", token="t" * 40, version="1", protocol=1, pipeline="p"))
    hosts = SubprocessHosts(front, bundle_of(TEXT), ServerSettings(), 1, tmp_path)
    monkeypatch.setattr(hosts, "_starts", lambda: False)

    async def look() -> int:
        async with beside(hosts.run()):
            await asyncio.sleep(0)
        return len(front.missing)

    assert asyncio.run(look()) == 1
    front.links["host-1"].told = HostState()
    front.links["host-1"].state = LinkState.UP
    assert asyncio.run(look()) == 0


def test_a_host_that_was_empty_for_long_ends_where_the_others_have_room_to_spare() -> None:
    shrinking = Shrinking(60.0)
    rooms = [room("a", 3, limit=4), room("b", 0, limit=4), room("c", 0, limit=4)]
    assert shrinking.look(rooms, 0.0) is None
    assert shrinking.look(rooms, 59.9) is None
    assert shrinking.look(rooms, 60.0) == "c", "one at a time, and every front chooses the same"
    assert shrinking.look(rooms[:2], 60.1) == "b", "three of four places are taken then, as many as may be"
    assert shrinking.look(rooms[:1], 1000.0) is None


def test_a_host_with_someone_or_that_the_others_need_does_not_end() -> None:
    shrinking = Shrinking(60.0)
    for now_s in (0.0, 100.0):
        assert shrinking.look([room("a", 4, limit=4), room("b", 0, limit=4)], now_s) is None, "the other one is full"
    shrinking = Shrinking(60.0)
    for now_s in (0.0, 100.0):
        assert shrinking.look([room("a", 0, limit=4, ready=False), room("b", 0, limit=4)], now_s) != "b"
    shrinking = Shrinking(60.0)
    shrinking.look([room("a", 0, limit=4), room("b", 0, limit=4)], 0.0)
    shrinking.look([room("a", 0, limit=4), room("b", 0, pending=1, limit=4)], 50.0)
    assert shrinking.look([room("a", 1, limit=4), room("b", 0, limit=4)], 70.0) is None, "it was not empty all the time"


def test_without_the_setting_no_host_ends() -> None:
    shrinking = Shrinking(0.0)
    assert [shrinking.look([room("a"), room("b")], now_s) for now_s in (0.0, 1e9)] == [None, None]
