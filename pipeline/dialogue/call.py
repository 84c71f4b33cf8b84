"""The peer of a call: the interface between the stages of a conversation and its transport.

The stages `live.…` connect a pipeline to a visitor. They use only this protocol, so a conversation runs the same over
WebRTC and in a test that plays both sides under a virtual clock. The stages of one conversation are constructed inside
`using(peer)`, so that each conversation has a pipeline of its own.
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
    """The audio for the visitor; the transport pulls it, block by block."""

    on_control: Callable[[Control], None]
    """Called for each control message of the visitor; set by the turn-taking stage."""

    on_play: Callable[[PlayEvent], None]
    """Called when a reply begins to play and when it ends; set by the speaker stage."""

    on_bitrate: Callable[[int], None]
    """Called with the bit rate that the visitor's side can receive, bit/s; set by the video output stage."""

    on_key_wanted: Callable[[], None]
    """Called when the visitor's side needs a key frame; set by the same stage."""

    on_codecs: Callable[[tuple[str, ...]], None]
    """Called with the video codecs that the visitor's side can decode, once connected; set by the same stage."""

    @property
    def connected(self) -> bool:
        """Whether the visitor is connected now."""
        ...

    def audio(self) -> AsyncIterator[tuple[int, AudioChunk]]:
        """Units of 20 ms, mono at 16 kHz, each with its capture time, without gaps: missing audio becomes silence.

        Ends with the conversation. For one consumer.
        """
        ...

    def video(self) -> AsyncIterator[tuple[int, VideoFrame]]:
        """Camera frames with their capture times. Only the newest is kept; frames that it replaces are counted."""
        ...

    def tell(self, event: Event) -> None:
        """Send an event. Never waits. Without a connection, events with `keep` are queued, others dropped."""
        ...

    def show(self, time_ns: int, unit: EncodedVideo) -> None:
        """Send one encoded picture. Never waits; without a connection, or in a codec it lacks, it is dropped."""
        ...


_current: ContextVar[CallPeer | None] = ContextVar("call_peer", default=None)


@contextmanager
def using(peer: CallPeer) -> Iterator[None]:
    """Stages constructed inside the block belong to `peer`."""
    token = _current.set(peer)
    try:
        yield
    finally:
        _current.reset(token)


def current_peer(stage: str) -> CallPeer:
    """The peer of stages constructed now. Raises NoPeerError if there is none."""
    peer = _current.get()
    if peer is None:
        raise NoPeerError(f"{stage} needs a visitor in a browser: run this file with `thalweg serve`")
    return peer
