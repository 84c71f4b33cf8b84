"""One name for the recogniser, as a model is named: which stage does the work follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import Field

from thalweg.models.errors import ModelError
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Speech, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.speech.pocketsphinx import PocketSphinx
from thalweg.stages.speech.whisper import Whisper

SMALL = "pocketsphinx"


class Recognise:
    """Recognises speech with a Whisper model (`speech.whisper`) or `pocketsphinx`, chosen by name.

    With this stage a pipeline file leaves the choice to `--set`; further parameters exist only on the two stages
    themselves. PocketSphinx runs in a process of its own here; another language than English, or phrases, raise
    ModelError for it.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}
    configurable = ("language",)
    blocking = True

    def __init__(
        self,
        model: Annotated[
            str,
            Field(
                description="whisper-base; whisper-tiny.en, for half the work; a folder with another Whisper; "
                "pocketsphinx, for a machine too small for these"
            ),
        ] = "whisper-base",
        language: Annotated[str, Field(description="language code; auto: detected once per turn")] = "en",
        phrases: Annotated[tuple[str, ...], Field(description="names and terms that may come up")] = (),
    ) -> None:
        self._stage: PocketSphinx | Whisper
        if model != SMALL:
            self._stage = Whisper(model, language=language, phrases=phrases)
            return
        _check_small(language, phrases)
        self._stage = PocketSphinx(apart=True)

    @staticmethod
    def may_become(arguments: Mapping[str, Any]) -> Mapping[str, Collection[str]]:
        """Any language with a Whisper; whether that knows it is seen once it is loaded."""
        return {"language": ("en",)} if arguments.get("model") == SMALL else {}

    def configure(self, settings: dict[str, Any]) -> None:
        """Hear another language from the next turn on. Raises ModelError where the model does not know it."""
        if isinstance(self._stage, Whisper):
            self._stage.configure(settings)
        else:
            _check_small(settings.get("language", "en"), ())

    def open(self, ctx: Context) -> None:
        """Load the model, fetching it where needed."""
        self._stage.open(ctx)

    def close(self) -> None:
        """Free it."""
        self._stage.close()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Take a piece of speech."""
        self._stage.process(packet, ctx)

    def snapshot(self) -> dict[str, Any] | None:
        """As the stage that does the work."""
        return self._stage.snapshot()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._stage.restore(state)


def _check_small(language: str, phrases: tuple[str, ...]) -> None:
    if language != "en" or phrases:
        asked = f"language {language!r}" if language != "en" else "phrases"
        raise ModelError(f"{SMALL} knows English only and takes no phrases, {asked} asked for: take whisper-base")
