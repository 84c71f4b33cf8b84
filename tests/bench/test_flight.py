"""A simulated flight is accounted for, the same each time, and follows the link."""

from __future__ import annotations

from thalweg.deploy.bench.fleet.flight import CLOUD, EDGE, Cell, Flight
from thalweg.deploy.bench.fleet.placing import _after_loss_ms, share_missed
from thalweg.pipeline.video.impairment import Link

GONE = Cell(
    up=Link(delay_ms=20, rate=20e6, outages=((16, 3),)),
    down=Link(delay_ms=20, rate=20e6, outages=((16, 3),)),
    stress=((0, 2.2),),
    seconds=22,
)


def test_every_frame_is_there_and_the_same_seed_flies_the_same() -> None:
    flights = [Flight(GONE, "follow", 3).fly() for _ in range(2)]
    assert [len(flight.frames) for flight in flights] == [220, 220]
    assert [frame.result for frame in flights[0].frames] == [frame.result for frame in flights[1].frames]


def test_an_outage_without_a_result_behind_it_lasts_until_the_flight_ends() -> None:
    link = Link(delay_ms=20, rate=20e6, outages=((6, 8),))
    cell = Cell(up=link, down=link, outages=((6, 8),), seconds=12)
    assert _after_loss_ms(Flight(cell, CLOUD, 3).fly()) == [6000]


def test_placement_goes_to_the_cloud_under_stress_and_home_when_it_is_gone() -> None:
    flight = Flight(GONE, "follow", 1).fly()
    assert [target for _, target, _ in flight.switches] == ["small", "cloud", "small"]
    static = [share_missed(Flight(GONE, place, 1).fly()) for place in (EDGE, CLOUD)]
    assert share_missed(flight) < min(static)
