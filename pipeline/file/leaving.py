"""Which edges of a plan carry packets that are written as bytes: those that leave their process, and more."""

from __future__ import annotations

from thalweg.pipeline.cluster.supervision import Delivery
from thalweg.pipeline.file.plan import MEMORY, Plan
from thalweg.pipeline.graph import Connection, Graph


def leaving(graph: Graph, plan: Plan) -> list[Connection]:
    """The connections whose packets leave their process; and those within a worker that may be started again and is
    sent again what it had not dealt with, since what waits on them is part of its checkpoints.

    `graph`, `plan`: as they were written, not as replicas make them.
    """
    replicated = {stage for worker in plan.workers.values() if worker.replicas > 1 for stage in worker.stages}
    crossing = {
        connection.name
        for connection in graph.connections
        if plan.edges[connection.name].transport != MEMORY or connection.target in replicated
    }
    kept = {
        plan.edges[c.name].target
        for c in graph.connections
        if c.name in crossing
        and c.delivery is Delivery.AT_LEAST_ONCE
        and plan.workers[plan.edges[c.name].target].restart.may_return
    }
    return [c for c in graph.connections if c.name in crossing or plan.edges[c.name].target in kept]
