"""The other side of a call: what the stages of a conversation may ask of what carries it.

The stages `live.…` stand where a pipeline meets a person. They know this protocol only, so a conversation runs the
same over WebRTC and over a test that plays both sides under a virtual clock. The stages of one conversation are made
inside `using(peer)`, so that each conversation has a pipeline of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from thalweg.pipeline.dialogue.events import Control, Event
from thalweg.pipeline.dialogue.playout import PlayEvent, Playout
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, VideoFrame


class NoPeerError(ThalwegError):
    """A stage that needs a peer was constructed outside a call."""


class CallPeer(Protocol):
    """Media and messages of one conversation. It outlives the connection that carries it: see `connected`."""

    playout: Playout
    """What the person hears; the carrier pulls from it, block by block."""

    on_control: Callable[[Control], None]
    """Called for each control message of the person; set by the stage that takes turns."""

    on_play: Callable[[PlayEvent], None]
    """Called when a reply is first heard and when it is over; set by the stage that speaks."""

    on_bitrate: Callable[[int], None]
    """Called with what the person's side says it can take, bit/s; set by the stage that shows pictures."""

    on_key_wanted: Callable[[], None]
    """Called when the person's side cannot go on without a key frame; set by the same."""

    on_codecs: Callable[[tuple[str, ...]], None]
    """Called with the video codecs that the person's side can decode, once it is there; set by the same."""

    @property
    def connected(self) -> bool:
        """Whether the person can be heard and reached now."""
        ...

    def audio(self) -> AsyncIterator[tuple[int, AudioChunk]]:
        """Units of 20 ms, mono at 16 kHz, each with its capture time; without gaps, silence where nothing came.

        Ends when the conversation does. For one consumer.
        """
        ...

    def video(self) -> AsyncIterator[tuple[int, VideoFrame]]:
        """Camera frames with their capture times. Only the newest is kept; frames that it replaces are counted."""
        ...

    def tell(self, event: Event) -> None:
        """Send an event. Never waits; what cannot be delivered now is kept as far as it still matters later."""
        ...

    def show(self, time_ns: int, unit: EncodedVideo) -> None:
        """Send one encoded picture. Never waits; without a connection, or in a codec it lacks, it is dropped."""
        ...


_current: ContextVar[CallPeer | None] = ContextVar("call_peer", default=None)


@contextmanager
def using(peer: CallPeer) -> Iterator[None]:
    """Stages made inside belong to `peer`."""
    token = _current.set(peer)
    try:
        yield
    finally:
        _current.reset(token)


def current_peer(stage: str) -> CallPeer:
    """The peer that stages made now belong to. Raises NoPeerError where there is none."""
    peer = _current.get()
    if peer is None:
        raise NoPeerError(f"{stage} needs a visitor in a browser: run this file with `thalweg serve`")
    return peer
