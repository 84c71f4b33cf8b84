"""What a sound card of this machine plays, with the same account of it as a conversation over WebRTC."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.pipeline.dialogue.playout import PlayEvent, Playout, PlayState
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.stage import Context
from thalweg.stages.dialogue.live import LiveSpeaker
from thalweg.stages.io.audio import AudioError

RATE = 48_000
_LOOK_S = 0.02


class Speaker(LiveSpeaker):
    """Plays speech on a sound card of this machine, one piece after the other; an interrupt stops it in mid-word.

    Signals upstream when a reply begins to play and how much of it was heard, as `live.speaker` does. A microphone
    nearby picks it up, too: use headphones, or set `barge_in: false` for `speech.vad`.
    """

    def __init__(
        self,
        device: Annotated[str | None, Field(description="name or part of it; the system's default if left out")] = None,
        ahead: Annotated[Duration, Field(description="speech made ahead of what is played, at most")] = 20_000 * MS,
    ) -> None:
        self._device = device
        self._ahead_ns = ahead
        self._ctx: Context | None = None
        self._peer: Any = _Card()  # Any: what `live.speaker` has of the person at the other end
        self._stream: Any = None  # Any: PortAudio's

    def open(self, ctx: Context) -> None:
        """Raises AudioError where there is nothing to play on."""
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise AudioError(
                f"no loudspeaker: {error}. Install it: pip install 'thalweg[microphone]', and the system's PortAudio; "
                "`sink.audio` writes a file instead"
            ) from None
        super().open(ctx)
        card: _Card = self._peer

        def wanted(out: NDArray[np.float32], frames: int, _time: Any, _status: Any) -> None:  # Any: C structures
            out[:, 0], events = card.playout.pull(frames, ctx.now_ns())
            for event in events:
                card.on_play(event)

        try:
            self._stream = sounddevice.OutputStream(
                samplerate=RATE, device=self._device, channels=1, dtype="float32", callback=wanted
            )
            self._stream.start()
        except (sounddevice.PortAudioError, ValueError) as error:
            where = self._device or "the default device"
            raise AudioError(f"cannot play on {where}: {error}; `sink.audio` writes a file instead") from None

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Play a piece, once there is room. Raises AudioError where the card has gone."""
        self._look()
        await super().process(packet, ctx)

    async def finish(self, ctx: Context) -> None:
        """Play what is left. Raises AudioError where the card has gone."""
        playout = self._peer.playout
        while playout.waiting_ns > 0 and playout.state is not PlayState.HELD:
            self._look()
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(min(1.0, float(self._stream.latency)))  # what the card holds

    def close(self) -> None:
        """Give the card back."""
        if self._stream is not None:
            self._stream.close()

    def _look(self) -> None:
        if not self._stream.active:
            raise AudioError(f"{self._device or 'the default device'} plays no more: was it unplugged?")

    @property
    def counts(self) -> dict[str, int]:
        """How often speech came later than it was to be played."""
        gaps = self._peer.playout.gaps
        return {"gaps": gaps} if gaps else {}


class _Card:
    """In the place of a person at the other end of a connection."""

    def __init__(self) -> None:
        self.playout = _Shared(RATE)
        self.on_play: Callable[[PlayEvent], None] = lambda _: None

    def tell(self, event: object) -> None:
        """Discards the event: there is no peer to send it to."""


class _Shared(Playout):
    """A play-out that the card's own thread pulls from."""

    def __init__(self, rate: int) -> None:
        super().__init__(rate)
        self._lock = threading.Lock()

    def push(self, *, epoch: int, samples: NDArray[np.float32], text: str = "", last: bool = False) -> None:
        """As of every play-out; so are the others."""
        with self._lock:
            super().push(epoch=epoch, samples=samples, text=text, last=last)

    @property
    def waiting_ns(self) -> int:
        with self._lock:
            return super().waiting_ns

    def hold(self) -> None:
        with self._lock:
            super().hold()

    def resume(self) -> None:
        with self._lock:
            super().resume()

    def interrupt(self, epoch: int) -> list[PlayEvent]:
        with self._lock:
            return super().interrupt(epoch)

    def fail(self, epoch: int) -> list[PlayEvent]:
        with self._lock:
            return super().fail(epoch)

    def pull(self, count: int, now_ns: int) -> tuple[NDArray[np.float32], list[PlayEvent]]:
        with self._lock:
            return super().pull(count, now_ns)
