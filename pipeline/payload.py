"""The payloads of packets. Each is frozen and validated when it is built: one that exists is valid.

Arrays are shared, not copied: a producer gives up ownership of an array that it puts into a payload, and must not write
to it again. Times are nanoseconds of the pipeline's clock unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.pipeline.errors import PayloadError
from thalweg.pipeline.signal import LATER

_FLOAT32, _UINT8 = np.dtype(np.float32), np.dtype(np.uint8)


def _require(condition: bool, message: str, *found: object) -> None:
    """Raise PayloadError unless `condition`. Only then format the message: a dtype costs more than all checks."""
    if not condition:
        raise PayloadError(message.format(*found) if found else message)


def _require_text(text: object) -> None:
    _require(isinstance(text, str), "a text is {!r}, expected str", text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The base of everything that a packet can carry. Ports are typed by its subclasses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioChunk(Payload):
    """Consecutive audio samples.

    `samples`: [time] or [time, channel] float32, nominally −1…1. `rate`: samples per second.
    Raises PayloadError on another dtype, another rank or a rate that is not positive.
    """

    samples: NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        _require(
            self.samples.dtype == _FLOAT32,
            "audio samples are {}, expected float32 in −1…1: convert before building",
            self.samples.dtype,
        )
        ndim = self.samples.ndim
        _require(ndim == 1 or ndim == 2, "audio has {} axes, expected [time] or [time, channel]", ndim)
        _require(
            (self.rate.__class__ is int or isinstance(self.rate, np.integer)) and self.rate > 0,
            "audio rate is {} Hz, expected a positive whole number",
            self.rate,
        )

    @property
    def duration_ns(self) -> int:
        """How long the chunk lasts when played at its rate."""
        return len(self.samples) * 1_000_000_000 // self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrame(Payload):
    """One picture: `pixels` [height, width] or [height, width, channel] uint8, in the order `layout` names."""

    pixels: NDArray[np.uint8]
    layout: str = "rgb24"

    def __post_init__(self) -> None:
        _require(self.pixels.dtype == _UINT8, "video pixels are {}, expected uint8", self.pixels.dtype)
        _require(
            self.pixels.ndim in (2, 3) and self.pixels.size > 0,
            "video frame has shape {}, expected [height, width] or [height, width, channel]",
            self.pixels.shape,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo(Payload):
    """One access unit of a compressed video stream. To decode it, all units since the last key unit are needed.

    `data`: H.264 in Annex B form, VP8 or VP9 as one frame. `codec`: lower case, `h264`, `vp8`, …. `width`,
    `height`: of the decoded picture, pixels. `key`: decodable without any other unit. Raises PayloadError where there
    is no data or the size is not positive.
    """

    data: bytes
    codec: str
    width: int
    height: int
    key: bool

    def __post_init__(self) -> None:
        _require(len(self.data) > 0, "an encoded video unit has no data")
        _require(
            self.width > 0 and self.height > 0,
            f"encoded video is {self.width}×{self.height} pixels, expected at least 1×1",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions(Payload):
    """Regions of the picture in which the viewer needs detail, from the packet's time on.

    `boxes`: (x, y, width, height, weight), all 0…1 of the frame. `confidence` 0…1: how sure their producer is;
    `half_life_ns`: the time in which that halves. Raises PayloadError on numbers that are not finite, a confidence
    outside 0…1 or a half-life that is not positive. Boxes may overlap or leave the frame, and their number is not
    limited.
    """

    boxes: tuple[tuple[float, float, float, float, float], ...]
    confidence: float = 1.0
    half_life_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        _require(all(math.isfinite(v) for box in self.boxes for v in box), "a region holds a number that is not finite")
        _require(0 <= self.confidence <= 1, f"the confidence of regions is {self.confidence}, expected 0…1")
        _require(self.half_life_ns > 0, f"the half-life of regions is {self.half_life_ns} ns, expected more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One detection: `kind` (`text`, `face`, …), `text` (read text or name), `score` 0…1, its box 0…1 of the frame."""

    kind: str
    text: str
    score: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections(Payload):
    """The detections in one frame. `confidence` 0…1: how well the viewer could see what it was asked about."""

    items: tuple[Detection, ...]
    confidence: float = 1.0

    def __post_init__(self) -> None:
        _require(0 <= self.confidence <= 1, f"the confidence of detections is {self.confidence}, expected 0…1")


