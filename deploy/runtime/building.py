"""Builds the nodes and channels of one worker from a graph, with a bridge where an edge leaves or enters it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from thalweg.deploy.errors import StartError, describe_error
from thalweg.deploy.runtime.actor import Actor
from thalweg.deploy.runtime.bridge import Inlet, Outlet
from thalweg.deploy.runtime.hosting import Hosting
from thalweg.deploy.runtime.replica_nodes import node_of
from thalweg.pipeline.channel import Channel
from thalweg.pipeline.graph import Connection, Graph
from thalweg.pipeline.node import Edge, Node


def build(worker: Hosting, graph: Graph, hosted: Collection[str], edges: Collection[str] | None, replica: int) -> None:
    """Make the nodes, channels and bridges of `worker`; see its parameters. Raises StartError."""
    for vertex in graph.stages.values():
        if vertex.name not in hosted:
            continue
        try:
            stage = vertex.make()
            if vertex.placing is not None:
                from thalweg.deploy.fleet.placing.placed import PlacedStage  # only nodes need what it needs

                stage = PlacedStage(stage, vertex)
        except Exception as error:
            raise StartError(f"stage {vertex.name}: {describe_error(error)}") from error
        actor = node_of(worker, vertex, stage, replica)
        actor.observe = worker.observe if actor.on_emit is None else worker.observe_anywhere
        worker.actors[vertex.name] = actor
    for connection in graph.connections:
        producer: Actor | None = worker.actors.get(connection.source)
        consumer: Actor | None = worker.actors.get(connection.target)
        port, out_port = connection.target_port, connection.source_port
        if producer is None and consumer is None:
            continue
        if (producer is None or consumer is None) and edges is not None and connection.name not in edges:
            continue
        if consumer is None:
            consumer = worker.outlets[connection.name] = Outlet(worker, connection, connection.name in worker.returning)
            port = "in"
        elif producer is None:
            carried = graph.stages[connection.source].info.outputs[connection.source_port].type
            producer = worker.inlets[connection.name] = Inlet(
                worker, connection, carried, connection.name in worker.returning
            )
            out_port = "out"
        assert producer is not None
        _connect(worker, connection, producer, out_port, consumer, port)
    for actor in worker.actors.values():
        if hasattr(actor.stage, "join"):
            actor.join(actor.stage.join)
    _find_exact(worker)


def _find_exact(worker: Hosting) -> None:
    """The stages all of whose input would be sent again after a restart, so that they would repeat everything."""
    unsure: set[Node] = {inlet for inlet in worker.inlets.values() if not inlet.marks}
    unsure |= {actor for actor in worker.actors.values() if actor.info.is_source and not actor.gives_snapshots}
    frontier = deque(unsure)
    while frontier:
        node = frontier.popleft()
        after = {edge.consumer for port in node.outputs.values() for edge in port} - unsure
        unsure |= after
        frontier.extend(after)
    for actor in worker.actors.values():
        actor.exact = worker.returns and actor not in unsure


def _connect(
    worker: Hosting, connection: Connection, producer: Actor, out_port: str, consumer: Actor, port: str
) -> None:
    edge = Edge(
        name=connection.name,
        channel=Channel(policy=connection.policy, capacity=connection.capacity, max_age_ns=connection.max_age_ns),
        producer=producer,
        consumer=consumer,
        port=port,
        priority=connection.priority,
    )
    producer.outputs[out_port].append(edge)
    consumer.inputs.append(edge)
    worker.edges.append(edge)
