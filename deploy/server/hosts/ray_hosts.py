"""Conversation hosts as Ray actors: one on each node, found by their names, so that any number of fronts share them.

Ray places them and says how each is reached; what a front and a host have to say to each other goes over TLS between
the two, and media between the person and the node. An actor is detached: it outlives the front that made it, and ends
when no front asks any more. Every client of the cluster can ask a host for its token: the cluster is the trust
boundary.

A node gets a host where it has the resource `thalweg`; where no node has that, every node does. With the resource, the
cluster's autoscaler is asked for as many such nodes as the front wants hosts (`placing.py`), before all places are
taken; a cluster without an autoscaler ignores that. Every `LOOK_S` the cluster is looked at: for new nodes, hosts that
died, and hosts of another pipeline file, which are emptied.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.deploy.cluster.host import Bundle
from thalweg.deploy.cluster.ray_host import CONNECT_S, aside, connected_ray, usual_priority
from thalweg.deploy.cluster.remote import RemoteError
from thalweg.deploy.server.hosts.front import Front
from thalweg.deploy.server.hosts.host import ConversationHost, HostOrder, settings_for_hosts
from thalweg.deploy.server.hosts.news import LOADING
from thalweg.deploy.server.hosts.record import HostError, HostRecord
from thalweg.deploy.server.settings import ServerSettings
from thalweg.pipeline.text import printable
from thalweg.stages.io.terminal import log_to_stderr, logs_objects

log = logging.getLogger(__name__)

LOOK_S = 1.0
START_S = 30.0
ANSWER_S = 1.0
EXIT_S = 10.0
RESOURCE = "thalweg"
SHARE = 0.001
ZONES = ("zone", "ray.io/availability-zone", "topology.kubernetes.io/zone")
"""Labels of a Ray node that say its zone: of `ray start --labels zone=…`, of clouds, of Kubernetes."""
_PREFIX = "conversation-host-"


class _HostActor:
    """What runs on a node. Its order says everything but where it is, which it knows itself."""

    def __init__(self, order: str) -> None:
        usual_priority()
        self._order = HostOrder.model_validate_json(order)
        if self._order.logs:
            log_to_stderr(as_json=self._order.logs == "json")
        self._record: asyncio.Future[HostRecord] | None = None
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return self._order.name  # how Ray begins the lines that come from here

    async def record(self) -> dict[str, Any]:
        """How it is reached. The first call starts it."""
        if self._record is None:
            ray: Any = importlib.import_module("ray")

            self._record = asyncio.get_running_loop().create_future()
            where = str(ray.util.get_node_ip_address())
            order = self._order.model_copy(update={"where": where})
            self._running = asyncio.get_running_loop().create_task(self._run(order, self._record))
        return (await asyncio.shield(self._record)).model_dump()

    async def _run(self, order: HostOrder, record: asyncio.Future[HostRecord]) -> None:
        ray: Any = importlib.import_module("ray")  # untyped in parts

        try:
            await ConversationHost(order).run(lambda found: None if record.done() else record.set_result(found))
        except Exception as error:
            log.exception("conversation host %s broke", order.name)
            if not record.done():
                record.set_exception(HostError(f"{type(error).__name__}: {error}"))
                await asyncio.sleep(1.0)  # so that the caller receives the error
        with contextlib.suppress(ray.exceptions.AsyncioActorExit):
            ray.actor.exit_actor()  # which takes effect with the next call of a front
        await asyncio.sleep(EXIT_S)
        os._exit(0)  # there is no front


@dataclass(frozen=True, slots=True)
class _Found:
    """Of a cluster: how hosts are reached, and why others are not there."""

    records: list[dict[str, Any]]
    missing: dict[str, str]


class RayHosts:
    """Keeps one on each node for a front. `run` until cancelled; the hosts stay, for other fronts."""

    def __init__(self, front: Front, bundle: Bundle, settings: ServerSettings) -> None:
        self._front = front
        front.drained_end = False  # the node is the operator's, who wants it empty
        self._bundle = bundle
        self._settings = settings
        self._digest = bundle.digest
        self._namespace = f"thalweg-{re.sub(r'[^A-Za-z0-9_-]', '-', front.spec.graph.name)}"
        self._one = threading.Lock()
        self._said = ""
        self._unanswered: dict[str, tuple[Any, float]] = {}  # what was asked of a host, and when; Any: Ray has no types
        self._wanted = 0  # what an earlier front has asked for may still stand

    async def run(self) -> None:
        """See the head of this file. A cluster that does not answer changes nothing: who talks, talks on."""
        heard = False
        while True:
            try:
                async with asyncio.timeout(START_S + CONNECT_S):
                    found = await aside(START_S + CONNECT_S, self._survey, self._front.wanted, self._useless())
                    self._front.missing = found.missing
                    for record in found.records:
                        self._add(record)
                if not heard:
                    heard = True
                    _hear_signals_again()
                self._say("")
            except (HostError, RemoteError, TimeoutError) as error:
                self._say(str(error) or "the Ray cluster does not answer")
            except Exception as error:  # Ray may raise anything
                self._say(f"the Ray cluster does not answer: {type(error).__name__}")
            await self._front.empty_others()
            await asyncio.sleep(LOOK_S)

    def _add(self, plain: dict[str, Any]) -> None:
        """One that cannot be read, such as of another version, keeps no other away."""
        try:
            self._front.add(HostRecord.read(plain))
        except HostError as error:
            self._front.missing[printable(str(plain.get("name")), 100)] = printable(str(error), 200)

    async def end(self) -> None:
        """Nothing ends: a host ends by itself once no front asks."""

    def _useless(self) -> set[str]:
        """Hosts to which newcomers cannot be sent, now or soon: another is to be there in the place of each."""
        links = self._front.links.values()
        return {link.name for link in links if link.told.draining or link.told.not_ready not in ("", LOADING)}

    def _survey(self, wanted: int, useless: set[str]) -> _Found:
        """How every host of the cluster is reached, those that were missing included. Blocks; one at a time: calls to a
        cluster that hangs may never return. Raises HostError where one has not. A host that is not there within
        `ANSWER_S`, such as one that Ray cannot place, is waited for at the next look, and is missing after `START_S`.
        """
        if not self._one.acquire(blocking=False):
            raise HostError("the Ray cluster does not answer")
        try:
            return self._surveyed(wanted, useless)
        finally:
            self._one.release()

    def _surveyed(self, wanted: int, useless: set[str]) -> _Found:
        ray = connected_ray()
        nodes = [node for node in ray.nodes() if node["Alive"]]
        marked = [node for node in nodes if node["Resources"].get(RESOURCE)]
        if marked and wanted != self._wanted:
            importlib.import_module("ray.autoscaler.sdk").request_resources(bundles=[{RESOURCE: 1}] * wanted)
            self._wanted = wanted
        there = {
            known["name"].removeprefix(_PREFIX)
            for known in ray.util.list_named_actors(all_namespaces=True)
            if known["namespace"] == self._namespace and known["name"].startswith(_PREFIX)
        }
        where = {self._name(node): node for node in marked or nodes}
        waited_for = {name: one for name, one in self._unanswered.items() if name in there | where.keys()}
        asked = {name: answer for name, (answer, _) in waited_for.items()}
        for name in sorted(there - asked.keys()):
            with contextlib.suppress(ValueError):
                asked[name] = ray.get_actor(f"{_PREFIX}{name}", namespace=self._namespace).record.remote()
        failed = self._front.missing
        lacking = sorted(where.keys() - asked.keys(), key=lambda name: (name in failed, name))
        if self._settings.shrink_s:  # as many as are wanted, and not one on each node
            lacking = lacking[: max(0, wanted - len((asked.keys() & where.keys()) - useless))]
        for name in lacking:
            asked[name] = self._actor(ray, name, where[name], bool(marked)).record.remote()
        done = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)[0] if asked else []
        now_s = time.monotonic()
        self._unanswered = {name: waited_for.get(name, (one, now_s)) for name, one in asked.items() if one not in done}
        untold = self._unanswered.keys() | (where.keys() - asked.keys())
        found = _Found([], {name: why for name, why in failed.items() if name in untold})
        for name, one in asked.items():
            if name in self._unanswered:
                if now_s - self._unanswered[name][1] >= START_S:
                    found.missing[name] = f"it was not there within {START_S:g} s"
                continue
            try:
                found.records.append(ray.get(one))
            except ray.exceptions.RayError as error:
                found.missing[name] = _reason(error)
        return found

    def _name(self, node: Mapping[str, Any]) -> str:
        """Of the host of a node."""
        return f"{node['NodeID'][-8:]}-{self._digest[:6]}"

    def _actor(self, ray: Any, name: str, node: Mapping[str, Any], marked: bool) -> Any:  # Any: Ray has no types here
        """The host of a node: the one that is there, or a new one."""
        order = HostOrder(
            name=name,
            bundle=self._bundle.plain(),
            where="0.0.0.0",  # where it is, the actor knows
            settings=settings_for_hosts(self._settings),
            drain_s=self._settings.drain_s,
            zone=zone_of(node),
            logs="json" if logs_objects() else "text",
        )
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        return (
            ray.remote(_HostActor)
            .options(
                name=f"{_PREFIX}{name}",
                namespace=self._namespace,
                lifetime="detached",
                get_if_exists=True,
                max_concurrency=16,
                num_cpus=0,
                resources={RESOURCE: SHARE} if marked else {},
                scheduling_strategy=strategy,
            )
            .remote(order.model_dump_json())
        )

    def _say(self, problem: str) -> None:
        """To the log, once for each problem in a row."""
        if problem != self._said:
            self._said = problem
            if problem:
                log.error("%s", problem)
            else:
                log.info("the Ray cluster answers")


def _reason(error: Exception) -> str:
    """The last line of what Ray says of an actor that failed, which says why; what is above it is a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if lines else type(error).__name__, 200)


def zone_of(node: Mapping[str, Any]) -> str:
    """Where a node is, as its labels say; empty where they do not."""
    labels = node.get("Labels") or {}
    return next((str(labels[name])[:100] for name in ZONES if labels.get(name)), "")


def _hear_signals_again() -> None:
    """Put the loop's handlers back: Ray's core takes the signals of a process when it connects, and dies of them."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.getsignal(number))
            signal.siginterrupt(number, False)
