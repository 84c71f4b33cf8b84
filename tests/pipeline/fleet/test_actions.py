"""A command is carried out once, in time, for whom it was meant, below the pilot; or never."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from thalweg.pipeline.fleet.actions import (
    ACTIONS,
    PILOT_NS,
    RESEND_NS,
    SILENT_NS,
    TRIES,
    Admission,
    Command,
    CommandError,
    Ended,
    Flightdeck,
    HubClock,
    Send,
)

S = 1_000_000_000
GIVEN = Command(
    id="0" * 32, node="drone-7", instance="ab", action="hold", settings={}, issued_s=1000.0, expires_s=1010.0
)


def plain(**more: Any) -> dict[str, Any]:
    return {**GIVEN.plain(), **more}


def admission(*allowed: str) -> Admission:
    return Admission("drone-7", "ab", allowed or ("hold",))


def test_a_command_is_what_was_given() -> None:
    assert Command.read(plain()) == GIVEN
    assert set(ACTIONS) == {"hold", "return", "land", "gimbal", "photo", "video"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "arm"},
        {"action": "param_set"},
        {"action": 3},
        {"id": "../x"},
        {"settings": {"pitch": 3}},
        {"action": "gimbal", "settings": {"pitch": -91}},
        {"action": "gimbal", "settings": {"pitch": math.nan}},
        {"action": "gimbal", "settings": {"roll": 0}},
        {"settings": []},
        {"expires_s": 1031.0},
        {"expires_s": 1000.0},
        {"expires_s": math.inf},
        {"issued_s": math.nan},
        {"issued_s": -math.inf},
        {"node": None},
    ],
)
def test_what_is_no_command_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CommandError):
        Command.read(plain(**wrong))


@pytest.mark.parametrize("wrong", [None, 3, [], "hold", {}])
def test_garbage_is_refused(wrong: Any) -> None:
    with pytest.raises(CommandError):
        Command.read(wrong)


def test_a_command_is_accepted_once() -> None:
    found = admission()
    assert found.admit(GIVEN, 1004.0) == 6.0
    with pytest.raises(CommandError, match="before"):
        found.admit(GIVEN, 1004.0)


@pytest.mark.parametrize(
    ("more", "latest_s", "said"),
    [
        ({}, 1010.0, "its time was over"),
        ({}, None, "not known"),
        ({"issued_s": 1020.0, "expires_s": 1030.0}, 1000.0, "has not come yet"),
        ({"node": "drone-8"}, 1001.0, "another node"),
        ({"instance": "cd"}, 1001.0, "started before or elsewhere"),
        ({"action": "land"}, 1001.0, "not allowed by this node's own file"),
    ],
)
def test_a_command_is_refused(more: dict[str, Any], latest_s: float | None, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        admission().admit(dataclasses.replace(GIVEN, **more), latest_s)


def test_what_was_refused_for_its_time_is_refused_again() -> None:
    found = admission()
    for latest_s in (None, 1001.0):
        with pytest.raises(CommandError):
            found.admit(GIVEN, latest_s)


def test_the_time_at_the_hub_is_never_earlier_than_it_is() -> None:
    clock = HubClock()
    assert clock.latest_s(0) is None
    clock.heard(0, 2 * S, 1000.0)
    assert clock.latest_s(2 * S) == 1002.0
    clock.heard(10 * S, 10 * S + S // 10, 1009.0)
    assert clock.latest_s(10 * S + S // 10) == pytest.approx(1009.1)
    clock.heard(11 * S, 71 * S, 1011.0)  # held back for a minute: it would say that it is a minute later than it is
    assert clock.latest_s(71 * S) == pytest.approx(1009.1 + 60.9, abs=0.1)


def deck(now_ns: int = 0) -> Flightdeck:
    found = Flightdeck()
    found.mode(3, now_ns)
    return found


def test_a_command_is_sent_until_it_is_acknowledged() -> None:
    found = deck()
    found.take("hold", 0, 10 * S, 0)
    assert found.step(0) == Send(0)
    assert found.step(1) is None
    assert found.step(RESEND_NS) == Send(1)
    found.acknowledged(True, "")
    assert found.step(RESEND_NS + 1) == Ended(True, "")
    assert not found.busy and found.step(2 * RESEND_NS) is None


def test_it_is_given_up_after_three_times() -> None:
    found = deck()
    found.take("photo", 0, 30 * S, 0)
    sent = [found.step(n * RESEND_NS) for n in range(TRIES + 1)]
    assert sent[:TRIES] == [Send(0), Send(1), Send(2)]
    assert isinstance(sent[TRIES], Ended) and not sent[TRIES].done


def test_nothing_is_sent_after_its_time() -> None:
    found = deck()
    found.take("hold", 0, RESEND_NS // 2, 0)
    assert found.step(0) == Send(0)
    assert isinstance(found.step(RESEND_NS), Ended)
    late = deck()
    late.take("hold", 0, 5, 0)
    assert isinstance(late.step(5), Ended)


def test_a_pilot_who_changes_the_mode_ends_what_is_under_way() -> None:
    found = deck()
    found.take("photo", 0, 10 * S, 0)
    found.step(0)
    found.mode(4, 1)
    assert found.step(2) == Ended(False, "the pilot has changed the mode")


def test_the_first_change_after_a_command_is_its_own_and_the_next_is_the_pilots() -> None:
    found = deck()
    found.take("land", 0, 10 * S, 0)
    found.step(0)
    found.mode(9, 1)
    found.acknowledged(True, "")
    assert found.step(2) == Ended(True, "")
    found.mode(3, 3)
    with pytest.raises(CommandError, match="since it was given"):
        found.take("hold", 1, 10 * S, 3)


def test_what_was_given_before_the_pilot_changed_the_mode_is_refused_and_mode_changes_for_a_while() -> None:
    found = deck()
    found.mode(4, 100)
    with pytest.raises(CommandError, match="since it was given"):
        found.take("photo", 50, 10 * S, 120)
    with pytest.raises(CommandError, match="ago"):
        found.take("hold", 0, 10 * S, 200)
    found.take("photo", 0, 10 * S, 200)
    assert found.step(200) == Send(0)
    found.acknowledged(True, "")
    found.step(201)
    found.mode(4, PILOT_NS)
    found.take("hold", 0, 10 * S, 100 + PILOT_NS)


def test_what_changes_the_mode_is_not_sent_again_once_that_has_changed() -> None:
    found = deck()
    found.take("return", 0, 10 * S, 0)
    assert found.step(0) == Send(0)
    found.mode(9, RESEND_NS // 2)  # it was done, and the acknowledgement lost; or the pilot was quicker
    assert found.step(RESEND_NS) is None
    found.mode(3, RESEND_NS + 1)  # the pilot
    assert found.step(RESEND_NS + 2) == Ended(False, "the pilot has changed the mode")
    found = deck()
    found.take("return", 0, 10 * S, 0)
    found.step(0)
    found.mode(9, 1)
    ended = found.step(RESEND_NS + 1)
    assert isinstance(ended, Ended) and "has changed since" in ended.reason


def test_what_the_autopilot_is_at_is_not_sent_again() -> None:
    found = deck()
    found.take("photo", 0, 3 * S, 0)
    found.step(0)
    found.progresses()
    assert found.step(RESEND_NS) is None
    found.acknowledged(True, "")
    assert found.step(RESEND_NS) == Ended(True, "")


def test_an_autopilot_that_is_silent_is_told_nothing() -> None:
    found = deck()
    with pytest.raises(CommandError, match=r"last heard 5\.0 s ago"):
        found.take("photo", 0, 10 * S, SILENT_NS + 1)


def test_without_an_autopilot_nothing_is_taken_and_one_at_a_time() -> None:
    with pytest.raises(CommandError, match="no autopilot"):
        Flightdeck().take("hold", 0, 10 * S, 0)
    found = deck()
    found.take("hold", 0, 10 * S, 0)
    with pytest.raises(CommandError, match="under way"):
        found.take("hold", 0, 10 * S, 0)


def test_an_acknowledgement_of_nothing_changes_nothing() -> None:
    found = deck()
    found.acknowledged(True, "")
    found.take("hold", 0, 10 * S, 0)
    found.acknowledged(True, "")  # before it was sent: it is of something else
    assert found.step(0) == Send(0)
