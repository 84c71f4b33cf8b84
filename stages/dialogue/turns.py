"""Taking turns with a person: the shell around `pipeline/dialogue/turn_taking.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from thalweg.pipeline.dialogue import turn_taking as dialogue
from thalweg.pipeline.dialogue.call import current_peer
from thalweg.pipeline.dialogue.events import (
    Again,
    Caption,
    Control,
    Dismissed,
    Echo,
    Interrupted,
    Say,
    State,
    Stop,
)
from thalweg.pipeline.dialogue.turn_taking import TurnRules, TurnTaking
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Speech, SpeechEvent, Transcript
from thalweg.pipeline.signal import Direction, Failure, Hold, Interrupt, Played, Playing, Resume, Signal
from thalweg.pipeline.stage import Context

_SETTLED_NS = 80 * MS


class LiveTurns:
    """Decides what a person's voice is: a turn, an interruption of the answer, or neither (`turn_taking.py`).

    Emits only transcripts that need an answer. Takes the audio, too, as its clock: a decision must not depend on other
    packets still to come. The voice detector upstream must leave interruptions to it (`barge_in: false`).
    """

    inputs = {"audio": AudioChunk, "speech": Speech, "transcript": Transcript}
    outputs = {"transcript": Transcript}
    configurable = ("interrupt_after", "interrupt_words", "level")

    def __init__(
        self,
        hold_after: Annotated[Duration, Field(description="voice during an answer that pauses it")] = 100 * MS,
        interrupt_after: Annotated[Duration, Field(description="shortest voice that interrupts an answer")] = 350 * MS,
        interrupt_words: Annotated[
            int, Field(ge=1, description="fewest words that interrupt, not counting back-channels")
        ] = 2,
        level: Annotated[float, Field(ge=0, le=1, description="loudness (RMS, 0…1) from which voice counts")] = 0.004,
        final_limit: Annotated[Duration, Field(description="timeout for a final transcript")] = 4_000 * MS,
    ) -> None:
        self._peer = current_peer("live.turns")
        self._talk = TurnTaking(
            TurnRules(
                hold_after_ns=hold_after,
                interrupt_after_ns=interrupt_after,
                interrupt_words=interrupt_words,
                level=level,
                final_limit_ns=final_limit,
            )
        )
        self._controls: deque[Control] = deque()
        self._told: tuple[str, int] = ("listening", 0)
        self._stopped: list[tuple[int, int, str]] = []

    def open(self, ctx: Context) -> None:
        """Listen to the person's buttons."""
        self._peer.on_control = self._controls.append

    def configure(self, settings: dict[str, Any]) -> None:
        """Take new settings at once."""
        names = {"interrupt_after": "interrupt_after_ns", "interrupt_words": "interrupt_words", "level": "level"}
        self._talk.rules = replace(self._talk.rules, **{names[name]: value for name, value in settings.items()})

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take one packet."""
        talk, now_ns, payload = self._talk, ctx.now_ns(), packet.payload
        if isinstance(payload, Transcript):
            self._do(talk.transcript(packet.epoch, payload, self._peer.playout.recent, now_ns), ctx)
        elif isinstance(payload, Speech):
            samples = payload.audio.samples
            level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
            self._do(talk.voice(packet.epoch, level, payload.audio.duration_ns, now_ns), ctx)
            if payload.event is SpeechEvent.END:
                self._do(talk.voice_ended(packet.epoch, now_ns), ctx)
        else:
            while self._controls:
                self._control(self._controls.popleft(), ctx)
            self._do(talk.passed(now_ns), ctx)
            self._tell_stopped(now_ns)

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Follow the answer: begun, over; and a recogniser that failed."""
        if isinstance(signal, Playing):
            self._do(self._talk.playing(signal.epoch), ctx)
        elif isinstance(signal, Played):
            self._do(self._talk.played(signal.epoch), ctx)
        elif isinstance(signal, Failure):
            self._do(self._talk.voice_failed(signal.epoch), ctx)

    def _control(self, control: Control, ctx: Context) -> None:
        if isinstance(control, Stop):
            self._do(self._talk.stop(), ctx)
        elif isinstance(control, Say):
            epoch = ctx.new_epoch()
            self._peer.tell(Caption(turn=epoch, text=control.text, stable=len(control.text), final=True, id=control.id))
            self._do(self._talk.say(epoch, control.text), ctx)
        elif isinstance(control, Again):
            self._do(self._talk.say(ctx.new_epoch(), control.text), ctx)
        elif isinstance(control, Echo):
            self._talk.echo = not control.cancelled

    def _do(self, actions: Sequence[dialogue.Action], ctx: Context) -> None:
        for action in actions:
            match action:
                case dialogue.Hold():
                    ctx.signal(Hold(origin=ctx.name))
                case dialogue.Resume():
                    ctx.signal(Resume(origin=ctx.name))
                case dialogue.Interrupt(epoch=epoch, answer=answer, cause=cause):
                    if answer:
                        self._stopped.append((answer, ctx.now_ns(), cause))
                    way = Direction.BOTH if cause == "written" else Direction.DOWN
                    ctx.signal(Interrupt(origin=ctx.name, epoch=epoch), way)
                case dialogue.Forward(epoch=epoch, transcript=transcript):
                    ctx.emit(transcript, epoch=epoch)
                case dialogue.Dismiss(epoch=epoch, cause=cause):
                    self._peer.tell(Dismissed(turn=epoch, cause=cause))
        state = (self._talk.state, self._talk.turn)
        if state != self._told:
            self._told = state
            self._peer.tell(State.model_validate({"state": state[0], "turn": state[1]}))

    def _tell_stopped(self, now_ns: int) -> None:
        """How long the last sample took to leave after the decision; told once it must have left."""
        while self._stopped and now_ns - self._stopped[0][1] > _SETTLED_NS:
            answer, decided_ns, cause = self._stopped.pop(0)
            late_ns = self._peer.playout.stopped_ns - decided_ns
            self._peer.tell(Interrupted(turn=answer, cause=cause, stale_ms=max(0.0, late_ns / 1e6)))
