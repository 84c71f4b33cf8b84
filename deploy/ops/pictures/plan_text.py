"""`thalweg plan`: which worker will host which stage and what will carry each edge, before anything starts."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from thalweg.deploy.console import Console, line
from thalweg.pipeline.file.plan import AUTO, GRPC, LOCAL, MEMORY, SHARED_MEMORY, EdgePlan, Plan, WorkerPlan
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.graph import Connection

EITHER = "shm or grpc"
_SAID = {
    MEMORY: "memory",
    SHARED_MEMORY: "shared memory",
    GRPC: "gRPC",
    EITHER: "shared memory or gRPC",
}
_LAUNCHED = {LOCAL: "this process", "subprocess": "a subprocess", "ray": "a Ray actor"}


def plan_entry(spec: Spec) -> dict[str, Any]:
    """The plan as plain data, for `--json`."""
    return {
        "name": spec.graph.name,
        "workers": [
            {
                "name": worker.name,
                "launcher": worker.launcher,
                "options": dict(worker.options),
                "stages": list(worker.stages),
                **({"replica_of": worker.pool} if worker.pool else {}),
            }
            for worker in spec.plan.workers.values()
        ],
        "edges": [
            {
                "name": connection.name,
                "from_worker": edge.source,
                "to_worker": edge.target,
                "carries": carried(spec, connection),
                "policy": connection.policy.value,
                "capacity": connection.capacity,
                "transport": foreseen(spec.plan, edge),
            }
            for connection, edge in _edges(spec)
        ],
    }


def print_plan(spec: Spec, console: Console) -> None:
    """The plan as two tables."""
    plan = spec.plan
    workers = Table(title="workers", title_justify="left", box=None, pad_edge=False, title_style="bold")
    for column in ("worker", "runs as", "stages"):
        workers.add_column(column, overflow="fold")
    for worker in plan.workers.values():
        stages = (line(name, " ", (spec.deployed.stages[name].info.use, "dim")) for name in worker.stages)
        workers.add_row(worker.name, launched(worker), Text(", ").join(stages))
    console.print(workers)
    edges = Table(title="edges", title_justify="left", box=None, pad_edge=False, title_style="bold")
    for column in ("edge", "carries", "policy", "workers", "over"):
        edges.add_column(column, overflow="fold")
    seen = set()
    for connection, edge in _edges(spec):
        transport = foreseen(plan, edge)
        inside = plan.workers[edge.source].pool or edge.source
        place = inside if edge.source == edge.target else f"{edge.source} → {edge.target}"
        policy = connection.policy.value + (f", {connection.capacity}" if connection.policy.value != "latest" else "")
        edges.add_row(connection.name, carried(spec, connection), policy, place, _SAID[transport])
        seen.add(transport)
    console.print(edges)
    if EITHER in seen:
        console.say(("Where Ray places both ends on one host it is shared memory, else gRPC.", "dim"))


def launched(worker: WorkerPlan) -> str:
    """How a worker is started and what it asks for, in words."""
    wants = {key: value for key, value in worker.options.items() if value}
    asked = ", ".join(
        f"{key} {', '.join(f'{n}={v}' for n, v in value.items()) if isinstance(value, dict) else value}"
        for key, value in wants.items()
    )
    said = _LAUNCHED[worker.launcher] + (f" ({asked})" if asked else "")
    return f"{said}, a replica of {worker.pool}" if worker.pool else said


def foreseen(plan: Plan, edge: EdgePlan) -> str:
    """The transport of an edge as far as it can be known before Ray has placed anything."""
    if edge.transport != AUTO:
        return edge.transport
    on_ray = "ray" in (plan.workers[edge.source].launcher, plan.workers[edge.target].launcher)
    return EITHER if on_ray else SHARED_MEMORY


def carried(spec: Spec, connection: Connection) -> str:
    """The name of the payload type of an edge."""
    return spec.deployed.stages[connection.source].info.outputs[connection.source_port].type.__name__


def _edges(spec: Spec) -> list[tuple[Connection, EdgePlan]]:
    return [(connection, spec.plan.edges[connection.name]) for connection in spec.deployed.connections]
