"""Which stages a worker may host that many runs share (`workers: {NAME: {shared: true}}`).

Each run has stages of its own there, so what a stage keeps in itself is never another's. What it keeps outside is.
"""

from __future__ import annotations

from thalweg.pipeline.file.plan import Plan
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.stage import StageInfo


def sharing_problems(graph: Graph, plan: Plan) -> list[tuple[str, str]]:
    """Worker → why it cannot be shared."""
    return [
        (worker.name, f"stage {name!r} ({graph.stages[name].info.use}) cannot be on a shared worker: {problem}")
        for worker in plan.workers.values()
        if worker.shared
        for name in worker.stages
        if (problem := _problem(graph.stages[name].info))
    ]


def _problem(info: StageInfo) -> str:
    if info.is_source:
        return "it is a source, and what it senses would be one run's only"
    if getattr(info.cls, "single", False):
        return "there may be one of it only, and each run would have its own"
    if info.keeps:
        return f"it keeps something of people ({info.keeps}), and would keep it of all runs in one place"
    return ""
