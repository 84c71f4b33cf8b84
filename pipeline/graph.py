"""Stages and the typed edges between them, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.cluster.supervision import Delivery
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.fleet.moving.places import Placing
from thalweg.pipeline.node import Priority
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, Payload, VideoFrame
from thalweg.pipeline.stage import Port, StageInfo, describe, only_port
from thalweg.pipeline.suggestion import nearest

__all__ = ["Connection", "Graph", "GraphError", "Role", "Vertex", "maker", "nearest"]

GIVERS = 5
"""Most outputs that the error about an unconnected input suggests."""


class GraphError(ThalwegError):
    """The requested connection or graph is invalid."""


class Role(Enum):
    """The role of a vertex among replicas; see `pipeline.cluster.replicas`. Without replicas it is a STAGE."""

    STAGE = "stage"
    REPLICA = "replica"
    SPLIT = "split"
    MERGE = "merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A stage of the graph. `make` builds it in the process where it will run. `retry_ns`: a source that raises is run
    again after this time, see `pipeline.cluster.retry`; None: the error ends it. `placing`: where else it may run.
    """

    name: str
    info: StageInfo
    make: Callable[[], Any]
    deadline_ns: int | None = None
    retry_ns: int | None = None
    role: Role = Role.STAGE
    placing: Placing | None = None


def maker(cls: type, arguments: Mapping[str, Any]) -> Callable[[], Any]:
    """What makes stages of a class. Each has lists, mappings and sets of its own in its parameters, so that what one
    puts there does not come to another run in the same process.
    """
    return lambda: cls(**{name: _copied(value) for name, value in arguments.items()})


def _copied(value: Any) -> Any:
    if type(value) is dict:
        return {key: _copied(one) for key, one in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple, set) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """An edge from one port to another, and its policy for a slow consumer.

    `numbered`: what it carries is `Numbered`.
    """

    source: str
    source_port: str
    target: str
    target_port: str
    policy: Policy = Policy.BLOCK
    capacity: int = 8
    max_age_ns: int | None = None
    priority: Priority = Priority.CONTROL
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    numbered: bool = False

    @property
    def name(self) -> str:
        """`camera.video -> encoder.video`."""
        return f"{self.source}.{self.source_port} -> {self.target}.{self.target_port}"


