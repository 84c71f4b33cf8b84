"""Stages that connect a pipeline to a visitor's browser: microphone, speaker and captions (`thalweg serve`)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.dialogue.call import current_peer
from thalweg.pipeline.dialogue.events import Answer, Answered, Caption, Heard, Limits, Look, Trouble
from thalweg.pipeline.dialogue.playout import Finished, PlayEvent, Started
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, Routed, SpokenText, Token, Transcript, VideoFrame
from thalweg.pipeline.signal import (
    Ahead,
    Bitrate,
    Decodes,
    Direction,
    Failure,
    Hold,
    Interrupt,
    KeyFrame,
    Played,
    Playing,
    Region,
    Resume,
    Signal,
)
from thalweg.pipeline.stage import Context, Port
from thalweg.pipeline.video.regions import usable


class LiveMicrophone:
    """The visitor's microphone: mono audio at 16 kHz in units of 20 ms, with silence where packets were lost."""

    outputs = {"audio": AudioChunk}

    def __init__(self) -> None:
        self._peer = current_peer("live.microphone")

    async def run(self, ctx: Context) -> None:
        """Until the conversation ends."""
        async for time_ns, chunk in self._peer.audio():
            await ctx.send(chunk, time=time_ns)


class LiveCamera:
    """The visitor's camera. Only the newest frame is kept: a slow pipeline gets fewer frames, never older ones.

    Regions and limits that are signalled upstream are forwarded to the visitor's browser, which follows them.
    """

    outputs = {"video": VideoFrame}
    configurable = ("rate", "scale", "follow")

    def __init__(
        self,
        rate: Annotated[float | None, Field(gt=0, description="frames per second to request, at most")] = None,
        scale: Annotated[
            float | None, Field(gt=0, le=1, description="size to request, as a share of the camera's")
        ] = None,
        follow: Annotated[bool, Field(description="forward regions to the visitor's browser")] = True,
        soften: Annotated[
            bool,
            Field(description="have the browser blur everything outside the regions; useful at low bit rates only"),
        ] = False,
    ) -> None:
        self._peer = current_peer("live.camera")
        self._rate, self._scale, self._follow, self._soften = rate, scale, follow, soften

    def configure(self, settings: dict[str, Any]) -> None:
        """Ask for another rate or size. Regions that are no longer followed are taken back."""
        if self._follow and not settings.get("follow", True):
            self._peer.tell(Look(boxes=()))
        self._follow = settings.get("follow", self._follow)
        rate, scale = settings.get("rate"), settings.get("scale")
        if rate is not None or scale is not None:
            self._peer.tell(Limits(rate=rate, scale=scale))

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Pass on where the machine looks, and how many bits it needs."""
        if isinstance(signal, Region) and self._follow:
            self._peer.tell(Look(boxes=usable(signal.boxes), soften=self._soften))
        elif isinstance(signal, Bitrate):
            self._peer.tell(Limits(bitrate_bps=max(0, signal.bitrate_bps)))

    async def run(self, ctx: Context) -> None:
        """Until the conversation ends."""
        if self._rate is not None or self._scale is not None:
            self._peer.tell(Limits(rate=self._rate, scale=self._scale))
        async for time_ns, frame in self._peer.video():
            await ctx.send(frame, time=time_ns)


class LiveScreen:
    """Shown to the visitor: encoded pictures as they arrive. Follows the browser's bit rate, key frames and codec."""

    inputs = {"video": EncodedVideo}

    def __init__(self) -> None:
        self._peer = current_peer("live.screen")

    def open(self, ctx: Context) -> None:
        """Listen to the person's side."""
        self._peer.on_bitrate = lambda bps: ctx.signal(Bitrate(origin=ctx.name, bitrate_bps=bps), Direction.UP)
        self._peer.on_key_wanted = lambda: ctx.signal(KeyFrame(origin=ctx.name), Direction.UP)
        self._peer.on_codecs = lambda codecs: ctx.signal(Decodes(origin=ctx.name, codecs=codecs), Direction.UP)

    def process(self, packet: Packet, ctx: Context) -> None:
        """Show one picture."""
        assert isinstance(packet.payload, EncodedVideo)
        self._peer.show(packet.time, packet.payload)


