"""A pipeline as a picture: Mermaid text, or an SVG that stands on its own.

The SVG puts each stage into the column of its longest way from a source, so that data flows left to right,
and orders a column by where its inputs come from.
"""

from __future__ import annotations

from thalweg.pipeline.channel import Policy
from thalweg.pipeline.duration import format_duration
from thalweg.pipeline.graph import Connection, Graph
from thalweg.pipeline.text import as_xml

_BOX_W, _BOX_H, _GAP_X, _GAP_Y, _MARGIN = 150, 46, 92, 26, 24


def mermaid(graph: Graph) -> str:
    """A Mermaid flow chart."""
    lines = ["flowchart LR"]
    for vertex in graph.stages.values():
        lines.append(f'    {_id(vertex.name)}["{vertex.name}<br/><small>{vertex.info.use}</small>"]')
    for connection in graph.connections:
        lines.append(f"    {_id(connection.source)} -->|{_label(graph, connection)}| {_id(connection.target)}")
    return "\n".join(lines) + "\n"


def svg(graph: Graph) -> str:
    """A drawing, readable on light and dark pages."""
    places = _layout(graph)
    width = max(x for x, _ in places.values()) + _BOX_W + _MARGIN
    height = max(y for _, y in places.values()) + _BOX_H + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif">',
        f"<title>{as_xml(graph.name)}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#fbfaf8"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#6b7785"/></marker></defs>',
    ]
    for connection in graph.connections:
        parts.append(_edge(graph, connection, places))
    for vertex in graph.stages.values():
        x, y = places[vertex.name]
        fill = "#e3edf7" if vertex.info.is_source else "#f7ecdf" if not vertex.info.outputs else "#ffffff"
        middle = x + _BOX_W // 2
        parts.append(
            f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{_BOX_H}" rx="7" fill="{fill}" stroke="#42536a"/>'
            f'<text x="{middle}" y="{y + 20}" text-anchor="middle" font-size="14" fill="#1d2733">'
            f"{as_xml(vertex.name)}</text>"
            f'<text x="{middle}" y="{y + 36}" text-anchor="middle" font-size="11" fill="#5c6b7c">'
            f"{as_xml(vertex.info.use)}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _id(name: str) -> str:
    return name.replace("-", "_")


def _label(graph: Graph, connection: Connection) -> str:
    label = graph.stages[connection.source].info.outputs[connection.source_port].type.__name__
    if connection.policy is not Policy.BLOCK:
        label += f", {connection.policy.value}"
    if connection.max_age_ns is not None:
        label += f", ≤ {format_duration(connection.max_age_ns)}"
    return label


def columns_of(graph: Graph) -> dict[str, int]:
    """How many edges lie between each stage and a source, on the longest way."""
    column = dict.fromkeys(graph.stages, 0)
    for _ in graph.stages:
        for c in graph.connections:
            column[c.target] = max(column[c.target], column[c.source] + 1)
    return column


def _layout(graph: Graph) -> dict[str, tuple[int, int]]:
    """Top left corner of each box."""
    column = columns_of(graph)
    columns: dict[int, list[str]] = {}
    for name in graph.stages:
        columns.setdefault(column[name], []).append(name)
    row: dict[str, float] = {}
    for index in sorted(columns):
        wanted = {
            name: [row[c.source] for c in graph.connections if c.target == name and c.source in row] or [0.0]
            for name in columns[index]
        }
        names = sorted(columns[index], key=lambda name: sum(wanted[name]) / len(wanted[name]))
        free = 0.0
        for name in names:
            row[name] = max(free, min(wanted[name]))
            free = row[name] + 1
    return {
        name: (_MARGIN + column[name] * (_BOX_W + _GAP_X), round(_MARGIN + row[name] * (_BOX_H + _GAP_Y)))
        for name in graph.stages
    }


def _edge(graph: Graph, connection: Connection, places: dict[str, tuple[int, int]]) -> str:
    x1, y1 = places[connection.source]
    x2, y2 = places[connection.target]
    arriving = sorted(
        (c for c in graph.connections if c.target == connection.target), key=lambda c: -places[c.source][0]
    )
    x1, y1 = x1 + _BOX_W, y1 + _BOX_H // 2
    y2 += round(_BOX_H * (arriving.index(connection) + 1) / (len(arriving) + 1))
    bend = min((x2 - x1) // 2, _GAP_X)
    middle_y = y2
    return (
        f'<path d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="#6b7785" '
        f'stroke-width="1.4" marker-end="url(#tip)"/>'
        f'<text x="{x2 - 10}" y="{middle_y - 5}" text-anchor="end" font-size="10" fill="#5c6b7c">'
        f"{as_xml(_label(graph, connection))}</text>"
    )
