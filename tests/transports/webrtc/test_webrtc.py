"""Sound in and out of a call, without a network: what arrives, when it was captured, what is made up for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from aiortc import RTCPeerConnection

from thalweg.deploy.testing import run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.dialogue.events import Caption, Pong, Say, State
from thalweg.pipeline.duration import MS
from thalweg.transports.webrtc.call import HELD_NS, HELD_QUESTIONS, Call
from thalweg.transports.webrtc.receive import AudioIn
from thalweg.transports.webrtc.send import BLOCK, OpusEncoder
from thalweg.transports.webrtc.video import Packer, VideoIn


class Receiver:
    """As much of an aiortc receiver as is looked at."""

    _RTCRtpReceiver__jitter_buffer: Any = None

    async def _handle_rtcp_packet(self, packet: Any) -> None:
        raise AssertionError("no reports here")


@dataclass
class Rtp:
    """An RTP packet as aiortc gives it."""

    sequence_number: int
    timestamp: int
    payload: bytes
    marker: int = 0
    _data: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._data = self.payload


class Microphone:
    """Sends a tone, packet by packet, to a call under a virtual clock."""

    def __init__(self) -> None:
        self.clock = VirtualClock(1_000 * MS)
        self.call = Call(self.clock)
        self._encoder = OpusEncoder()
        self._receiver = Receiver()
        self.audio = AudioIn(self._receiver, self.call, self.clock)
        self._number = self._timestamp = 0

    def send(self, ms: int, *, lose: bool = False, late_ms: int = 0) -> None:
        for _ in range(ms // 20):
            samples = (0.3 * np.sin(np.arange(BLOCK) * 0.1)).astype(np.float32)
            packet = Rtp(self._number, self._timestamp, self._encoder.encode(samples))
            self._number += 1
            self._timestamp += BLOCK
            self.clock.advance_to(self.clock.now_ns() + 20 * MS)
            if not lose:
                self._receiver._RTCRtpReceiver__jitter_buffer.add(packet)

    def stand_still(self, ms: int) -> None:
        """As a sender does that was held up: time passes, and its timestamps with it."""
        self._timestamp += ms * 48
        self.clock.advance_to(self.clock.now_ns() + ms * MS)

    @property
    def units(self) -> list[tuple[int, Any]]:
        return list(self.call._units)


@pytest.fixture
def microphone() -> Microphone:
    return Microphone()


def test_sound_arrives_at_once_in_units_without_gaps(microphone: Microphone) -> None:
    microphone.send(500)
    times = [at for at, _ in microphone.units]
    assert len(times) >= 24
    assert set(np.diff(times)) == {20 * MS}
    assert microphone.clock.now_ns() - times[-1] <= 60 * MS
    assert np.abs(microphone.units[-1][1].samples).max() > 0.2


def test_a_sender_that_stood_still_is_heard_again_at_once(microphone: Microphone) -> None:
    microphone.send(500)
    microphone.stand_still(5_000)
    microphone.send(500)
    at, unit = microphone.units[-1]
    assert microphone.clock.now_ns() - at <= 60 * MS
    assert np.abs(unit.samples).max() > 0.2
    assert microphone.call.counts["audio_late"] == 0


def test_a_sender_whose_clock_stood_still_is_heard_again(microphone: Microphone) -> None:
    microphone.send(500)
    microphone.clock.advance_to(microphone.clock.now_ns() + 1_000 * MS)  # its timestamps did not go on meanwhile
    microphone.call._fill(microphone.clock.now_ns() - 200 * MS, at_most=250)
    before = len(microphone.units)
    microphone.send(500)
    assert len(microphone.units) - before >= 18
    assert microphone.call.counts["audio_late"] <= 5


def test_a_lost_packet_fades_instead_of_clicking(microphone: Microphone) -> None:
    microphone.send(200)
    microphone.send(20, lose=True)
    microphone.send(400)
    assert microphone.audio.opus.reorder.lost == 1
    loud = [float(np.abs(chunk.samples).max()) for _, chunk in microphone.units[2:]]
    assert min(loud) > 0.05


def test_a_long_loss_becomes_silence(microphone: Microphone) -> None:
    microphone.send(200)
    microphone.send(400, lose=True)
    microphone.send(400)
    loud = [float(np.abs(chunk.samples).max()) for _, chunk in microphone.units]
    assert min(loud[10:]) == 0.0
    assert loud[-1] > 0.2


def test_what_is_no_opus_is_counted_and_skipped(microphone: Microphone) -> None:
    microphone.send(100)
    microphone._receiver._RTCRtpReceiver__jitter_buffer.add(Rtp(microphone._number, microphone._timestamp, b"\xff" * 7))
    microphone._number += 1
    microphone._timestamp += BLOCK
    microphone.send(100)
    assert microphone.audio.opus.broken == 1
    assert np.abs(microphone.units[-1][1].samples).max() > 0.2


def test_where_nothing_comes_there_is_silence_in_its_time() -> None:
    clock = VirtualClock()
    call = Call(clock)
    call.attach(Wire())
    found: list[tuple[int, float]] = []

    async def listen() -> None:
        async for at, chunk in call.audio():
            found.append((clock.now_ns() - at, float(np.abs(chunk.samples).max())))
            if len(found) == 100:
                return

    run_virtual(listen(), clock)
    assert max(level for _, level in found) == 0.0
    assert all(180 * MS <= age <= 320 * MS for age, _ in found[10:])


class Wire:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def send(self, message: str) -> None:
        self.sent.append(message)

    def send_video(self, time_ns: int, unit: Any) -> None:
        raise AssertionError


def test_what_still_matters_is_kept_for_who_comes_back() -> None:
    call, first, second = Call(VirtualClock()), Wire(), Wire()
    call.attach(first)
    call.tell(Pong(t=1))
    call.detach(first)
    call.tell(State(state="thinking", turn=1))
    call.tell(Caption(turn=1, text="kept", stable=0, final=True))
    call.attach(second)
    assert len(first.sent) == 1
    assert [("kept" in message) for message in second.sent] == [True]


def answered_by(call: Call) -> list[Any]:
    found: list[Any] = []
    call.on_control = found.append
    return found


def test_a_question_whose_id_came_before_is_answered_once() -> None:
    call = Call(VirtualClock())
    found = answered_by(call)
    for name in ("a", "a", "b", None, None):
        call.control(Say(text="green", id=name))
    assert [question.id for question in found] == ["a", "b", None, None]


def test_a_question_that_comes_while_its_call_is_moved_is_answered_only_if_the_call_stays() -> None:
    call = Call(VirtualClock())
    found = answered_by(call)
    call.leaves()
    call.control(Say(text="green", id="a"))
    assert (found, call.written.known) == ([], ())
    call.attach(Wire())
    assert [question.id for question in found] == ["a"]
    call.control(Say(text="blue", id="b"))
    assert [question.id for question in found] == ["a", "b"]


def test_of_many_questions_that_come_while_a_call_is_moved_the_newest_are_held() -> None:
    call = Call(VirtualClock())
    found = answered_by(call)
    call.leaves()
    for number in range(HELD_QUESTIONS + 5):
        call.control(Say(text="green", id=str(number)))
    call.attach(Wire())
    assert [question.id for question in found] == [str(number) for number in range(5, HELD_QUESTIONS + 5)]


def test_a_call_that_was_to_be_moved_and_was_not_answers_after_a_while() -> None:
    clock = VirtualClock()
    call = Call(clock)
    found = answered_by(call)
    call.leaves()
    call.control(Say(text="green", id="a"))
    call.may_stay()
    assert not found
    clock.advance_to(clock.now_ns() + HELD_NS + 1)
    call.may_stay()
    assert [question.id for question in found] == ["a"]


def test_a_connection_that_was_replaced_cannot_detach_its_successor() -> None:
    call, first, second = Call(VirtualClock()), Wire(), Wire()
    call.attach(first)
    call.attach(second)
    call.detach(first)
    assert call.connected


def test_the_installed_aiortc_keeps_its_buffers_where_they_are_replaced() -> None:
    from aiortc import RTCRtpSender

    from thalweg.pipeline.clock import SystemClock

    async def main() -> None:
        peer = RTCPeerConnection()
        try:
            for kind in ("audio", "video"):
                transceiver = peer.addTransceiver(kind)
                if kind == "audio":
                    AudioIn(transceiver.receiver, Call(), SystemClock())
                else:
                    VideoIn(transceiver.receiver, "video/VP8", SystemClock(), lambda at, frame: None).close()
                    codec = RTCRtpSender.getCapabilities("video").codecs[0]
                    Packer(transceiver.sender, codec, SystemClock())
        finally:
            await peer.close()

    import asyncio

    asyncio.run(main())
