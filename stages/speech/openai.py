"""Recognition by a server, for those who have one with a GPU."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from thalweg.models.language.registry import address
from thalweg.models.speech.transcription import RATE, TranscriptionServer
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Speech, SpeechEvent, Transcript
from thalweg.pipeline.stage import Context
from thalweg.stages.speech.transcripts import require_mono


class OpenAITranscription:
    """Recognises speech with any server of OpenAI's `/v1/audio/transcriptions` API, turn by turn.

    A turn is sent when it is over, so the latency of its text is that of the server. With `stream` the text is shown as
    it is generated, if the server supports that. The stage fails the turn, and only that, if the server refuses, is
    unreachable or breaks off; it retries once if the server is unreachable or busy. An interrupt closes the connection.
    """

    inputs = {"speech": Speech}
    outputs = {"transcript": Transcript}

    def __init__(
        self,
        url: Annotated[
            str, AfterValidator(address), Field(min_length=1, description="base address of the server, …/v1")
        ],
        model: Annotated[str, Field(description="its name there")] = "whisper-1",
        language: Annotated[str, Field(description="language code; auto: detected by the server")] = "en",
        phrases: Annotated[tuple[str, ...], Field(description="names and terms that may come up")] = (),
        stream: Annotated[bool, Field(description="request the text while it is generated")] = False,
        api_key_env: Annotated[
            str | None,
            Field(
                description="environment variable that holds the key for `url`; if left out: OPENAI_API_KEY, for "
                "OpenAI, this machine and where THALWEG_KEYS says (docs/security.md)"
            ),
        ] = None,
        timeout: Annotated[Duration, Field(description="timeout for an answer and for each piece of it")] = 20_000 * MS,
    ) -> None:
        self._server = TranscriptionServer(url, key_env=api_key_env, timeout_s=timeout / 1e9)
        self._fields = {"model": model, "response_format": "json", "temperature": "0"}
        self._language = "" if language == "auto" else language
        if self._language:
            self._fields["language"] = self._language
        if phrases:
            self._fields["prompt"] = ", ".join(phrases)
        if stream:
            self._fields["stream"] = "true"
        self._epoch = AMBIENT
        self._pieces: list[NDArray[np.float32]] = []

    async def open(self, ctx: Context) -> None:
        """Check address, key and proxy; nothing is asked before the first turn. Raises ModelError."""
        await self._server.open()

    async def close(self) -> None:
        """Hang up."""
        await self._server.close()

    async def process(self, packet: Packet, ctx: Context) -> None:
        """Keep a piece of speech; ask for all of it behind the last one."""
        speech = packet.payload
        assert isinstance(speech, Speech)
        require_mono(speech.audio, RATE)
        if packet.epoch != self._epoch:
            self._epoch, self._pieces = packet.epoch, []
        self._pieces.append(speech.audio.samples)
        if speech.event is not SpeechEvent.END:
            return
        samples, self._pieces, self._epoch = np.concatenate(self._pieces), [], AMBIENT
        text, shown = "", ""
        async for text in self._server.transcribe(samples, self._fields):
            text = text.strip()
            if shown and text != shown:
                ctx.emit(Transcript(text=shown, final=False, stable_chars=0, language=self._language))
            shown = text
        ctx.emit(
            Transcript(
                text=text,
                final=True,
                stable_chars=len(text),
                speech_end_ns=speech.speech_end_ns,
                language=self._language,
            )
        )

    def snapshot(self) -> dict[str, Any]:
        """What has come of the turn in hand."""
        return {"epoch": self._epoch, "samples": np.concatenate([np.zeros(0, np.float32), *self._pieces])}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._epoch, self._pieces = state["epoch"], [np.asarray(state["samples"], np.float32)]
