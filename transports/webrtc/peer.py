"""One WebRTC connection of a call: negotiation, media both ways, the data channel, and the limits on all of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp

from thalweg.pipeline.dialogue.events import (
    MAX_CONTROL_BYTES,
    ControlError,
    Event,
    Trouble,
    decode_control,
)
from thalweg.pipeline.payload import EncodedVideo
from thalweg.pipeline.text import printable
from thalweg.transports.webrtc.call import Call
from thalweg.transports.webrtc.dtls import take_all_certificates
from thalweg.transports.webrtc.guard import Guard
from thalweg.transports.webrtc.offer import Offer, read_offer, usable_candidate
from thalweg.transports.webrtc.receive import AudioIn, only_opus, prefer_h264
from thalweg.transports.webrtc.sections import OfferError
from thalweg.transports.webrtc.send import SpeechTrack
from thalweg.transports.webrtc.video import Packer, PictureTrack, VideoIn

log = logging.getLogger(__name__)

MESSAGES_PER_S = 50
BURST = 100
MAX_BUFFERED = 1_000_000
MAX_STRIKES = 20
ANSWER_S = 15.0
CLOSE_S = 3.0
FLUSH_S = 0.3


class Peer:
    """A connection that carries a call, from the offer to `close`.

    `on_state` is told `connected`, `failed` and `closed` once each. What the person's side sends is checked and counted
    against limits; who exceeds them again and again is disconnected, with the reason in `why`.
    """

    def __init__(self, call: Call, ice_servers: Sequence[RTCIceServer] = ()) -> None:
        self.call = call
        self.audio: AudioIn | None = None
        self.video: VideoIn | None = None
        self.pictures: PictureTrack | None = None
        self.track = SpeechTrack(call)
        self.on_state: Callable[[str], None] = lambda state: None
        self.why = ""
        self._pc = RTCPeerConnection(RTCConfiguration(iceServers=list(ice_servers)))
        take_all_certificates(self._pc)
        self._guard = Guard(call.clock, self._expel)
        self._channel: RTCDataChannel | None = None
        self._strikes = 0
        self._allowed = float(BURST)
        self._message_ns = call.clock.now_ns()
        self._flooded = False
        self._told: set[str] = set()
        self._awaits_channel = False
        self._offer: Offer | None = None
        self._codec = ""
        self.remote_ufrag = ""
        self.candidates = 0
        self._opened = False
        self._closed = False
        self._pc.on("connectionstatechange", self._state_changed)
        self._pc.on("datachannel", self._channel_opened)

    async def answer(self, sdp: str | Offer) -> str:
        """The answer to an offer. Raises OfferError on one that is malformed or has nothing to talk with.

        What the offer does not want (to send, to receive, a data channel) is left out, and so is what is of no use;
        the person is told of the latter.
        """
        offer = sdp if isinstance(sdp, Offer) else read_offer(sdp)
        try:
            async with asyncio.timeout(ANSWER_S):
                return offer.completed(await self._answer(offer))
        except TimeoutError:
            raise OfferError(f"the offer could not be answered within {ANSWER_S:g} s") from None

    async def _answer(self, offer: Offer) -> str:
        try:
            await self._pc.setRemoteDescription(RTCSessionDescription(sdp=offer.sdp, type="offer"))
        except Exception as error:  # aiortc's string handling may raise anything
            raise OfferError(f"the offer cannot be read: {type(error).__name__}: {printable(error, 200)}") from None
        self._guard.watch(self._pc)
        audio = next((t for t in self._pc.getTransceivers() if t.kind == "audio"), None)
        if audio is None or not only_opus(audio):
            raise OfferError("the offer has no audio with Opus in it")
        audio.sender.replaceTrack(self.track)
        audio.direction = "sendrecv"
        self.audio = AudioIn(audio.receiver, self.call, self.call.clock)
        self._pictures()
        self._awaits_channel = offer.has_channel
        self._offer = offer
        self.remote_ufrag = offer.ufrag
        self.candidates = offer.candidates
        try:
            await self._pc.setLocalDescription(await self._pc.createAnswer())
        except Exception as error:
            raise OfferError(f"the offer cannot be answered: {type(error).__name__}: {printable(error, 200)}") from None
        return self._pc.localDescription.sdp

    def _pictures(self) -> None:
        """Take the offer's first video section, if it has one: H.264 both ways where both sides know it, else VP8."""
        video = next((t for t in self._pc.getTransceivers() if t.kind == "video"), None)
        if video is None or not prefer_h264(video):
            return
        codec = video._codecs[0]
        self.video = VideoIn(
            video.receiver, codec.mimeType, self.call.clock, lambda time_ns, frame: self.call.saw(time_ns, frame)
        )
        if self.audio is not None:
            self.video.follow(self.audio.times)
        self._codec = codec.name.lower()
        self.pictures = PictureTrack()
        video.sender.replaceTrack(self.pictures)
        video.direction = "sendrecv"
        packer = Packer(video.sender, codec, self.call.clock)
        packer.on_bitrate = lambda bitrate_bps: self.call.on_bitrate(bitrate_bps)
        packer.on_key_wanted = lambda: self.call.on_key_wanted()

    async def add_candidate(self, line: str, mid: str | None) -> None:
        """A candidate that was found after the offer; an empty `line`: there are no more. Raises OfferError.

        The latter changes nothing, see `offer.py`.
        """
        self.candidates += 1
        line = line.removeprefix("candidate:")
        if not line or not usable_candidate(line):
            return
        try:
            candidate: Any = candidate_from_sdp(line)
            candidate.sdpMid = self._offer.mid_of(mid) if self._offer is not None else mid
            async with asyncio.timeout(ANSWER_S):
                await self._pc.addIceCandidate(candidate)
        except Exception as error:  # of aiortc
            raise OfferError(f"the candidate cannot be taken: {type(error).__name__}: {printable(error, 80)}") from None

    @property
    def reached(self) -> bool:
        """Whether there is a path between the two sides (ICE), whatever comes of it."""
        return self._pc.iceConnectionState in ("connected", "completed")

    @property
    def is_open(self) -> bool:
        """Whether the person can be heard and reached now."""
        return self._opened and not self._closed and self._pc.connectionState == "connected"

    def carry(self, call: Call) -> None:
        """Carry another call from now on."""
        before, self.call = self.call, call
        self.track.call = call
        if self.audio is not None:
            self.audio.call = call
        before.detach(self)
        if self.is_open:
            self._attach()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the offer and why, sentences for people."""
        return self._offer.notes if self._offer is not None else ()

    async def close(self) -> None:
        """Close the connection after the last messages have been sent, within seconds in any case. Idempotent."""
        if self._closed:
            return
        self._closed = True
        await self._flush()
        self.call.detach(self)
        if self.video is not None:
            self.video.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._pc.close()
        except TimeoutError:
            log.warning("a connection did not close within %g s", CLOSE_S)
        except Exception as error:  # of aiortc; nothing may keep the rest from being closed
            log.warning("a connection did not close: %s", type(error).__name__)
        if self.audio is not None:
            self.audio.close()

    async def _flush(self) -> None:
        """Wait until what was sent has been handed to the network, for a moment."""
        channel = self._channel
        if channel is None or channel.readyState != "open" or not channel.bufferedAmount:
            return
        drained = asyncio.Event()
        channel.on("bufferedamountlow", drained.set)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await drained.wait()

    def send(self, message: str) -> None:
        """Send a message. A person's side that does not read loses events rather than costing memory without end."""
        channel = self._channel
        if channel is not None and channel.readyState == "open" and channel.bufferedAmount < MAX_BUFFERED:
            channel.send(message)

    def send_video(self, time_ns: int, unit: EncodedVideo) -> None:
        """Send one encoded picture, where the connection has a place for it and the other side knows its codec."""
        if self.pictures is not None and unit.codec == self._codec:
            self.pictures.show(time_ns, unit)

    def _state_changed(self) -> None:
        state = self._pc.connectionState
        if state == "connected" and not self._awaits_channel:
            self._open()
        if state in ("failed", "closed"):
            self.call.detach(self)
        if state in ("connected", "failed", "closed") and state not in self._told:
            self._told.add(state)
            self.on_state(state)

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if self._channel is not None:
            channel.close()
            self._strike("another data channel")
            return
        self._channel = channel
        channel.on("message", self._message)
        self._open()

    def _open(self) -> None:
        """The person can be heard and reached from now on."""
        if not self._opened:
            self._opened = True
            self._attach()
            for note in self.notes:
                self.call.tell(Trouble(code="left-out", message=f"Not all that was offered is taken: {note}."))
            self.on_state("open")

    def _attach(self) -> None:
        self.call.attach(self)
        if self._codec:
            self.call.on_codecs((self._codec,))

    def _message(self, message: str | bytes) -> None:
        now_ns = self.call.clock.now_ns()
        self._allowed = min(BURST, self._allowed + (now_ns - self._message_ns) * MESSAGES_PER_S / 1e9)
        self._message_ns = now_ns
        if self._allowed < 1.0:
            self._strike(f"more than {MESSAGES_PER_S} messages in a second", tell=not self._flooded)
            self._flooded = True
            return
        self._allowed -= 1.0
        self._flooded = False
        if len(message) > MAX_CONTROL_BYTES:
            self._strike(f"a message of {len(message)} bytes, expected at most {MAX_CONTROL_BYTES}", weight=5)
            return
        try:
            control = decode_control(message)
        except ControlError as error:
            self._strike(str(error))
            return
        self.call.control(control)

    def _expel(self, why: str) -> None:
        if not self.why:
            self.why = why
            self.on_state("expelled")

    def _strike(self, what: str, *, weight: int = 1, tell: bool = True) -> None:
        self._strikes += weight
        if tell:
            event: Event = Trouble(code="bad-message", message=f"A message was ignored: {what}.")
            self.send(event.encode())
        if self._strikes >= MAX_STRIKES:
            self._expel(f"too many bad messages; the last was {what}")
