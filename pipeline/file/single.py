"""Stages of which a pipeline has one at most, by their class attribute `single`: two would share what is for one."""

from __future__ import annotations

from collections.abc import Iterator

from thalweg.pipeline.graph import Graph


def single_problems(graph: Graph) -> Iterator[tuple[str, str]]:
    """Stage and problem, of each that is one too many."""
    first: dict[str, str] = {}
    for name, vertex in graph.stages.items():
        use = vertex.info.use
        if getattr(vertex.info.cls, "single", False) and first.setdefault(use, name) != name:
            yield name, f"stage {name!r} is another {use} beside {first[use]!r}: a pipeline has one at most"
