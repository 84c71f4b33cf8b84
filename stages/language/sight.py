"""Telling a language model what a camera has read and seen, and showing it to one that takes pictures."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields, replace
from typing import Annotated

from pydantic import Field

from thalweg.pipeline.duration import Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import MOST_PICTURE_BYTES, Detection, Detections, Pictured, Transcript, VideoFrame
from thalweg.pipeline.speech.hypothesis import same_words
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.vision.picture import as_jpeg

_S = 1_000_000_000
_ABOUT = re.compile(
    r"\b(see|sees|seeing|seen|look|looks|looking|camera|picture|image|video|view|screen|show|shows|showing|shown|"
    r"hold|holding|wear|wearing|colou?rs?|dark|bright|face|faces|moving|moves|behind me|in front of|how many people)\b",
    re.IGNORECASE,
)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True, slots=True)
class _Told:
    """What is put before a question: what was `read`, and what was `seen`, left out beside a picture."""

    read: str = ""
    seen: str = ""


@dataclass(slots=True)
class _Shown:
    """The picture of a turn: a frame until it is asked for, then a JPEG."""

    epoch: int
    frame: VideoFrame | None = None
    jpeg: bytes | None = None


class Sight:
    """Puts what was read last before the question, so that a model that has no eyes can answer about it; and where the
    question is about the picture, what was seen.

    Transcripts come out as they came in, with what is told before their words; `stable_chars` counts it. Of text, where
    nothing was read, or not within `age` of capture time, nothing is put there. What a trial was given, the final
    transcript of the same words is given too, so that an answer drafted for the one answers the other.

    With `pictures`, a question that is over goes on with the picture (`Pictured`) that was newest at `picture` when its
    first words were understood, one and no more, and not one older than `age`. A model that takes none is told the
    words. The picture goes where the words go, and is kept until the next question.
    """

    inputs = {
        "transcript": Transcript,
        "detections": Port(Detections, required=False),
        "scene": Port(Detections, required=False),
        "picture": Port(VideoFrame, required=False),
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
        pictures: Annotated[bool, Field(description="attach a picture to each question")] = True,
        side: Annotated[int, Field(ge=16, le=2048, description="longest side of a picture, pixels")] = 512,
        picture_kb: Annotated[
            int,
            Field(ge=4, le=MOST_PICTURE_BYTES // 1000, description="largest picture, kB; a larger one is not attached"),
        ] = 128,
    ) -> None:
        self._age_ns, self._most, self._telling = age, most, telling
        self._describing, self._blind = describing, blind
        self._pictures, self._side, self._picture_bytes = pictures, side, picture_kb * 1000
        self._read: tuple[int, str] | None = None
        self._seen: tuple[int, str] | None = None
        self._tried: tuple[int, str, _Told] | None = None
        self._newest: tuple[int, VideoFrame] | None = None
        self._shown = _Shown(AMBIENT)
        self.counts: Counter[str] = Counter()

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Keep what was read or seen; put it before what was said."""
        payload = packet.payload
        if isinstance(payload, VideoFrame):
            self._newest = (packet.time, payload) if self._pictures else None
            return
        if isinstance(payload, Detections):
            if ctx.port == "scene":
                self._seen = (packet.time, in_words(payload.items))
                return
            text = " ".join(item.text for item in payload.items if item.text)
            self._read = (packet.time, _shortened(text, self._most)) if text else None
            return
        assert isinstance(payload, Transcript)
        told = self._told(payload, packet)
        self._tried = (packet.epoch, payload.text, told) if payload.trial else None
        before = told.read + told.seen
        stable_chars, told_chars = len(before) + payload.stable_chars, len(before) + payload.told_chars
        said = replace(payload, text=before + payload.text, stable_chars=stable_chars, told_chars=told_chars)
        jpeg = await self._picture(payload, packet, ctx)
        ctx.emit(said if jpeg is None else _pictured(said, jpeg, beside=told.read + payload.text))

    async def _picture(self, transcript: Transcript, packet: Packet, ctx: Context) -> bytes | None:
        """What goes along with a transcript. The first words of a turn decide the frame, also for what follows."""
        if not transcript.text.strip():
            return None
        if self._shown.epoch != packet.epoch or packet.epoch == AMBIENT:
            newest = self._newest
            fresh = newest is not None and not self._old(newest[0], packet)
            self._shown = _Shown(packet.epoch, newest[1] if newest is not None and fresh else None)
        shown = self._shown
        if not (transcript.final or transcript.trial):
            return None
        if shown.frame is not None:
            shown.jpeg = await ctx.compute(as_jpeg, shown.frame, self._side, self._picture_bytes)
            shown.frame = None
            self.counts["pictures_too_large" if shown.jpeg is None else "pictures"] += 1
        return shown.jpeg

    def _told(self, transcript: Transcript, packet: Packet) -> _Told:
        if not transcript.text.strip():
            return _Told()
        if self._tried and self._tried[0] == packet.epoch and same_words(self._tried[1], transcript.text):
            return self._tried[2]
        read = "" if self._read is None or self._old(self._read[0], packet) else self._read[1]
        seen = "" if self._seen is None or self._old(self._seen[0], packet) else self._seen[1]
        told = self._telling.replace("{text}", read) if read else ""
        if not _ABOUT.search(transcript.text):
            return _Told(told)
        if seen:
            return _Told(told, self._describing.replace("{scene}", seen))
        return _Told(told, "" if told else self._blind)

    def _old(self, time_ns: int, packet: Packet) -> bool:
        return abs(packet.time - time_ns) > self._age_ns


def _pictured(said: Transcript, jpeg: bytes, beside: str) -> Pictured:
    plain = {each.name: getattr(said, each.name) for each in fields(Transcript)}
    return Pictured(**plain, picture=jpeg, beside=beside)


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
