"""A plan as an SVG: one lane per worker, so that an edge which leaves its lane is one which leaves its process."""

from __future__ import annotations

from thalweg.deploy.ops.pictures.graph import columns_of
from thalweg.deploy.ops.pictures.plan_text import EITHER, carried, foreseen, launched
from thalweg.pipeline.file.plan import GRPC, MEMORY, SHARED_MEMORY
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.graph import Connection
from thalweg.pipeline.text import as_xml

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN, _HEAD, _LANE_GAP, _FOOT = 140, 44, 108, 22, 20, 30, 14, 40
_LANES = ("#e8f0f8", "#f6eee1", "#e9f4ea", "#f4e9f2", "#eeeef8", "#f1f1ea")
_STROKES = {
    MEMORY: ("#8a95a3", 1.2, ""),
    SHARED_MEMORY: ("#2c6fb0", 2.0, ""),
    GRPC: ("#b0532c", 2.0, ' stroke-dasharray="7 4"'),
    EITHER: ("#7a4fa3", 2.0, ' stroke-dasharray="2 3"'),
}
_NAMES = {MEMORY: "memory", SHARED_MEMORY: "shared memory", GRPC: "gRPC", EITHER: "shared memory or gRPC"}

Place = tuple[int, int]
Box = tuple[str, str]
"""Worker and stage."""


def plan_svg(spec: Spec) -> str:
    """A drawing that stands on its own, readable on light and dark pages."""
    places, lanes, width, height = _lay_out(spec)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif">',
        f"<title>{as_xml(spec.graph.name)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#fbfaf8"/>',
        "<defs>",
        *(
            f'<marker id="tip-{i}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="{color}"/></marker>'
            for i, (color, _, _) in enumerate(_STROKES.values())
        ),
        "</defs>",
    ]
    for i, (worker, (top, tall)) in enumerate(zip(spec.plan.workers.values(), lanes, strict=True)):
        parts.append(
            f'<rect x="{_MARGIN // 2}" y="{top}" width="{width - _MARGIN}" height="{tall}" rx="8" '
            f'fill="{_LANES[i % len(_LANES)]}" stroke="#c9d0d8"/>'
            f'<text x="{_MARGIN}" y="{top + 20}" font-size="13" font-weight="600" fill="#1d2733">'
            f'{as_xml(worker.name)}<tspan font-weight="400" fill="#5c6b7c">  {as_xml(launched(worker))}</tspan></text>'
        )
    parts += _edges(spec, places)
    for (_, name), (x, y) in places.items():
        middle = x + _BOX_W // 2
        use = spec.deployed.stages[name].info.use
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="7" fill="#ffffff" stroke="#42536a"/>'
            f'<text x="{middle}" y="{y + 19}" text-anchor="middle" font-size="14" fill="#1d2733">{as_xml(name)}</text>'
            f'<text x="{middle}" y="{y + 35}" text-anchor="middle" font-size="11" fill="#5c6b7c">{as_xml(use)}</text>'
        )
    used = dict.fromkeys(foreseen(spec.plan, edge) for edge in spec.plan.edges.values())
    return "\n".join([*parts, *_legend(list(used), height), "</svg>"]) + "\n"


def _lay_out(spec: Spec) -> tuple[dict[Box, Place], list[tuple[int, int]], int, int]:
    """Top left corner of each box, top and height of each lane, and the size of it all."""
    columns = columns_of(spec.deployed)
    places: dict[Box, Place] = {}
    lanes = []
    top = _MARGIN // 2
    for worker in spec.plan.workers.values():
        taken: dict[int, int] = {}
        for name in worker.stages:
            row = taken.get(columns[name], 0)
            taken[columns[name]] = row + 1
            places[worker.name, name] = (
                _MARGIN + columns[name] * (_BOX_W + _GAP_X),
                top + _HEAD + row * (_BOX_H + _GAP_Y),
            )
        tall = _HEAD + max(taken.values()) * (_BOX_H + _GAP_Y)
        lanes.append((top, tall))
        top += tall + _LANE_GAP
    width = max(x for x, _ in places.values()) + _BOX_W + _MARGIN
    return places, lanes, max(width, 560), top - _LANE_GAP + _FOOT


def _edges(spec: Spec, places: dict[Box, Place]) -> list[str]:
    drawn = [(connection, *ends) for connection in spec.deployed.connections for ends in _boxes(spec, connection)]
    parts = []
    for connection, source, target in drawn:
        transport = foreseen(spec.plan, spec.plan.edges[connection.name])
        color, stroke, dashes = _STROKES[transport]
        arriving = sorted((places[a], c.name) for c, a, b in drawn if b == target)
        arriving.sort(key=lambda came: came[0][1])
        at = [name for _, name in arriving].index(connection.name) + 1
        (x1, y1), (x2, y2) = places[source], places[target]
        x1, y1 = x1 + _BOX_W, y1 + _BOX_H // 2
        y2 += round(_BOX_H * at / (len(arriving) + 1))
        bend = min(max((x2 - x1) // 2, 40), _GAP_X)
        label = carried(spec, connection)
        beside = 13 if y1 < y2 - _BOX_H else -5  # on the side that the edge does not come from
        parts.append(
            f'<path d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="{color}" '
            f'stroke-width="{stroke}"{dashes} marker-end="url(#tip-{list(_STROKES).index(transport)})"/>'
            f'<text x="{x2 - 11}" y="{y2 + beside}" text-anchor="end" font-size="10" fill="#4c5a69" '
            f'paint-order="stroke" stroke="#ffffff" stroke-opacity=".7" stroke-width="3">{as_xml(label)}</text>'
        )
    return parts


def _boxes(spec: Spec, connection: Connection) -> list[tuple[Box, Box]]:
    """The boxes at the ends of an edge; of one inside a worker that has replicas, those of each of them."""
    edge = spec.plan.edges[connection.name]
    pool = spec.plan.workers[edge.source].pool
    inside = [w.name for w in spec.plan.workers.values() if pool and w.pool == pool and edge.source == edge.target]
    return [
        ((source, connection.source), (target, connection.target))
        for source, target in [(name, name) for name in inside] or [(edge.source, edge.target)]
    ]


def _legend(used: list[str], height: int) -> list[str]:
    parts = []
    x, y = _MARGIN, height - 16
    for transport in used:
        color, stroke, dashes = _STROKES[transport]
        parts.append(
            f'<path d="M{x} {y}h34" stroke="{color}" stroke-width="{stroke}"{dashes}/>'
            f'<text x="{x + 41}" y="{y + 4}" font-size="11" fill="#4c5a69">{_NAMES[transport]}</text>'
        )
        x += 60 + 7 * len(_NAMES[transport])
    return parts