class LiveSpeaker:
    """The visitor's speaker: plays speech in real time, one piece after the other, each sample at most once.

    Signals upstream when a reply begins to play and how much of it was heard (`Playing`, `Played`), so that the
    conversation remembers only words that were heard, and how much is left to play (`Ahead`). `Hold` pauses it,
    `Resume` continues.
    """

    inputs = {"audio": AudioChunk}
    _resampler: Any = None  # PyAV's, for the reply and rate `_from`
    _from = (AMBIENT, 0)

    def __init__(
        self,
        ahead: Annotated[Duration, Field(description="speech made ahead of what is played, at most")] = 20_000 * MS,
    ) -> None:
        self._peer = current_peer("live.speaker")
        self._ahead_ns = ahead
        self._ctx: Context | None = None

    def open(self, ctx: Context) -> None:
        """Listen to the play-out."""
        self._ctx = ctx
        self._peer.on_play = self._played

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Hand a piece over to the play-out, once that has room."""
        audio = packet.payload
        assert isinstance(audio, AudioChunk)
        playout = self._peer.playout
        while playout.waiting_ns > self._ahead_ns:
            await ctx.sleep_until(ctx.now_ns() + 50 * MS)
        text, last = (audio.text, audio.last) if isinstance(audio, SpokenText) else ("", False)
        samples = self._resample(audio, packet.epoch, last)
        playout.push(epoch=packet.epoch, samples=samples, text=text, last=last)
        ctx.signal(Ahead(origin=ctx.name, epoch=packet.epoch, ahead_ns=playout.waiting_ns), Direction.UP)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Stop at an interrupt, pause and go on, end a reply that failed."""
        playout = self._peer.playout
        if isinstance(signal, Interrupt):
            for event in playout.interrupt(signal.epoch):
                self._played(event)
        elif isinstance(signal, Failure):
            for event in playout.fail(signal.epoch):
                self._played(event)
        elif isinstance(signal, Hold):
            playout.hold()
        elif isinstance(signal, Resume):
            playout.resume()

    def _played(self, event: PlayEvent) -> None:
        ctx = self._ctx
        assert ctx is not None
        if isinstance(event, Started):
            ctx.signal(Playing(origin=ctx.name, epoch=event.epoch, time=event.time_ns), Direction.UP)
        else:
            assert isinstance(event, Finished)
            self._peer.tell(Heard(turn=event.epoch, text=event.text, complete=event.complete))
            ctx.signal(
                Played(origin=ctx.name, epoch=event.epoch, text=event.text, complete=event.complete), Direction.UP
            )

    def _resample(self, audio: AudioChunk, epoch: int, last: bool) -> NDArray[np.float32]:
        """To the rate of the play-out, mono. The pieces of a reply are one sound: a filter runs on from each to the
        next, and is emptied with the last.
        """
        mono = np.ascontiguousarray(
            audio.samples if audio.samples.ndim == 1 else audio.samples.mean(axis=1), np.float32
        )
        if audio.rate == self._peer.playout.rate:
            return mono
        import av

        if self._from != (epoch, audio.rate):
            self._resampler = None
            self._from = epoch, audio.rate
        made: list[Any] = []
        if len(mono):
            if self._resampler is None:
                self._resampler = av.AudioResampler(format="flt", layout="mono", rate=self._peer.playout.rate)
            frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
            frame.sample_rate = audio.rate
            made += self._resampler.resample(frame)
        if last and self._resampler is not None:
            made += self._resampler.resample(None)
            self._resampler = None
        return np.concatenate([np.zeros(0, np.float32), *(part.to_ndarray()[0] for part in made)]).astype(np.float32)


class LiveCaptions:
    """Shown to the visitor: captions as they form, the answer token by token, which model gave it, and errors."""

    inputs = {
        "transcript": Port(Transcript, required=False),
        "token": Port(Token, required=False),
        "route": Port(Routed, required=False),
    }

    def __init__(self) -> None:
        self._peer = current_peer("live.captions")

    def process(self, packet: Packet, ctx: Context) -> None:
        """Tell one transcript, token or name."""
        payload = packet.payload
        if isinstance(payload, Token):
            self._peer.tell(Answer(turn=packet.epoch, text=payload.text, last=payload.last))
        elif isinstance(payload, Routed) and payload.backend:
            self._peer.tell(Answered(turn=packet.epoch, by=payload.backend))
        elif isinstance(payload, Transcript):
            self._peer.tell(
                Caption(turn=packet.epoch, text=payload.text, stable=payload.stable_chars, final=payload.final)
            )

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Tell a failure, without what it says of the inside."""
        if isinstance(signal, Failure):
            self._peer.tell(
                Trouble(
                    code="turn-failed",
                    turn=signal.epoch,
                    message=f"{signal.public or 'This question could not be answered.'} Ask again.",
                )
            )
