"""A simulated flight is accounted for, the same each time, and follows the link."""

from __future__ import annotations

from thalweg.deploy.bench.fleet.flight import CLOUD, EDGE, Cell, Flight
from thalweg.pipeline.video.impairment import Link

GONE = Cell(
    up=Link(delay_ms=20, rate=20e6, outages=((6, 3),)),
    down=Link(delay_ms=20, rate=20e6, outages=((6, 3),)),
    stress=((0, 2.2),),
    seconds=12,
)


def test_every_frame_is_accounted_for_and_the_same_seed_flies_the_same() -> None:
    flights = [Flight(GONE, "follow", 3).fly() for _ in range(2)]
    assert [flight.account.made for flight in flights] == [120, 120]
    assert flights[0].account.under_way == 0
    assert flights[0].account.plain() == flights[1].account.plain()


def test_placement_goes_to_the_cloud_under_stress_and_home_when_it_is_gone() -> None:
    flight = Flight(GONE, "follow", 1).fly()
    assert [target for _, target, _ in flight.switches] == ["cloud", "small"]
    static = [Flight(GONE, place, 1).fly().account.missed for place in (EDGE, CLOUD)]
    assert flight.account.missed < min(static)
