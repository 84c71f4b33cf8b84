"""Rewrites graph and plan for `replicas`: one worker becomes several, and no other code treats replicas specially.

    written         camera ──> detect (pool, replicas: 2) ──> show

    rewritten       camera ──> detect-split ──1──> detect (pool.1) ──1──> detect-merge ──> show
                                            └─2──> detect (pool.2) ──2──┘

The splitter runs in the worker of the producer, and one merger in the worker of each consumer; between two replicated
workers both run in the worker that feeds the first. The written edges keep their policies, into the splitter and out of
the merger. Edges to and from a replica block, since their packets are numbered. Inside a replica the stages are
connected as before.

In the rewritten graph a replicated stage occurs once, under its own name; each of its workers hosts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.file.plan import AUTO, MEMORY, EdgePlan, Plan, WorkerPlan
from thalweg.pipeline.graph import Connection, Graph, Role, Vertex
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.stage import KEYED, Port, StageInfo

TO_REPLICA, FROM_REPLICA = 1, 8
"""Capacity of these edges, packets at each end. To a replica: the fewest that keep it busy, because packets that wait
there are bound to it and grow old. From it: packets that are ahead of their turn.
"""


@dataclass(frozen=True, slots=True)
class Split:
    """The place of a splitter in the graph; see `Splitter` in `replica_nodes.py`. `key`: of a packet."""

    key: Callable[[Packet], object] | None


@dataclass(frozen=True, slots=True)
class Merge:
    """The place of a merger in the graph; see `Merger` in `replica_nodes.py`. `stage`, `port`: the stream it emits."""

    stage: str
    port: str


def replication_problems(graph: Graph, plan: Plan) -> list[tuple[str, str]]:
    """Worker → why it cannot be replicated."""
    found = []
    for worker in _pools(plan).values():
        for i in range(1, worker.replicas + 1):
            if f"{worker.name}.{i}" in plan.workers:
                found.append((worker.name, f"its replica {i} would be called as another worker, {worker.name}.{i}"))
        for name in worker.stages:
            info = graph.stages[name].info
            entering = [c for c in graph.connections if c.target == name]
            inner = [c for c in entering if c.source in worker.stages]
            wrong = (
                (not info.replicable, _UNDECLARED),
                (len(entering) > 1, "it takes several edges, whose packets the replicas would see in no order"),
                (
                    info.replicable == KEYED and inner,
                    "it keeps state by key and takes packets inside this worker, which are spread by another",
                ),
                (
                    any(c.policy is not Policy.BLOCK or c.max_age_ns for c in inner),
                    "it is fed inside this worker by an edge that drops packets; there it must be `policy: block`",
                ),
                (
                    any(made in graph.stages for made in (f"{name}-split", f"{name}-merge")),
                    f"{name}-split and {name}-merge, which its splitter and merger are called, are taken",
                ),
            )
            said = next((said for is_wrong, said in wrong if is_wrong), None)
            if said is not None:
                found.append((worker.name, f"stage {name!r} ({info.use}) cannot have replicas: {said}"))
    return found


_UNDECLARED = (
    "it may keep state from packet to packet. Place it on a worker of its own, or, where it keeps none or only by key, "
    'say so on its class: `replicable = "stateless"` or `"keyed"`'
)


def replicate(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """The graph and plan to run, rewritten for replicas, if any. Check `replication_problems` first."""
    if not _pools(plan):
        return graph, plan
    return _Rewriting(graph, plan).done()


def _pools(plan: Plan) -> dict[str, WorkerPlan]:
    return {name: worker for name, worker in plan.workers.items() if worker.replicas > 1}


class _Rewriting:
    """One pass over the connections."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._given, self._plan = graph, plan
        self._pools = _pools(plan)
        self._pool_of = {stage: name for name, worker in self._pools.items() for stage in worker.stages}
        self._host_of = {stage: worker.name for worker in plan.workers.values() for stage in worker.stages}
        self._graph = Graph(graph.name)
        for name, vertex in graph.stages.items():
            role = Role.REPLICA if name in self._pool_of else vertex.role
            self._graph.stages[name] = replace(vertex, role=role)
        self._edges: dict[str, EdgePlan] = {}
        self._added: dict[str, list[str]] = {}
        self._mergers: dict[tuple[str, str, str], str] = {}

    def done(self) -> tuple[Graph, Plan]:
        for connection in self._given.connections:
            self._rewrite(connection)
        workers: dict[str, WorkerPlan] = {}
        for name, worker in self._plan.workers.items():
            if name in self._pools:
                for i, replica in enumerate(self._replicas(name), 1):
                    workers[replica] = replace(worker, name=replica, replicas=1, pool=name, replica=i)
            else:
                workers[name] = replace(worker, stages=(*worker.stages, *self._added.get(name, ())))
        return self._graph, Plan(workers, self._edges)

    def _rewrite(self, c: Connection) -> None:
        source, target = self._pool_of.get(c.source), self._pool_of.get(c.target)
        transport = self._plan.edges[c.name].transport
        if source is not None and source == target:
            self._connect(replace(c, numbered=True), f"{source}.1", f"{source}.1", MEMORY)
            return
        at, onward = self._host_of[c.source], c
        if source is not None:
            at = self._home(source) if target is not None else self._host_of[c.target]
            onward = replace(c, source=self._merger(c, source, at, transport))
        if target is None:
            self._connect(onward, at, self._host_of[c.target], MEMORY if source is not None else transport)
        else:
            self._split(onward, target, at, transport)

    def _split(self, c: Connection, pool: str, at: str, transport: str) -> None:
        """The splitter of a stage, fed by `c`, and its edges to the replicas."""
        carried = self._graph.stages[c.source].info.outputs[c.source_port]
        name = f"{c.target}-split"
        replicas = self._replicas(pool)
        info = self._given.stages[c.target].info
        split = Split(info.cls.key if info.replicable == KEYED else None)  # type: ignore[attr-defined]  # it was checked
        self._add(name, split, Role.SPLIT, at, {c.target_port: carried}, dict.fromkeys(_ports(replicas), carried))
        self._connect(replace(c, target=name), at, at, MEMORY)
        for port, replica in zip(_ports(replicas), replicas, strict=True):
            edge = _counted(c, TO_REPLICA, source=name, source_port=port, target=c.target, target_port=c.target_port)
            self._connect(edge, at, replica, transport)

    def _merger(self, c: Connection, pool: str, at: str, transport: str) -> str:
        """The merger of a stream in a worker, with its edges from the replicas; one serves all consumers there."""
        key = c.source, c.source_port, at
        if key in self._mergers:
            return self._mergers[key]
        others = sum(stage == c.source for stage, _, _ in self._mergers)
        name = self._mergers[key] = f"{c.source}-merge" + (f"-{others + 1}" if others else "")
        given = self._given.stages[c.source].info.outputs[c.source_port]
        replicas = self._replicas(pool)
        inputs = dict.fromkeys(_ports(replicas), given)
        self._add(name, Merge(c.source, c.source_port), Role.MERGE, at, inputs, {c.source_port: given})
        for port, replica in zip(_ports(replicas), replicas, strict=True):
            edge = _counted(c, FROM_REPLICA, source=c.source, source_port=c.source_port, target=name, target_port=port)
            self._connect(edge, replica, at, transport)
        return name

    def _add(
        self, name: str, stands: Split | Merge, role: Role, at: str, inputs: dict[str, Port], outputs: dict[str, Port]
    ) -> None:
        info = StageInfo(
            use=f"replicas.{role.value}",
            cls=type(stands),
            inputs=inputs,
            outputs=outputs,
            configurable=frozenset(),
            blocking=False,
        )
        self._graph.stages[name] = Vertex(name=name, info=info, make=lambda: stands, role=role)
        self._added.setdefault(at, []).append(name)

    def _connect(self, connection: Connection, source: str, target: str, transport: str) -> None:
        self._graph.connections.append(connection)
        transport = MEMORY if source == target else AUTO if transport == MEMORY else transport
        self._edges[connection.name] = EdgePlan(name=connection.name, source=source, target=target, transport=transport)

    def _replicas(self, pool: str) -> list[str]:
        return [f"{pool}.{i}" for i in range(1, self._pools[pool].replicas + 1)]

    def _home(self, pool: str) -> str:
        """The worker, not itself replicated, that the packets of a replicated one come from in the first place."""
        asked, frontier = {pool}, [pool]
        while frontier:
            stages = self._pools[frontier.pop(0)].stages
            for feeding in [c.source for c in self._given.connections if c.target in stages and c.source not in stages]:
                other = self._pool_of.get(feeding)
                if other is None:
                    return self._host_of[feeding]
                if other not in asked:
                    asked.add(other)
                    frontier.append(other)
        raise AssertionError(f"nothing feeds {pool}: only sources are fed by nothing, and they have no replicas")


def _ports(replicas: Iterable[str]) -> list[str]:
    return [str(i) for i, _ in enumerate(replicas, 1)]


def _counted(c: Connection, capacity: int, **ends: str) -> Connection:
    """An edge to or from a replica."""
    return replace(c, policy=Policy.BLOCK, capacity=capacity, max_age_ns=None, numbered=True, **ends)  # type: ignore[arg-type]