class SpeechEvent(Enum):
    """The position of a piece of speech in its utterance."""

    START = "start"
    CONTINUE = "continue"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech(Payload):
    """Audio that voice activity detection classified as speech, cut into utterances.

    `event` is START on the first piece (pre-roll included), END on the last one, whose audio may be empty.
    `speech_end_ns` is set on END: the capture time at which the voice stopped, before the silence that
    decided the turn was over. `silence_ns`: how long the silence at the end of this piece has lasted; 0 during speech.
    """

    audio: AudioChunk
    event: SpeechEvent
    speech_end_ns: int | None = None
    silence_ns: int = 0

    def __post_init__(self) -> None:
        _require(
            (self.speech_end_ns is not None) == (self.event is SpeechEvent.END),
            "speech_end_ns belongs to the END event and to no other",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One recognised word; `start_ns`, `end_ns` in capture time, `confidence` 0…1."""

    text: str
    start_ns: int
    end_ns: int
    confidence: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript(Payload):
    """The recognised text of an utterance so far.

    `final`: it will not change again. `stable_chars`: how many leading characters of `text` the recogniser considers
    settled; all of them when final. `trial`: the voice pauses; if it does not go on, the final transcript will most
    likely be this one, so stages may prepare for it, but must not act on it. `language`: code of the recognised
    language, empty if the recogniser does not report it. `told_chars`: how many leading characters of `text` were not
    said, but put there by a stage, such as what a camera sees.
    """

    text: str
    final: bool
    stable_chars: int = 0
    words: tuple[Word, ...] = ()
    speech_end_ns: int | None = None
    trial: bool = False
    language: str = ""
    told_chars: int = field(default=0, metadata=LATER)

    def __post_init__(self) -> None:
        _require_text(self.text)
        _require(not (self.final and self.trial), "a transcript is final or a trial, not both")
        for name in ("stable_chars", "told_chars"):
            chars = getattr(self, name)
            _require(0 <= chars <= len(self.text), f"{name} is {chars}, expected 0…{len(self.text)}")


MOST_PICTURE_BYTES = 256_000
"""Largest JPEG in a `Pictured`, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictured(Transcript):
    """A question and its picture, for a model that takes pictures; any other model is asked `text` alone.

    `picture`: a JPEG. `beside`: the question to ask with the picture, in place of `text`, which may describe it in
    words.
    """

    picture: bytes = field(repr=False)
    beside: str

    def __post_init__(self) -> None:
        Transcript.__post_init__(self)
        _require_text(self.beside)
        _require(
            self.picture[:3] == b"\xff\xd8\xff" and len(self.picture) <= MOST_PICTURE_BYTES,
            f"a picture of {len(self.picture)} bytes, expected a JPEG of {MOST_PICTURE_BYTES} at most",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Payload):
    """A piece of generated text. `last` closes the reply; its text may be empty."""

    text: str
    last: bool = False

    def __post_init__(self) -> None:
        _require_text(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence(Payload):
    """A piece of text that can be spoken in one breath. `first` begins a reply, `last` closes it and may be empty.

    `said`: the part of the text to speak, empty for a line of code; None leaves that to the voice.
    """

    text: str
    last: bool = False
    first: bool = False
    said: str | None = None

    def __post_init__(self) -> None:
        _require_text(self.text)
        if self.said is not None:
            _require_text(self.said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft(Payload):
    """The beginning of an answer to a question that may go on: stages may prepare for it, but never show or play it.

    `text`: all text of the draft so far. `whole`: it is complete.
    """

    text: str
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed(Payload):
    """Which of several language models answered a turn, and why.

    `backend`: the one that answered, empty if none did; `chosen`: the one that the router chose. `expected_ms`: when
    its first words were expected; `first_ms`: when the first words of the answer came; None: they did not.
    `confidence`: how likely the first clause was in time, 0…1. `cost`: of all that were asked. `switches`: how often
    another took over in mid-answer. `out`: name → why it could not be asked. Raises PayloadError on a confidence
    outside 0…1.
    """

    backend: str
    chosen: str
    reason: str
    expected_ms: float
    first_ms: float | None
    cost: float
    confidence: float
    switches: int = 0
    hedges: int = 0
    out: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_text(self.reason)
        _require(0 <= self.confidence <= 1, "the confidence of a route is {}, expected 0…1", self.confidence)

    def __str__(self) -> str:
        """One line for reports."""
        who = self.backend or "no backend"
        instead = f" in place of {self.chosen}" if self.chosen and self.chosen != self.backend else ""
        came = "no word" if self.first_ms is None else f"{self.first_ms:.0f} ms"
        return (
            f"{who}{instead}: {self.reason}; first words {came}, expected {self.expected_ms:.0f} ms; cost {self.cost:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenText(AudioChunk):
    """Speech that was synthesised from `text`, so that its player can report how much of the text was heard.

    `last` closes the reply; it may have neither text nor samples.
    """

    text: str = ""
    last: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Payload):
    """The smallest piece of a sample between sensor and encoder: a frame, an audio chunk, a reading.

    `values`: float32 or uint8, any shape, not empty. `modality`: name of the modality. `index`: its position in the
    sample, from 0. `of`: how many units the sample is expected to have; 0 where unknown. `sensed_ns`: when the sensor
    gave it out, which may be later than its capture time, the packet's; `ends_ns`: when the sample's window closes at
    this sensor, 0 where unknown. `last`: no more follow.
    """

    values: NDArray[Any]
    modality: str
    index: int
    of: int
    sensed_ns: int
    ends_ns: int = 0
    last: bool = False

    def __post_init__(self) -> None:
        _require(
            self.values.dtype in (np.dtype(np.float32), np.dtype(np.uint8)),
            f"a unit's values are {self.values.dtype}, expected float32 or uint8",
        )
        _require(self.values.size > 0, f"a unit has shape {self.values.shape}, expected at least one value")
        _require(self.index >= 0 and self.of >= 0, f"unit {self.index} of {self.of}, expected neither to be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Features(Payload):
    """The encoding of a unit: `vector` [channel] float32, which may hold NaN if the unit was invalid.

    `modality`, `index`, `of`, `sensed_ns`, `ends_ns`, `last`: as of the unit. `setting`: the setting of the encoder, by
    its own name; `cost_ns`: how long it took; `values`: how many values the unit had, 0 where unknown.
    """

    vector: NDArray[np.float32]
    modality: str
    index: int
    of: int
    sensed_ns: int
    ends_ns: int = 0
    last: bool = False
    setting: str = ""
    cost_ns: int = 0
    values: int = 0

    def __post_init__(self) -> None:
        _require(
            self.vector.dtype == np.float32 and self.vector.ndim == 1 and self.vector.size > 0,
            f"features are {self.vector.dtype} of shape {self.vector.shape}, expected float32 [channel]",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Payload):
    """The classification of a sample.

    `scores` [class] float32, probabilities; `label` the index of the highest one and `name` its class;
    `confidence` that score, lowered where a modality was missing. `used`: units used, per modality. `missing`:
    modalities without usable units. `reason`: what triggered it (`complete`, `skipped`, `silent`, `limit`, `ended`).
    `latency_ns`: since the first modality was sensed to its end, None where no end is known. `verifies`: the decision
    on the whole sample, for comparison with an earlier one after a skip.
    """

    name: str
    label: int
    confidence: float
    scores: NDArray[np.float32]
    used: Mapping[str, int]
    reason: str
    missing: tuple[str, ...] = ()
    latency_ns: int | None = None
    verifies: bool = False

    def __post_init__(self) -> None:
        _require(
            self.scores.dtype == np.float32 and self.scores.ndim == 1,
            f"scores are {self.scores.dtype} of shape {self.scores.shape}, expected float32 [class]",
        )
        _require(0 <= self.label < len(self.scores), f"label {self.label} of {len(self.scores)} classes")
        _require(0 <= self.confidence <= 1, f"confidence is {self.confidence}, expected 0…1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered(Payload):
    """A payload on its way through one of several replicas of a stage, or a mark; see `pipeline.cluster.replicas`.

    `index`: number of the packet before the replicas, from 0. `item`: its position among the outputs for that packet;
    −1 in a mark that nothing below `index` will follow. `payload`: None in a mark. `stream`, `seq`: those of the packet
    before the replicas.
    """

    index: int
    item: int = 0
    payload: Payload | None = None
    stream: str = ""
    seq: int = 0
