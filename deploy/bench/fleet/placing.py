"""`thalweg bench edge`: deadlines missed by placement that follows, beside placement that does not; simulated links.

Cases are flights of two minutes (`flight.py`), some seeds each. Systems: `static-edge` and `static-cloud` run the full
model in one place; `static-small` the small one on the edge; `oracle` takes of each frame the best that any of these
three made of it; `hedged` is `thalweg` whose small model takes over a frame that the cloud has not answered just before
it would be late. `missed`: share of frames without a result in time, late or dropped. `quality`: of all frames, 0 where
it was missed. `after_loss_p95`: from the beginning of an outage to the next result in time of a frame captured since.
`switches`: the most within any ten seconds. Parts: `flights`, these; `geotag`; not simulated
(`moving.py`): `moved`, `flapping`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import mean, median

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.fleet import geotag, moving
from thalweg.deploy.bench.fleet.flight import CLOUD, DEADLINE_NS, EDGE, MS, QUALITY, SMALL, Cell, Flight, S
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.pipeline.video.impairment import Burst, Link


def link(**more: float) -> Link:
    """Like that of a flight, but for what is said."""
    return Link(**{"delay_ms": 20, "jitter_ms": 3, "rate": 20e6, **more})  # type: ignore[arg-type]


_OUTAGES = tuple((10.0 + 30 * n, 5.0) for n in range(4))
_STRESS = ((40.0, 2.2), (80.0, 1.0))
_TRACE = ((8.0, 20e6), (6.0, 1.5e6), (10.0, 12e6), (4.0, 0.6e6), (12.0, 20e6))


def _out(base: Link) -> Link:
    return Link(delay_ms=base.delay_ms, jitter_ms=base.jitter_ms, rate=base.rate, outages=_OUTAGES)


CELLS = {
    "calm": Cell(),
    "delay=80": Cell(up=link(delay_ms=80), down=link(delay_ms=80)),
    "delay=150": Cell(up=link(delay_ms=150), down=link(delay_ms=150)),
    "loss=2": Cell(up=link(loss=0.02), down=link(loss=0.02)),
    "bursts": Cell(up=Link(delay_ms=20, jitter_ms=3, rate=20e6, burst=Burst(enter=0.002, leave=0.05))),
    "outages": Cell(up=_out(link()), down=_out(link()), outages=_OUTAGES),
    "narrow": Cell(up=Link(delay_ms=20, jitter_ms=3, trace=_TRACE)),
    "stress": Cell(stress=_STRESS),
    "stress+outages": Cell(up=_out(link()), down=_out(link()), outages=_OUTAGES, stress=_STRESS),
    "stress+narrow": Cell(up=Link(delay_ms=20, jitter_ms=3, trace=_TRACE), stress=_STRESS),
    "flapping": Cell(
        changes=tuple((4.0 * n, link(delay_ms=260 if n % 2 else 10)) for n in range(1, 30)), stress=((0.0, 2.2),)
    ),
}
_STATIC = {"static-edge": EDGE, "static-cloud": CLOUD, "static-small": SMALL}
SYSTEMS: dict[str, Callable[[Cell, int], Flight]] = {
    OURS: lambda cell, seed: Flight(cell, "follow", seed).fly(),
    "hedged": lambda cell, seed: Flight(cell, "follow", seed, hedged=True).fly(),
    **{name: lambda cell, seed, place=place: Flight(cell, place, seed).fly() for name, place in _STATIC.items()},  # type: ignore[misc]
}


def measure(result: Result, quick: bool, part: str = "") -> None:
    """Fill in the rows. Raises BenchError on a part that there is not."""
    parts = {"flights": _flights, "geotag": _geotag, "moved": moving.measure, "flapping": moving.measure_flapping}
    if part and part not in parts:
        raise BenchError(f"bench edge has the parts {', '.join(parts)}, not {part!r}")
    for name, run in parts.items():
        if part in ("", name):
            run(result, quick)


def _geotag(result: Result, quick: bool) -> None:
    geotag.measure(result, 1 if quick else 5)


def _flights(result: Result, quick: bool) -> None:
    """Medians over seeds."""
    seeds = 1 if quick else 5
    totals: dict[str, list[float]] = {}
    result.rounds.expect(len(CELLS))
    for case, cell in CELLS.items():
        flights = result.rounds.ours(case, partial(_flown, cell, seeds))
        for name, flown in flights.items():
            _rows(result, case, name, cell, flown)
            totals.setdefault(name, []).append(median(map(share_missed, flown)))
        missed, quality = _oracle([flights[name] for name in _STATIC])
        result.add(case, "oracle", seeds, "share", missed=missed, quality=quality)
        totals.setdefault("oracle", []).append(missed)
    for name, shares in totals.items():
        result.add("all", name, len(shares), "share", missed=mean(shares))
    result.notes.append(f"simulated flights of 120 s, {seeds} seed(s), medians; `all`: the mean of the cases")


def _flown(cell: Cell, seeds: int) -> dict[str, list[Flight]]:
    return {name: [fly(cell, seed) for seed in range(seeds)] for name, fly in SYSTEMS.items()}


def _rows(result: Result, case: str, name: str, cell: Cell, flown: list[Flight]) -> None:
    found = {"missed": median(map(share_missed, flown)), "quality": median(map(_quality, flown))}
    result.add(case, name, len(flown), "share", **found)
    if cell.outages:
        times = [ms for flight in flown for ms in _after_loss_ms(flight)]
        result.add(case, name, len(times), "ms", after_loss_p95=quantile(times, 0.95))
    if name == OURS:
        result.add(case, name, len(flown), "1", switches=max(map(_most_switches, flown)))


def share_missed(flight: Flight) -> float:
    return _in_time(flight).count(0.0) / len(flight.frames)


def _in_time(flight: Flight) -> list[float]:
    """Quality of each frame's result, 0 where it was missed."""
    return [
        QUALITY[frame.result[1]] if frame.result and frame.result[0] - frame.at_ns <= DEADLINE_NS else 0.0
        for frame in flight.frames
    ]


def _quality(flight: Flight) -> float:
    return mean(_in_time(flight))


def _oracle(systems: list[list[Flight]]) -> tuple[float, float]:
    best = [
        [max(frame) for frame in zip(*map(_in_time, flights), strict=True)] for flights in zip(*systems, strict=True)
    ]
    return median([frames.count(0.0) / len(frames) for frames in best]), median([mean(frames) for frames in best])


def _after_loss_ms(flight: Flight) -> list[float]:
    """Of each outage; where no result came any more, until the end of the flight."""
    found = []
    for begin_s, _ in flight.cell.outages:
        begin_ns = round(begin_s * S)
        times = [
            frame.result[0] - begin_ns
            for frame in flight.frames
            if frame.at_ns >= begin_ns and frame.result and frame.result[0] - frame.at_ns <= DEADLINE_NS
        ]
        found.append(min(times, default=round(flight.cell.seconds * S) - begin_ns) / MS)
    return found


def _most_switches(flight: Flight) -> int:
    times = [time_ns for time_ns, _, _ in flight.switches]
    return max((sum(begin <= other < begin + 10 * S for other in times) for begin in times), default=0)
