"""Which worker hosts which stage, and what carries each edge: a spec plus its placement.

    workers:
      ears: {launcher: subprocess}
    placement:
      vad: ears             # a worker of the list
      chat: subprocess      # a launcher: a worker of its own, named after the stage
                            # all others: local, this process

An edge inside a worker is memory. Between two workers it is shared memory where they turn out to run on one host,
gRPC where they do not; `transports` decides otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LOCAL = "local"
LAUNCHERS = (LOCAL, "subprocess", "ray")
MEMORY, SHARED_MEMORY, GRPC, AUTO = "memory", "shm", "grpc", "auto"
TRANSPORTS = (AUTO, SHARED_MEMORY, GRPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One worker: how it is started and what it hosts. `options`: for its launcher, such as `cpus` for Ray."""

    name: str
    launcher: str
    stages: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePlan:
    """One edge: the workers at its ends and its transport."""

    name: str
    source: str
    target: str
    transport: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers by name, in the order of their first stage; edges by name."""

    workers: Mapping[str, WorkerPlan]
    edges: Mapping[str, EdgePlan]

    @property
    def only_local(self) -> bool:
        """Whether this process does it all."""
        return set(self.workers) <= {LOCAL}


def make_plan(
    stages: Mapping[str, str],
    edges: Mapping[str, tuple[str, str]],
    workers: Mapping[str, Mapping[str, Any]],
    transports: Mapping[str, str],
) -> Plan:
    """A plan from checked parts: `stages` name → worker or launcher, `edges` name → producing and consuming stage."""
    hosts = {
        stage: stage if place in LAUNCHERS[1:] and place not in workers else place for stage, place in stages.items()
    }
    planned: dict[str, WorkerPlan] = {}
    for stage, host in hosts.items():
        if host not in planned:
            options = dict(workers.get(host, {}))
            place = stages[stage]
            launcher = options.pop("launcher", LOCAL if host == LOCAL else place if host == stage else "subprocess")
            members = tuple(other for other, its_host in hosts.items() if its_host == host)
            planned[host] = WorkerPlan(name=host, launcher=launcher, stages=members, options=options)
    planned_edges = {
        name: EdgePlan(
            name=name,
            source=hosts[source],
            target=hosts[target],
            transport=MEMORY if hosts[source] == hosts[target] else transports.get(name, AUTO),
        )
        for name, (source, target) in edges.items()
    }
    return Plan(planned, planned_edges)
