"""When a client pings, asks, connects anew and gives up; the times are made up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import SystemClock, VirtualClock
from thalweg.pipeline.dialogue.events import MAX_CONTROL_BYTES
from thalweg.transports.webrtc.client import Talker
from thalweg.transports.webrtc.presence import BEAT_S, PAUSES_S, SILENT_S, Presence, PresenceState, Step
from thalweg.transports.webrtc.send import BLOCK, VoiceTrack
from thalweg.transports.webrtc.signalling import TalkError


def steps(presence: Presence, from_s: float, to_s: float, *, answered: bool = False) -> list[tuple[float, Step]]:
    """What it does between two times, without the waiting; every ping is `answered`, or none."""
    found, now_s = [], from_s
    while now_s < to_s:
        step, wait_s = presence.next(now_s)
        if step is Step.WAIT:
            now_s = round(now_s + wait_s, 6)
            continue
        found.append((now_s, step))
        if step is Step.PING and answered:
            presence.event("pong", now_s)
        if step in (Step.CONNECT, Step.LEAVE):
            break
    return found


def test_it_pings_twice_a_second_and_asks_nothing_while_pongs_come() -> None:
    found = steps(Presence(0.0, 60.0), 0.0, 10.0, answered=True)
    assert [at for at, _ in found] == [number * BEAT_S for number in range(20)]
    assert {step for _, step in found} == {Step.PING}


def test_without_a_pong_it_asks_the_server_and_connects_anew_only_if_the_conversation_is_not_there() -> None:
    presence = Presence(0.0, 60.0)
    presence.event("pong", 0.1)
    asked = [at for at, step in steps(presence, 0.0, 4.0) if step is Step.ASK]
    assert asked[0] == 2.0 > 0.1 + SILENT_S
    assert len(asked) == 4, "at each beat again"
    assert presence.state is PresenceState.THERE
    presence.lost(4.0)
    assert presence.next(4.0) == (Step.CONNECT, 0.0)


def test_a_process_that_stood_still_itself_does_not_take_that_for_silence() -> None:
    presence = Presence(0.0, 60.0)
    steps(presence, 0.0, 1.0, answered=True)
    assert steps(presence, 9.0, 9.9) == [(9.0, Step.PING), (9.5, Step.PING)]


def test_who_is_told_to_reconnect_does_so_at_once_and_is_away_where_that_fails() -> None:
    presence = Presence(0.0, 60.0)
    presence.event("reconnect", 1.0)
    assert presence.state is PresenceState.MOVING
    assert presence.next(1.0) == (Step.CONNECT, 0.0)
    presence.refused("busy", 1.5)
    assert presence.state is PresenceState.AWAY
    assert presence.next(1.5) == (Step.CONNECT, 0.0)
    presence.connected(2.0)
    assert presence.state is PresenceState.THERE
    assert presence.next(2.0) == (Step.PING, 0.0)


def test_it_tries_again_with_growing_pauses_until_it_is_told_that_the_conversation_is_gone() -> None:
    presence, now_s, pauses = Presence(0.0, 60.0), 0.0, []
    presence.lost(now_s)
    for _ in range(7):
        before_s = now_s
        ((now_s, step),) = steps(presence, now_s, now_s + 10.0)
        assert step is Step.CONNECT
        pauses.append(round(now_s - before_s, 3))
        presence.refused("unreachable", now_s)
    assert pauses == [*PAUSES_S, PAUSES_S[-1], PAUSES_S[-1]]
    presence.refused("gone", now_s)
    assert presence.next(now_s) == (Step.LEAVE, 0.0)


def test_it_gives_up_after_the_time_for_which_a_server_keeps_a_conversation() -> None:
    presence = Presence(0.0, 20.0)
    presence.lost(0.0)
    presence.refused("unreachable", 19.0)
    assert presence.state is PresenceState.AWAY
    presence.refused("unreachable", 20.5)
    assert presence.state is PresenceState.GONE


def test_after_goodbye_nothing_brings_it_back() -> None:
    presence = Presence(0.0, 60.0)
    presence.event("bye", 1.0)
    presence.lost(1.1)
    presence.connected(1.2)
    assert presence.next(1.3) == (Step.LEAVE, 0.0)


def test_what_was_still_to_be_said_is_said_first_at_the_new_connection() -> None:
    async def case() -> None:
        clock = SystemClock()
        before, after = VoiceTrack(clock), VoiceTrack(clock)
        first = before.say(np.full(BLOCK + 10, 0.1, np.float32))
        before._block()
        second = after.say(np.full(10, 0.2, np.float32))
        after.continue_from(before)
        assert not before._block().any()
        assert after._block()[:21].tolist() == [np.float32(0.1)] * 10 + [np.float32(0.2)] * 10 + [0.0]
        assert first.done() and second.done()

    asyncio.run(case())


class Channel:
    readyState = "open"  # noqa: N815 - of aiortc

    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, said: str) -> None:
        said.encode()
        self.sent.append(said)


def connected(clock: Any = None) -> tuple[Talker, Channel]:
    """A client as if it were connected."""
    talker, channel = Talker("http://127.0.0.1:1"), Channel()
    talker.session, talker._channel, talker.clock = "a-1", channel, clock or talker.clock
    return talker, channel


def test_who_ends_the_conversation_does_not_come_back_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()

    async def case() -> None:
        talker, _ = connected(clock)

        async def told(*_: object, **__: object) -> tuple[int, dict[str, object]]:
            return 404, {}

        async def never() -> None:
            raise AssertionError("a new conversation")

        monkeypatch.setattr(talker._server, "ask", told)
        monkeypatch.setattr(talker, "connect", never)
        staying = asyncio.create_task(talker.stay())
        await asyncio.sleep(0.01)
        await talker.end()
        async with asyncio.timeout(5.0):
            await staying

    run_virtual(case(), clock)


@pytest.mark.parametrize(("told", "tries_s"), [({"resume_s": 12.0}, 12.0), ({"resume_s": 150}, 150.0), ({}, 60.0)])
def test_it_comes_back_for_as_long_as_the_server_says_that_it_keeps_a_conversation(
    told: dict[str, object], tries_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()

    async def case() -> None:
        talker, _ = connected(clock)

        async def answered(*_: object, **__: object) -> tuple[int, dict[str, object]]:
            return 200, {"sdp": "v=0", "session": "a-1", "key": "k"} | told

        async def away() -> None:
            raise TalkError("unreachable", "no answer")

        monkeypatch.setattr(talker._server, "ask", answered)
        with pytest.raises(TalkError, match="cannot be read"):
            await talker.connect()
        await talker.hang_up()
        monkeypatch.setattr(talker, "connect", away)
        talker.lost = True
        await talker.stay()
        assert talker.ended.is_set()
        assert tries_s < clock.now_ns() / 1e9 <= tries_s + 2 * PAUSES_S[-1]

    run_virtual(case(), clock)


def test_what_connecting_anew_raises_is_no_end_of_staying(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()

    async def case() -> None:
        talker, _ = connected(clock)
        tried: list[int] = []

        async def broken() -> None:
            tried.append(1)
            if len(tried) == 3:
                talker.ended.set()
            raise OSError("no socket")

        monkeypatch.setattr(talker, "connect", broken)
        talker.lost = True
        async with asyncio.timeout(60.0):
            await talker.stay()
        assert len(tried) == 3

    run_virtual(case(), clock)


def test_two_thousand_letters_of_any_script_fit_into_a_control() -> None:
    talker, channel = connected()
    assert talker.send({"type": "say", "text": "\u0416" * 2000})
    assert len(channel.sent[0].encode()) <= MAX_CONTROL_BYTES
    assert talker.send({"type": "say", "text": "\udc80"})
    assert json.loads(channel.sent[1])["text"] == "\udc80"


def test_what_a_machine_tells_that_was_taken_for_dead_is_ignored() -> None:
    talker, channel = connected()
    talker._only = channel
    for number, sender in enumerate((object(), channel)):
        talker._message(json.dumps({"v": 1, "type": "pong", "t": float(number)}), sender)
    assert [event["t"] for _, event in talker.events] == [1.0]


def test_pongs_of_staying_are_not_told_to_others() -> None:
    talker, _ = connected()
    told: list[str] = []
    talker.on_event = lambda event: told.append(event["type"])
    talker._presence = Presence(0.0, 60.0)
    talker._message(json.dumps({"v": 1, "type": "pong", "t": 1.0}), talker._channel)
    talker._presence = None
    talker._message(json.dumps({"v": 1, "type": "pong", "t": 1.0}), talker._channel)
    assert told == ["pong"]
