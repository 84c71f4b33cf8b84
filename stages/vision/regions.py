"""Which part of the picture matters for what is being said. Runs beside the frame path, never in it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from thalweg.models.errors import ModelError
from thalweg.models.language.minilm import SentenceModel, shared
from thalweg.models.store.sharing import Share
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Detections, Regions, Transcript, VideoFrame
from thalweg.pipeline.signal import Direction, Region
from thalweg.pipeline.stage import Context, Port
from thalweg.pipeline.video.intent import DESCRIPTIONS, Kind, by_meaning, by_rules
from thalweg.stages.vision.pixels import as_rgb
from thalweg.stages.vision.relevance import Clip, Feedback, Intent, Nothing, Oracle, Relevance, Understand


class RegionsThatMatter:
    """Derives weighted regions for the encoder from the question, as far as it is spoken, and the current frame.

    Connect its frames by a `latest` channel, so that it sees the newest frame and never blocks the producer. `seen`
    takes the viewer's detections, for the policy `feedback`. With `signal` regions are also signalled upstream, to an
    encoder on the other side of a connection.
    """

    inputs = {
        "frame": VideoFrame,
        "transcript": Port(Transcript, required=False),
        "seen": Port(Detections, required=False),
    }
    outputs = {"regions": Regions}
    blocking = True
    configurable = ("question",)

    def __init__(
        self,
        policy: Annotated[
            Literal["none", "oracle", "intent", "feedback", "clip"], Field(description="how the regions are chosen")
        ] = "intent",
        question: Annotated[str, Field(description="the question before the first spoken one")] = "",
        understand: Annotated[
            Literal["meaning", "rules"],
            Field(description="interpret words by a sentence model, downloaded at first use, or by key words"),
        ] = "meaning",
        every: Annotated[Duration, Field(description="shortest time between two runs of a slow detector")] = 500 * MS,
        half_life: Annotated[Duration, Field(description="time in which the strength of a region halves")] = 2_000 * MS,
        oracle: Annotated[Path | None, Field(description="file of known regions, for the policy oracle")] = None,
        clip: Annotated[
            Path | None, Field(description="folder with a CLIP-family model in ONNX, for the policy clip")
        ] = None,
        signal: Annotated[bool, Field(description="signal regions upstream, too")] = False,
    ) -> None:
        if policy == "oracle" and oracle is None:
            raise ThalwegError("the policy oracle needs `oracle`, the file with the regions")
        if policy == "clip" and clip is None:
            raise ThalwegError("the policy clip needs `clip`, the folder with the model")
        self._policy = policy
        self._clip = clip
        self._question = question
        self._understand = understand
        self._every_ns = every
        self._half_life_ns = half_life
        self._oracle = oracle
        self._signal = signal
        self._model: Relevance = Nothing()
        self._spoke = False
        self._sentences: Share[SentenceModel] | None = None

    def open(self, ctx: Context) -> None:
        """Load what the policy needs."""
        if self._policy == "oracle":
            assert self._oracle is not None
            self._model = Oracle(self._oracle)
        elif self._policy == "clip":
            assert self._clip is not None
            self._model = Clip(self._clip, every_ns=self._every_ns)
        elif self._policy == "feedback":
            self._model = Feedback()
        elif self._policy == "intent":
            understand = by_rules if self._understand == "rules" else self._meaning(ctx)
            self._model = Intent(understand, every_ns=self._every_ns, missing=ctx.report)
        if self._question:
            self._model.hear(self._question)

    def close(self) -> None:
        """Release the sentence model. It is freed with its last user."""
        if self._sentences is not None:
            self._sentences.release()

    def configure(self, settings: dict[str, Any]) -> None:
        """Another question."""
        self._model.hear(settings["question"])

    def process(self, packet: Packet, ctx: Context) -> None:
        """Listen to words and answers; decide about a frame."""
        payload = packet.payload
        if isinstance(payload, Transcript):
            self._model.hear(payload.text)
        elif isinstance(payload, Detections):
            self._model.see(payload.items, packet.time)
        elif isinstance(payload, VideoFrame):
            found = self._model.boxes(as_rgb(payload), packet.time)
            if found is None and self._policy == "intent" and not self._spoke:
                found = (), 0.0
            if found is not None:
                self._spoke = True
                boxes, confidence = found
                ctx.emit(Regions(boxes=boxes, confidence=confidence, half_life_ns=self._half_life_ns))
                if self._signal:
                    ctx.signal(Region(origin=ctx.name, time=packet.time, boxes=boxes), Direction.UP)

    def _meaning(self, ctx: Context) -> Understand:
        """By the sentence model, and by rules where that is unsure or, which is reported, cannot be had.

        Words that were understood before cost nothing: partial transcripts repeat themselves.
        """
        try:
            self._sentences = shared()
        except ModelError as error:
            ctx.report(f"words are understood by rules only: {error}")
            return by_rules
        model = self._sentences.value
        described = [(kind, model.embed(text)) for kind, texts in DESCRIPTIONS.items() for text in texts]

        @lru_cache(maxsize=64)
        def understand(words: str) -> dict[Kind, float]:
            rules = by_rules(words)
            if Kind.COLOUR in rules:
                return rules
            return by_meaning(model.embed(words), described) or rules

        return understand
