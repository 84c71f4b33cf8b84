"""Which worker hosts which stage, and what carries each edge: a spec plus its placement.

    workers:
      ears: {launcher: subprocess, restart: on_failure}
    placement:
      vad: ears             # a worker of the list
      chat: subprocess      # a launcher: a worker of its own, named after the stage
                            # all others: local, this process

An edge inside a worker is memory. Between two workers it is shared memory where they turn out to run on one host,
gRPC where they do not; `transports` decides otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any

from thalweg.pipeline.cluster.supervision import RestartPolicy, RestartWhen
from thalweg.pipeline.duration import parse_duration

LOCAL, SUBPROCESS = "local", "subprocess"
LAUNCHER_GROUP = "thalweg.launchers"
LAUNCHERS = (LOCAL, *sorted({point.name for point in entry_points(group=LAUNCHER_GROUP)} | {SUBPROCESS, "ray"}))
"""Ours, and those that installed packages register; see `deploy/cluster/launch.py`."""
MEMORY, SHARED_MEMORY, GRPC, AUTO = "memory", "shm", "grpc", "auto"
TRANSPORTS = (AUTO, SHARED_MEMORY, GRPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """One worker: how it is started and what it hosts. `options`: for its launcher, such as `cpus` for Ray.

    `restart`: what happens when it is lost; `restart_said`: the file says when it is to be restarted. `shared`: one
    process holds this worker of many runs, each with its own stages; `runs`: of how many at most, 0: of all that come.
    `replicas`: how many of it there are to be. `resumes`: each of its stages goes on from a snapshot when it is started
    again, or keeps nothing. Of those (`pipeline.replicating`) each is a worker that knows what the file calls them all,
    `pool`, and which it is, `replica`, from 1.
    """

    name: str
    launcher: str
    stages: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    restart_said: bool = False
    shared: bool = False
    runs: int = 0
    replicas: int = 1
    resumes: bool = False
    pool: str = ""
    replica: int = 0

    @property
    def has_spare(self) -> bool:
        """Whether a process in reserve can take its place."""
        return self.launcher == SUBPROCESS and not self.shared and self.restart.may_return


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePlan:
    """One edge: the workers at its ends and its transport."""

    name: str
    source: str
    target: str
    transport: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Workers by name, in the order of their first stage; edges by name. `stays`: see `staying`."""

    workers: Mapping[str, WorkerPlan]
    edges: Mapping[str, EdgePlan]
    stays: bool = False

    @property
    def only_local(self) -> bool:
        """Whether this process does it all."""
        return set(self.workers) <= {LOCAL}

    def hosts_of(self, what: str) -> list[str]:
        """The workers called `what`, or replicas of it, or that host the stage `what`."""
        workers = self.workers.values()
        return (
            [worker.name for worker in workers if what in (worker.name, worker.pool)]
            or [worker.name for worker in workers if what in worker.stages]
        )  # fmt: skip

    def noting(self, resumes: Callable[[str], bool]) -> Plan:
        """The plan with what is known of its stages: whether one `resumes`."""
        workers = {
            name: replace(worker, resumes=all(map(resumes, worker.stages))) for name, worker in self.workers.items()
        }
        return Plan(workers, self.edges, self.stays)

    def staying(self) -> Plan:
        """The plan of a deployment that stays: nothing in the process that supervises, and what is lost comes back.

        What was local becomes a subprocess; a worker of which the file does not say otherwise is restarted on failure.
        """
        workers = {}
        for name, worker in self.workers.items():
            launcher = "subprocess" if worker.launcher == LOCAL else worker.launcher
            when = worker.restart.when if worker.restart_said else RestartWhen.ON_FAILURE
            workers[name] = replace(worker, launcher=launcher, restart=replace(worker.restart, when=when))
        return Plan(workers, self.edges, stays=True)


def _whole(value: Any, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected a whole number from {least}, found {value!r}")
    return value


def _when(value: Any) -> RestartWhen:
    valid = [when.value for when in RestartWhen]
    if value not in valid:
        raise ValueError(f"expected one of {', '.join(valid)}, found {value!r}")
    return RestartWhen(value)


_RESTART: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "restart": ("when", _when),
    "restarts": ("restarts", lambda value: _whole(value, 1)),
    "window": ("window_ns", parse_duration),
    "backoff": ("backoff_ns", parse_duration),
    "heartbeat": ("heartbeat_ns", parse_duration),
    "poison_tries": ("poison_tries", lambda value: _whole(value, 2)),
}
RESTART_KEYS = tuple(_RESTART)


def read_restart(options: Mapping[str, Any]) -> tuple[RestartPolicy, dict[str, str]]:
    """The policy that the keys of a worker describe, and key → what is wrong with it."""
    fields: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for key, value in options.items():
        name, read = _RESTART[key]
        try:
            fields[name] = read(value)
        except ValueError as error:
            wrong[key] = f"{key}: {error}"
    return RestartPolicy(**fields), wrong


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
            said = "restart" in options
            restart, _ = read_restart({key: options.pop(key) for key in RESTART_KEYS if key in options})
            replicas = options.pop("replicas", 1)
            shared = options.pop("shared", False)
            planned[host] = WorkerPlan(
                name=host,
                launcher=launcher,
                stages=members,
                options=options,
                restart=restart,
                restart_said=said,
                shared=bool(shared),
                runs=shared["runs"] if isinstance(shared, dict) else 0,
                replicas=replicas,
            )
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
