"""A map of the fleet as SVG, north up, without tiles: it needs no network. Where nodes are, where they came from, and
where their newest events were. Everything that a node has told is validated or escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

SVG = "http://www.w3.org/2000/svg"
WIDTH, HEIGHT, MARGIN = 960, 420, 48
LEAST_M = 100.0
"""Across: a node that stands still is not looked at with a magnifying glass."""
LONGEST_BAR_PX = 200.0
_DEGREE_M = 111_195.0
Place = tuple[float, float]
"""Latitude and longitude, degrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Something on the map. `kind`: here, away or event. `note`: shown under the pointer. `trail`: oldest first."""

    place: Place
    kind: str
    label: str = ""
    note: str = ""
    trail: Sequence[Place] = ()


class View:
    """What of the Earth is shown: all of these places, of which there is one at least."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._zero = places[0]
        self._narrow = max(0.01, math.cos(math.radians(sum(latitude for latitude, _ in places) / len(places))))
        flat = [self._flat(place) for place in places]
        self._left, self._top = min(x for x, _ in flat), max(y for _, y in flat)
        wide, high = max(x for x, _ in flat) - self._left, self._top - min(y for _, y in flat)
        self.px_per_m = min((WIDTH - 2 * MARGIN) / max(wide, LEAST_M), (HEIGHT - 2 * MARGIN) / max(high, LEAST_M))
        self._left -= ((WIDTH - 2 * MARGIN) / self.px_per_m - wide) / 2
        self._top += ((HEIGHT - 2 * MARGIN) / self.px_per_m - high) / 2

    def at(self, place: Place) -> tuple[float, float]:
        """Pixels from the left and from the top."""
        x, y = self._flat(place)
        return MARGIN + (x - self._left) * self.px_per_m, MARGIN + (self._top - y) * self.px_per_m

    def _flat(self, place: Place) -> tuple[float, float]:
        """Metres east and north of the first place, the short way round the Earth."""
        east = (place[1] - self._zero[1] + 180) % 360 - 180
        return east * _DEGREE_M * self._narrow, (place[0] - self._zero[0]) * _DEGREE_M


def drawn(spots: Iterable[Spot]) -> str:
    """The map; an empty one where there is nothing to show."""
    shown = sorted(spots, key=lambda spot: spot.kind != "event")  # nodes lie on top of events
    places = [place for spot in shown for place in (*spot.trail, spot.place)]
    if not places:
        return f'<svg xmlns="{SVG}" viewBox="0 0 {WIDTH} {HEIGHT}"/>'
    view = View(places)
    trails = [_line([*spot.trail, spot.place], view) for spot in shown if spot.trail]
    parts = [*trails, *(_spot(spot, view) for spot in shown), _bar(view)]
    return f'<svg xmlns="{SVG}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Map">{"".join(parts)}</svg>'


def bar_m(px_per_m: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50 … metres that is short enough for a scale."""
    most_m = LONGEST_BAR_PX / px_per_m
    ten = 10.0 ** math.floor(math.log10(most_m))
    return max(step * ten for step in (1, 2, 5) if step * ten <= most_m)


def _line(places: Sequence[Place], view: View) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(view.at, places))
    return f'<polyline points="{points}"/>'


def _spot(spot: Spot, view: View) -> str:
    x, y = view.at(spot.place)
    note = f"<title>{escape(spot.note)}</title>" if spot.note else ""
    label = f'<text x="{x + 10:.1f}" y="{y + 4:.1f}">{escape(spot.label)}</text>' if spot.label else ""
    size = 4 if spot.kind == "event" else 6
    return f'<circle class="{escape(spot.kind)}" cx="{x:.1f}" cy="{y:.1f}" r="{size}">{note}</circle>{label}'


def _bar(view: View) -> str:
    metres = bar_m(view.px_per_m)
    y, end = HEIGHT - 16, 16 + metres * view.px_per_m
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    return (
        f'<line class="bar" x1="16" x2="{end:.1f}" y1="{y}" y2="{y}"/><text x="16" y="{y - 6}">{text}, north up</text>'
    )
