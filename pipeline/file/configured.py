"""What classes of stages say of their place among others, held against the graph.

`configures`: what a stage will configure of others. A signal that reaches no stage, or one that does not take it, would
say so only while the pipeline runs, or never. `single`: a pipeline has one at most: two would share what is for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.unread import Unread
from thalweg.pipeline.graph import Graph, nearest


def configured_problems(graph: Graph, arguments: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(stage, what is wrong with what it will configure). `arguments`: stage → what its file gives it."""
    found = []
    for name, given in arguments.items():
        configures = getattr(graph.stages[name].info.cls, "configures", None)
        if configures is None:
            continue
        try:
            wanted = list(configures(given))
        except ThalwegError as error:
            found.append((name, f"stage {name}: {error}"))
            continue
        leading = _leading(graph, name)
        for stage, settings in wanted:
            found += [(name, f"{name} configures {stage}: {why}") for why in _wrong(graph, leading, stage, settings)]
    return list(dict.fromkeys(found))


def _wrong(graph: Graph, leading: set[str], stage: str, settings: Mapping[str, object]) -> Iterator[str]:
    if stage not in graph.stages:
        yield f"there is no such stage{nearest(stage, graph.stages)}"
        return
    if stage not in leading:
        yield "it is not reached, since nothing leads from there to here"
    info = graph.stages[stage].info
    if info.cls is Unread:
        return
    for name, value in settings.items():
        if name not in info.configurable:
            may = ", ".join(sorted(info.configurable)) or "nothing"
            yield f"{name} cannot change while it runs{nearest(name, info.configurable)}; what can: {may}"
            continue
        try:
            info.check_some({name: value})
        except ThalwegError as error:
            yield str(error)


def _leading(graph: Graph, name: str) -> set[str]:
    """The stages from which packets come here, the nearest and the farthest."""
    found: set[str] = set()
    left = [name]
    while left:
        here = left.pop()
        more = {c.source for c in graph.connections if c.target == here} - found
        found |= more
        left += more
    return found


def single_problems(graph: Graph) -> Iterator[tuple[str, str]]:
    """Stage and problem, of each that is one too many."""
    first: dict[str, str] = {}
    for name, vertex in graph.stages.items():
        use = vertex.info.use
        if getattr(vertex.info.cls, "single", False) and first.setdefault(use, name) != name:
            yield name, f"stage {name!r} is another {use} beside {first[use]!r}: a pipeline has one at most"
