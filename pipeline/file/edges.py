"""The connections of a pipeline file, and what stands with them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.cluster.supervision import Delivery
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.filling import Filling
from thalweg.pipeline.file.source import Source, SourcePlace
from thalweg.pipeline.file.values import guess
from thalweg.pipeline.graph import Graph, nearest
from thalweg.pipeline.node import Priority

CONNECTION_KEYS = ("from", "to", "policy", "capacity", "max_age", "priority", "delivery")


class Edges(Filling):
    """Connects the stages of a graph. `_broken`: stages that could not be made, of whose edges nothing is said."""

    def __init__(self, settings: dict[str, str], literal: bool, stand_ins: bool = False) -> None:
        super().__init__(settings, literal, stand_ins)
        self._broken: set[str] = set()
        self._connected: dict[str, SourcePlace] = {}
        self._edges: list[str | dict[str, Any]] = []

    def _connections(self, source: Source, graph: Graph) -> None:
        for i, given in enumerate(self._list(source, "connections")):
            path = ("connections", i)
            if isinstance(given, str):
                ends = [end.strip() for end in given.split("->")]
                if len(ends) < 2:
                    self._wrong(source, path, f"{given!r} connects nothing, expected `stage.port -> stage.port`")
                for a, b in pairwise(ends):
                    self._connect(source, path, graph, a, b, {})
                self._edges.append(given)
            elif isinstance(given, dict) and {"from", "to"} <= given.keys():
                for key in given:
                    if key not in CONNECTION_KEYS:
                        hint = nearest(key, CONNECTION_KEYS)
                        self._wrong(
                            source, (*path, key), f"unknown key {key!r}{hint}, expected {', '.join(CONNECTION_KEYS)}"
                        )
                options = self._options(source, path, given)
                said: dict[str, Any] = {key: self._text(source, (*path, key), given[key]) for key in given}
                self._edges.append(said | {key: options[key] for key in ("capacity",) if key in options})
                self._connect(source, path, graph, said["from"], said["to"], options)
            else:
                self._wrong(source, path, "a connection is `a.port -> b.port`, or a mapping with `from` and `to`")

    def _options(self, source: Source, path: tuple[str | int, ...], given: dict[str, Any]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        names: tuple[tuple[str, Mapping[str, Any]], ...] = (
            ("policy", {policy.value: policy for policy in Policy}),
            ("priority", {priority.name.lower(): priority for priority in Priority}),
            ("delivery", {delivery.value: delivery for delivery in Delivery}),
        )
        for key, valid in names:
            if key in given:
                value = self._text(source, (*path, key), given[key])
                if value in valid:
                    options[key] = valid[value]
                else:
                    self._wrong(
                        source,
                        (*path, key),
                        f"{key}: {value!r} is not one of {', '.join(valid)}{nearest(value, valid)}",
                    )
        if "capacity" in given:
            capacity = guess(self._fill(source, (*path, "capacity"), given["capacity"]))
            if type(capacity) is int and 1 <= capacity <= 1_000_000:
                options["capacity"] = capacity
            else:
                self._wrong(
                    source,
                    (*path, "capacity"),
                    f"capacity: expected a number of packets, 1…1000000, found {capacity!r}",
                )
        if "max_age" in given:
            options["max_age_ns"] = self._duration(source, (*path, "max_age"), given["max_age"])
        return options

    def _connect(
        self, source: Source, path: tuple[str | int, ...], graph: Graph, a: str, b: str, options: dict[str, Any]
    ) -> None:
        if {a.partition(".")[0], b.partition(".")[0]} & self._broken:
            return
        try:
            graph.connect(a, b, **options)
            self._connected[graph.connections[-1].name] = source.place(*path)
        except ThalwegError as error:
            self._wrong(source, path, str(error))
