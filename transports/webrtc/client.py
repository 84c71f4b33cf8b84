"""The other end of a call, without a browser: for scripts, for measuring, and as a load on servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from numpy.typing import NDArray

from thalweg.pipeline.clock import SystemClock
from thalweg.pipeline.dialogue.events import VERSION, ControlError, Hello, decode_event
from thalweg.pipeline.dialogue.written import Questions
from thalweg.pipeline.text import printable
from thalweg.transports.webrtc.guard import Guard
from thalweg.transports.webrtc.presence import Presence, PresenceState, Step
from thalweg.transports.webrtc.receive import OpusIn, Tap
from thalweg.transports.webrtc.send import VoiceTrack
from thalweg.transports.webrtc.signalling import RESUME_S, Signalling, TalkError

__all__ = ["AUDIBLE", "TalkError", "Talker"]

CONNECT_S = 30.0
END_S = 5.0
MAX_BAD = 100
MAX_EVENTS = 200_000
MAX_EVENT_BYTES = 64_000_000
ATTEMPT_S = 10.0
LOOK_S = 2.0
ASK_S = 5.0
AUDIBLE = 0.01
CROWD = "connecting"


class Talker:
    """One conversation with a server at `url`. Use it as an async context manager; it connects on entry.

    `on_event` gets each event of the server; `on_audio` each stretch of sound with its time of arrival. `events` keeps
    the former. `relay`: through a TURN server only. `microphone`: False: no sound is sent, only controls. Where too
    many are connecting, the server is asked again when it says, within `CONNECT_S` in all; `on_crowd` is told each
    time. Raises TalkError where no conversation comes about.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        ice: list[RTCIceServer] | None = None,
        relay: bool = False,
        insecure: bool = False,
        microphone: bool = True,
    ) -> None:
        self._server = Signalling(url, token, insecure=insecure)
        self.clock = SystemClock()
        self.voice = VoiceTrack(self.clock)
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.on_event: Callable[[dict[str, Any]], None] = lambda event: None
        self.on_audio: Callable[[int, NDArray[np.float32]], None] = lambda time_ns, samples: None
        self.on_crowd: Callable[[TalkError], None] = lambda refused: None
        self.session = ""
        self.key = ""
        self.resume_s = RESUME_S
        self.ended = asyncio.Event()
        self.connected_ns = 0
        self.lost = False
        self._url = self._server.url
        self.bad_events = 0
        self._event_bytes = 0
        self._ice = ice or []
        self._relay = relay
        self._microphone = microphone
        self._presence: Presence | None = None
        self._pc: RTCPeerConnection | None = None
        self._channel: Any = None
        self._greeted: Any = None
        self._only: Any = None
        self._moving = False
        self._questions = Questions()
        self._crowded: TalkError | None = None
        self._open = asyncio.Event()
        self._greeting: asyncio.Future[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(CONNECT_S):
                while not await self._attempt():
                    await self.hang_up()
        except BaseException as error:
            await self.hang_up()
            if not isinstance(error, TimeoutError):
                raise
            no_path = TalkError("no-path", f"no connection to {self._url}; `thalweg doctor webrtc URL` says more")
            raise self._crowded or no_path from None
        return self

    async def _attempt(self) -> bool:
        """Whether a try succeeded. On a lossy network a fresh one is quicker than timers that have doubled."""
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self.connect()
        except TimeoutError:
            return False
        except TalkError as refused:
            gave_way = refused.code == "gone" and self.session
            if refused.code != CROWD and not gave_way:
                raise
            self._crowded = refused
            self.session = self.key = ""
            self.on_crowd(refused)
            await asyncio.sleep(refused.wait_s * random.uniform(0.75, 1.25))
            return False
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    async def connect(self) -> None:
        """Connect, or after `hang_up` come back to the same conversation; until the server says hello."""
        from aiortc.rtcconfiguration import RTCIceTransportPolicy

        policy = RTCIceTransportPolicy.RELAY if self._relay else RTCIceTransportPolicy.ALL
        pc = self._pc = RTCPeerConnection(RTCConfiguration(iceServers=self._ice, iceTransportPolicy=policy))
        pc.on("connectionstatechange", lambda: self._changed(pc))
        self._open.clear()
        greeting = self._greeting = asyncio.get_running_loop().create_future()
        channel = self._channel = pc.createDataChannel("events")
        channel.on("open", self._open.set)
        channel.on("message", lambda message: self._message(message, channel))
        if self._microphone:
            transceiver = pc.addTransceiver(self.voice, direction="sendrecv")
        else:
            transceiver = pc.addTransceiver("audio", direction="recvonly")
        opus = OpusIn(lambda samples, arrival_ns, lost: self.on_audio(arrival_ns, samples))
        Tap(transceiver.receiver, lambda packet: opus.packet(packet, self.clock.now_ns()))
        await pc.setLocalDescription(await pc.createOffer())
        body = {"sdp": pc.localDescription.sdp}
        if self.session:
            body |= {"session": self.session, "key": self.key}
        accepted = await self._server.offer(body)
        self._only = None if self._moving else channel
        self.session, self.key, self.resume_s = accepted.session, accepted.key, accepted.resume_s
        if self._presence is not None:
            self._presence.resume_s = self.resume_s
        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp=accepted.sdp, type="answer"))
        except Exception as error:  # of aiortc
            raise TalkError(
                "unreachable", f"the answer of {self._url} cannot be read: {type(error).__name__}"
            ) from None
        Guard(self.clock, lambda why: self._leave()).watch(pc)
        await self._until(greeting)
        self.connected_ns = self.clock.now_ns()
        self.lost = False

    async def _until(self, greeting: asyncio.Future[None]) -> None:
        """Raises TalkError where the server says goodbye, or has let go of us before there was a connection."""
        try:
            while not greeting.done():
                await asyncio.wait({greeting}, timeout=LOOK_S)
                if not (greeting.done() or self._open.is_set() or await self._known() or greeting.done()):
                    raise TalkError("gone", "Others came between before there was a connection.")
            greeting.result()
        finally:
            greeting.cancel()

    async def connect_anew(self) -> None:
        """Connect to the same conversation while the old connection stands: what `reconnect` asks for.

        What was still to be said is said at the new connection; where none comes about, the old one is as before.
        """
        await _close(await self._anew(moving=True))

    async def _anew(self, *, moving: bool) -> RTCPeerConnection | None:
        """As `connect_anew`; returns the old connection, to be closed."""
        before, channel, voice = self._pc, self._channel, self.voice
        self.voice = VoiceTrack(self.clock)
        self.voice.continue_from(voice)
        try:
            self._moving = moving
            await self.connect()
        except BaseException:
            failed, self._pc, self._channel = self._pc, before, channel
            voice.continue_from(self.voice)
            self.voice = voice
            if failed is not before:
                await _close(failed)
            raise
        finally:
            self._moving = False
        return before

    async def stay(self) -> None:
        """Remain in the conversation while its host moves or dies, as the page does (see `presence.py`): to be run
        beside all else, while connected. Returns once the conversation is over or cannot be resumed (`ended`).
        """
        presence = self._presence = Presence(self._now_s(), self.resume_s)
        try:
            while self.session and not self.ended.is_set():
                self._news.clear()
                if self.lost:
                    presence.lost(self._now_s())
                step, wait_s = presence.next(self._now_s())
                if step is Step.WAIT:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._news.wait()
                elif step is Step.PING:
                    self.send({"type": "ping", "t": self._now_s()})
                elif step is Step.ASK:
                    if not await self._stands():
                        presence.lost(self._now_s())
                elif step is Step.CONNECT:
                    await self._come_back(presence)
                else:
                    self._leave()
        finally:
            self._presence = None

    async def _stands(self) -> bool:
        """Whether the server has the conversation where we are connected, as far as it says."""
        status, found = await self._asked()
        return status != 404 and found.get("stands") is not False

    async def _known(self) -> bool:
        """Whether the server has the conversation at all, as far as it says."""
        return (await self._asked())[0] != 404

    async def _asked(self) -> tuple[int, dict[str, Any]]:
        try:
            return await self._server.ask("GET", f"/sessions/{self.session}", timeout_s=ASK_S, key=self.key)
        except TalkError:
            return 0, {}

    async def _come_back(self, presence: Presence) -> None:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                before = await self._anew(moving=presence.state is PresenceState.MOVING)
        except TalkError as error:
            code = error.code
        except Exception:  # of aiortc, which may raise anything, and a timeout: there is no path now
            code = "no-path"
        else:
            presence.connected(self._now_s())
            await _close(before)
            return
        presence.refused(code, self._now_s())

    def _now_s(self) -> float:
        return self.clock.now_ns() / 1e9

    @property
    def there(self) -> bool:
        """Whether there is a connection on which controls are sent now."""
        return self._channel is not None and self._channel.readyState == "open"

    def send(self, control: dict[str, Any]) -> bool:
        """Send a control, such as `{"type": "stop"}`; False without a connection: then it is dropped."""
        if not self.there:
            return False
        said = json.dumps({"v": VERSION, **control}, ensure_ascii=False)
        if any("\ud800" <= each <= "\udfff" for each in said):  # half of a character has no UTF-8
            said = json.dumps({"v": VERSION, **control})
        self._channel.send(said)
        return True

    def ask(self, text: str) -> None:
        """Ask in writing, 1 to 2000 characters: now, or once there is a connection. A question that was lost with a
        connection or a machine is sent again, as `written.py` says.
        """
        self._questions.ask(text)
        if self.there and self._greeted is self._channel:
            self._send_all(self._questions.to_send())

    def _send_all(self, controls: list[dict[str, Any]]) -> None:
        for control in controls:
            self.send(control)

    async def hang_up(self) -> None:
        """Drop the connection, as a network would; the conversation waits for us."""
        if self._pc is not None:
            pc, self._pc = self._pc, None
            self.voice = VoiceTrack(self.clock)
            await _close(pc)

    async def end(self) -> None:
        """End the conversation. Idempotent."""
        if self.session:
            session, self.session = self.session, ""
            self._news.set()
            with contextlib.suppress(TalkError):  # a server that is gone has ended it too
                await self._server.ask("DELETE", f"/sessions/{session}", timeout_s=END_S, key=self.key)
        await self.hang_up()

    async def next(self, *types: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The next event of one of these types. Raises TimeoutError, and TalkError where the connection is lost, or,
        with `stay`, the conversation.
        """
        seen = len(self.events)
        async with asyncio.timeout(timeout_s):
            while True:
                for _, event in self.events[seen:]:
                    if event["type"] in types:
                        return event
                seen = len(self.events)
                if self.lost and self._presence is None:
                    raise TalkError("lost", "the connection was lost")
                self._news.clear()
                await self._news.wait()

    def _changed(self, pc: RTCPeerConnection) -> None:
        if pc is self._pc and pc.connectionState in ("failed", "closed"):
            self.lost = True
            self._news.set()

    def _message(self, message: str | bytes, channel: Any) -> None:
        """An event. What is none is counted; a server that sends nothing else, or without end, is left. What a machine
        tells that was taken for dead is ignored: the conversation goes on without that.
        """
        if self._only is not None and channel is not self._only:
            return
        try:
            found = decode_event(message)
        except ControlError:
            self.bad_events += 1
        else:
            if found is not None:  # a newer server may tell more than we know
                if isinstance(found, Hello):
                    self._greeted = self._channel
                    self._send_all(self._questions.hello(found.known))
                event = {"v": VERSION, **found.model_dump(exclude_none=True)}
                self._questions.event(event)
                if self._presence is not None:
                    self._presence.event(event["type"], self._now_s())
                if self._presence is None or event["type"] != "pong":
                    self.events.append((self.clock.now_ns(), event))
                    self.on_event(event)
                self._greet(event, new=channel is self._channel)
        self._event_bytes += len(message)
        if self.bad_events > MAX_BAD or len(self.events) > MAX_EVENTS or self._event_bytes > MAX_EVENT_BYTES:
            self._leave()
        self._news.set()

    def _greet(self, event: dict[str, Any], *, new: bool) -> None:
        """The conversation begins, or is over; a server may be full before it began. `new`: of the new connection."""
        waiting = self._greeting if new and self._greeting is not None and not self._greeting.done() else None
        if event["type"] == "hello" and waiting is not None:
            waiting.set_result(None)
        elif event["type"] == "bye" and waiting is not None:
            waiting.set_exception(TalkError(event["code"], printable(event["message"], 300)))
        elif event["type"] == "bye":
            self.ended.set()

    def _leave(self) -> None:
        """The server sends too much, or nothing that could be understood: it is listened to no longer."""
        self.lost = True
        self.ended.set()
        self._news.set()


async def _close(pc: RTCPeerConnection | None) -> None:
    if pc is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await pc.close()