@dataclass(slots=True)
class Graph:
    """Stages by name and the connections between them, in the order they were given."""

    name: str = "pipeline"
    stages: dict[str, Vertex] = field(default_factory=dict)
    connections: list[Connection] = field(default_factory=list)
    _into: dict[tuple[str, str], Connection] = field(default_factory=dict, init=False, repr=False, compare=False)
    _indexed: int = field(default=0, init=False, repr=False, compare=False)

    def add(self, name: str, stage: object, *, deadline_ns: int | None = None) -> None:
        """Add a stage that already exists. Raises GraphError if the name is taken."""
        self.add_vertex(Vertex(name=name, info=describe(type(stage)), make=lambda: stage, deadline_ns=deadline_ns))

    def add_vertex(self, vertex: Vertex) -> None:
        """Add a stage that is yet to be built. Raises GraphError if the name is taken or has a dot in it."""
        if vertex.name in self.stages:
            raise GraphError(f"there are two stages named {vertex.name!r}")
        if not vertex.name.replace("-", "_").isidentifier():
            raise GraphError(f"{vertex.name!r} cannot name a stage: use letters, digits, _ and -")
        self.stages[vertex.name] = vertex

    def connect(
        self,
        source: str,
        target: str,
        *,
        policy: Policy = Policy.BLOCK,
        capacity: int = 8,
        max_age_ns: int | None = None,
        priority: Priority | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        """Connect `stage.port` to `stage.port`. The port may be omitted where a stage has only one, or one required
        port.

        Raises GraphError on a stage or port that does not exist, types that do not fit, or a taken input.
        """
        out_name, out_port = self._end(source, "outputs")
        in_name, in_port = self._end(target, "inputs")
        out_type = self.stages[out_name].info.outputs[out_port].type
        port = self.stages[in_name].info.inputs[in_port]
        if out_type is Payload:  # of a program's own, which is checked when it is sent
            out_type = port.type
        if not issubclass(out_type, port.type):
            raise GraphError(
                f"{out_name}.{out_port} carries {out_type.__name__}, but {in_name}.{in_port} takes {port.type.__name__}"
            )
        taken = self._first_into().get((in_name, in_port))
        if taken is not None and not port.many:
            raise GraphError(f"{in_name}.{in_port} takes one edge and already has {taken.name}")
        self.connections.append(
            Connection(
                source=out_name,
                source_port=out_port,
                target=in_name,
                target_port=in_port,
                policy=policy,
                capacity=capacity,
                max_age_ns=max_age_ns,
                priority=_default_priority(out_type) if priority is None else priority,
                delivery=_default_delivery(out_type) if delivery is None else delivery,
            )
        )

    def problems(self) -> list[str]:
        """Errors of the whole graph: required inputs without a connection, and cycles."""
        found = []
        fed = {(c.target, c.target_port) for c in self.connections}
        for vertex in self.stages.values():
            for port, declared in vertex.info.inputs.items():
                if declared.required and (vertex.name, port) not in fed:
                    givers = self._givers(declared)
                    hint = f"; it could come from {', '.join(givers)}" if givers else ""
                    found.append(f"nothing is connected to {vertex.name}.{port} ({declared.type.__name__}){hint}")
        cycle = self.cycle()
        if cycle:
            found.append(f"packets would go round in a circle: {' -> '.join(cycle)}; send control back as a signal")
        if not self.stages:
            found.append("there are no stages")
        return found

    def cycle(self) -> list[str]:
        """The names along one cycle, with the first repeated at the end; empty if there is none."""
        after: dict[str, list[str]] = {name: [] for name in self.stages}
        for c in self.connections:
            after[c.source].append(c.target)
        done: set[str] = set()
        for start in self.stages:
            path: dict[str, Iterator[str]] = {start: iter(after[start])} if start not in done else {}
            while path:
                name = next(reversed(path))
                following = next(path[name], None)
                if following is None:
                    done.add(name)
                    del path[name]
                elif following in path:
                    names = list(path)
                    return [*names[names.index(following) :], following]
                elif following not in done:
                    path[following] = iter(after[following])
        return []

    def successors(self, name: str) -> Iterable[str]:
        """The stages that `name` feeds, each once."""
        return dict.fromkeys(c.target for c in self.connections if c.source == name)

    def _first_into(self) -> dict[tuple[str, str], Connection]:
        """Input → the first connection that ends there. Callers may append to `connections` at any time."""
        if self._indexed > len(self.connections):
            self._indexed = 0
            self._into.clear()
        for c in islice(self.connections, self._indexed, None):
            self._into.setdefault((c.target, c.target_port), c)
        self._indexed = len(self.connections)
        return self._into

    def _givers(self, port: Port) -> list[str]:
        """The first few outputs whose type fits a port."""
        fitting = (
            f"{vertex.name}.{name}"
            for vertex in self.stages.values()
            for name, out in vertex.info.outputs.items()
            if issubclass(out.type, port.type)
        )
        return list(islice(fitting, GIVERS))

    def _end(self, text: str, side: str) -> tuple[str, str]:
        name, _, port = text.partition(".")
        if name not in self.stages:
            raise GraphError(f"there is no stage {name!r}{nearest(name, self.stages)}")
        ports: Mapping[str, Port] = getattr(self.stages[name].info, side)
        kind = side[:-1]
        if not port:
            port = only_port(ports) or ""
        if port not in ports:
            have = ", ".join(ports)
            if not have:
                what = "nothing comes out of it" if kind == "output" else "it takes nothing"
                raise GraphError(f"stage {name} has no {side}: {what}")
            found = f"no {kind} {port!r}" if port else f"several {side}: say which"
            raise GraphError(f"stage {name} has {found}{nearest(port, ports)} (its {side}: {have})")
        return name, port


def _default_priority(carried: type[Payload]) -> Priority:
    if issubclass(carried, AudioChunk):
        return Priority.AUDIO
    return Priority.VIDEO if issubclass(carried, VideoFrame) else Priority.CONTROL


def _default_delivery(carried: type[Payload]) -> Delivery:
    media = issubclass(carried, AudioChunk | VideoFrame | EncodedVideo)
    return Delivery.NEWEST if media else Delivery.AT_LEAST_ONCE
