"""Telling a language model what a camera has read and seen."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from thalweg.pipeline.duration import Duration
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detection, Detections, Transcript
from thalweg.pipeline.stage import Context, Port

_S = 1_000_000_000
_ABOUT = re.compile(
    r"\b(see|sees|seeing|seen|look|looks|looking|camera|picture|image|video|view|screen|show|shows|showing|shown|"
    r"hold|holding|wear|wearing|colou?rs?|dark|bright|face|faces|moving|moves|behind me|in front of|how many people)\b",
    re.IGNORECASE,
)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


class Sight:
    """Puts what was read last before the question, so that a model that has no eyes can answer about it; and where the
    question is about the picture, what was seen.

    Transcripts come out as they came in, with what is told before their words; `stable_chars` counts it. Of text, where
    nothing was read, or not within `age` of capture time, nothing is put there. What a trial was given, the final
    transcript of the same words is given too, so that an answer drafted for the one answers the other.
    """

    inputs = {
        "transcript": Transcript,
        "detections": Port(Detections, required=False),
        "scene": Port(Detections, required=False),
    }
    outputs = {"transcript": Transcript}

    def __init__(
        self,
        age: Annotated[Duration, Field(description="what was read or seen longer ago is not told")] = 3 * _S,
        most: Annotated[int, Field(ge=1, le=4_000, description="characters of it that are told at most")] = 200,
        telling: Annotated[
            str, Field(pattern=r"\{text\}", description="how it is put; {text} stands for what was read")
        ] = 'The camera sees the text "{text}". ',
        describing: Annotated[
            str, Field(pattern=r"\{scene\}", description="how what was seen is put, at `scene`; {scene} stands for it")
        ] = "You see through a camera: {scene}. You can tell nothing else about the picture. ",
        blind: Annotated[
            str, Field(description="what is put before a question about the picture while nothing is seen")
        ] = "",
    ) -> None:
        self._age_ns, self._most, self._telling = age, most, telling
        self._describing, self._blind = describing, blind
        self._read: tuple[int, str] | None = None
        self._seen: tuple[int, str] | None = None
        self._tried: tuple[int, str, str] | None = None

    def process(self, packet: Packet, ctx: Context) -> None:
        """Keep what was read or seen; put it before what was said."""
        payload = packet.payload
        if isinstance(payload, Detections):
            if ctx.port == "scene":
                self._seen = (packet.time, in_words(payload.items))
                return
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
        read = "" if self._read is None or self._old(self._read[0], packet) else self._read[1]
        seen = "" if self._seen is None or self._old(self._seen[0], packet) else self._seen[1]
        told = self._telling.replace("{text}", read) if read else ""
        if not _ABOUT.search(transcript.text):
            return told
        if seen:
            return told + self._describing.replace("{scene}", seen)
        return told or self._blind

    def _old(self, time_ns: int, packet: Packet) -> bool:
        return abs(packet.time - time_ns) > self._age_ns


def in_words(items: tuple[Detection, ...]) -> str:
    """Detections of `vision.describe` as a phrase: `a dark picture, mostly green and white, with two faces`."""
    light = next((f"{item.text} " for item in items if item.kind == "light"), "")
    colours = [item.text for item in items if item.kind == "colour"]
    parts = [f"a {light}picture" + (f", mostly {_and(colours)}" if colours else "")]
    faces, people = (sum(item.kind == kind for item in items) for kind in ("face", "person"))
    there = [_count(faces, "face", "faces")] if faces else [_count(people, "person", "people")] if people else []
    there += ["something that moves"] if any(item.kind == "motion" for item in items) else []
    return parts[0] + (f", with {_and(there)}" if there else ", with no face or person that was found")


def _count(count: int, one: str, many: str) -> str:
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} {one if count == 1 else many}"


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def _shortened(text: str, most: int) -> str:
    """Cut between words where it is too long."""
    plain = " ".join(text.replace('"', "'").split())
    return plain if len(plain) <= most else plain[:most].rpartition(" ")[0] or plain[:most]
