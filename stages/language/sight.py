"""Telling a language model what a camera has read."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from thalweg.pipeline.duration import Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detections, Transcript
from thalweg.pipeline.stage import Context

_S = 1_000_000_000


class Sight:
    """Puts what was read last before the question, so that a model that has no eyes can answer about it.

    Transcripts come out as they came in, with `telling` before their words; `stable_chars` counts it. Where nothing was
    read, or not within `age` of capture time, nothing is put there. What a trial was given, the final transcript of the
    same words is given too, so that an answer drafted for the one answers the other.
    """

    inputs = {"transcript": Transcript, "detections": Detections}
    outputs = {"transcript": Transcript}

    def __init__(
        self,
        age: Annotated[Duration, Field(description="what was read longer ago is not told")] = 3 * _S,
        most: Annotated[int, Field(ge=1, le=4_000, description="characters of it that are told at most")] = 200,
        telling: Annotated[
            str, Field(pattern=r"\{text\}", description="how it is put; {text} stands for what was read")
        ] = 'The camera sees the text "{text}". ',
    ) -> None:
        self._age_ns, self._most, self._telling = age, most, telling
        self._read: tuple[int, str] | None = None
        self._tried: tuple[int, str, str] | None = None

    def process(self, packet: Packet, ctx: Context) -> None:
        """Keep what was read; put it before what was said."""
        payload = packet.payload
        if isinstance(payload, Detections):
            text = " ".join(item.text for item in payload.items if item.text)
            self._read = (packet.time, _shortened(text, self._most)) if text else None
            return
        assert isinstance(payload, Transcript)
        before = self._before(payload, packet)
        self._tried = (packet.epoch, payload.text, before) if payload.trial else None
        ctx.emit(replace(payload, text=before + payload.text, stable_chars=len(before) + payload.stable_chars))

    def _before(self, transcript: Transcript, packet: Packet) -> str:
        if not transcript.text.strip():
            return ""
        if self._tried and self._tried[:2] == (packet.epoch, transcript.text):
            return self._tried[2]
        if self._read is None or abs(packet.time - self._read[0]) > self._age_ns:
            return ""
        return self._telling.replace("{text}", self._read[1])


def _shortened(text: str, most: int) -> str:
    """Cut between words where it is too long."""
    plain = " ".join(text.replace('"', "'").split())
    return plain if len(plain) <= most else plain[:most].rpartition(" ")[0] or plain[:most]
