"""Where a pipeline ends: files and the terminal.

`mode` says what becomes of a file that is there already. `replace`: the new one takes its place at the end, whole, or
not at all. `rotate`: the old one is kept beside, with the time in its name, and the new one grows in its place, to be
read at any moment. `append`, of lines: they are added. In `run` the default is `replace`; in a deployment that stays
(`up`, `serve`) `rotate`, so that nothing is ever overwritten there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import wave
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, Detections, Payload, Token, Transcript
from thalweg.pipeline.stage import Context, Port
from thalweg.pipeline.text import as_json, printable
from thalweg.stages.io.aside import Aside
from thalweg.stages.io.terminal import is_terminal, said, say_json
from thalweg.stages.io.whole import GrowingFile, SinkError, WholeFile

_ROTATES: dict[str, object] = {"mode": "rotate"}


class AudioSink:
    """Writes speech to a 16-bit WAV file, in order of arrival.

    With `mode: replace` the file appears once the stream has ended; after a failed write there is none. With `rotate`
    the file grows in place and is a valid WAV file at any moment, and the previous file is kept.
    """

    inputs = {"audio": AudioChunk}
    blocking = True
    keeps = "sound, in a file"
    staying: ClassVar[dict[str, object]] = _ROTATES

    def __init__(
        self,
        path: Annotated[Path, Field(description="the WAV file to write")],
        mode: Annotated[
            Literal["replace", "rotate"], Field(description="what becomes of a file that is there; under `up` rotate")
        ] = "replace",
    ) -> None:
        self._path, self._mode = path, mode
        self._whole: WholeFile | GrowingFile | None = None
        self._wave: wave.Wave_write | None = None
        self._rate = 0

    def open(self, ctx: Context) -> None:
        """Raises SinkError where the file cannot be written."""
        self._whole = WholeFile(self._path) if self._mode == "replace" else GrowingFile(self._path, add=False)

    def process(self, packet: Packet, ctx: Context) -> None:
        """Append a chunk."""
        audio = packet.payload
        assert isinstance(audio, AudioChunk) and self._whole is not None
        if self._wave is None:
            self._start(audio)
        if audio.rate != self._rate:
            raise SinkError(f"{self._path} is written at {self._rate} Hz, got a chunk at {audio.rate} Hz")
        pcm = np.clip(audio.samples * 32767.0, -32768, 32767).astype("<i2")
        writer = self._wave
        assert writer is not None
        write = writer.writeframesraw if self._mode == "replace" else writer.writeframes  # the header with each chunk
        self._whole.attempt(lambda: write(pcm.tobytes()))

    def finish(self, ctx: Context) -> None:
        """Put the file in its place."""
        assert self._whole is not None
        if self._wave is None:
            self._start(AudioChunk(samples=np.zeros(0, np.float32), rate=16_000))
        assert self._wave is not None
        self._whole.attempt(self._wave.close)
        self._whole.keep()

    def close(self) -> None:
        """Remove what was not finished."""
        if self._wave is not None:
            with contextlib.suppress(OSError):
                self._wave.close()
        if self._whole is not None:
            self._whole.discard()

    def _start(self, audio: AudioChunk) -> None:
        assert self._whole is not None
        self._rate = audio.rate
        self._wave = wave.open(self._whole.file, "wb")
        self._wave.setnchannels(1 if audio.samples.ndim == 1 else audio.samples.shape[1])
        self._wave.setsampwidth(2)
        self._wave.setframerate(audio.rate)


class Console:
    """Prints the conversation as it forms: partial transcripts, and the answer token by token.

    In a terminal a partial transcript is rewritten in place; elsewhere each is a line. A terminal that is paused does
    not block the pipeline: packets beyond its buffer are dropped and counted.
    """

    inputs = {
        "transcript": Port(Transcript, required=False),
        "token": Port(Token, required=False),
        "detections": Port(Detections, required=False),
    }
    keeps = "what is said, where it is printed, which may be a log"

    def __init__(self, partials: Annotated[bool, Field(description="print partial transcripts too")] = True) -> None:
        self._partials = partials
        self._tty = is_terminal()
        self._answering: int | None = None  # the turn whose answer the line shows
        self._aside = Aside()

    @property
    def counts(self) -> dict[str, int]:
        """What the terminal did not take in time."""
        return {"not_shown": self._aside.lost} if self._aside.lost else {}

    def close(self) -> None:
        """Wait until everything is printed."""
        self._end_answer()
        self._aside.close()

    def process(self, packet: Packet, ctx: Context) -> None:
        """Print one transcript, token or set of detections."""
        payload = packet.payload
        if isinstance(payload, Token):
            self._token(payload, packet.epoch)
        elif isinstance(payload, Detections):
            seen = " | ".join(item.text or item.kind for item in payload.items) or "nothing"
            self._line(f"  seeing  {seen}  ({payload.confidence:.0%} sure)", overwrite=True)
        elif isinstance(payload, Transcript) and payload.final:
            self._line(f"you       {payload.text}", overwrite=True)
        elif isinstance(payload, Transcript) and self._partials:
            self._line(f"  hearing {payload.text} …", overwrite=True, end="" if self._tty else "\n")

    def _token(self, token: Token, epoch: int) -> None:
        if self._answering != epoch:
            self._end_answer()
        if token.text and self._answering is None:
            self._answering = epoch
            self._say("thalweg   ", end="")
        self._say(token.text, end="")
        if token.last:
            self._end_answer()

    def _end_answer(self) -> None:
        if self._answering is not None:
            self._answering = None
            self._say()

    def _line(self, text: str, overwrite: bool, end: str = "\n") -> None:
        self._end_answer()
        self._say(printable(text), end=end, over=self._tty and overwrite)

    def _say(self, text: str = "", *, end: str = "\n", over: bool = False) -> None:
        self._aside.put(said(text, end=end, over=over))


class JsonLines:
    """Writes one JSON object per packet: its position in the stream and its payload.

    Times count from the start of the run. Of arrays only shape and dtype are written.
    """

    inputs = {"any": Port(Payload, many=True)}
    blocking = True  # who reads standard output may be slow, and a disk may, too
    keeps = "what is said and seen, in a file or where it is printed"

    staying: ClassVar[dict[str, object]] = _ROTATES

    def __init__(
        self,
        path: Annotated[Path | None, Field(description="file to write; default: standard output")] = None,
        mode: Annotated[
            Literal["replace", "append", "rotate"],
            Field(description="what becomes of a file that is there; under `up` rotate"),
        ] = "replace",
    ) -> None:
        self._path, self._mode = path, mode
        self._whole: WholeFile | GrowingFile | None = None
        self._start_ns = 0

    def open(self, ctx: Context) -> None:
        """Raises SinkError where the file cannot be written."""
        self._start_ns = ctx.now_ns()
        if self._path is not None and self._mode == "replace":
            self._whole = WholeFile(self._path)
        elif self._path is not None:
            self._whole = GrowingFile(self._path, add=self._mode == "append")

    def process(self, packet: Packet, ctx: Context) -> None:
        """Write one line."""
        record = {
            "stream": packet.stream,
            "seq": packet.seq,
            "time_ms": (packet.time - self._start_ns) / 1e6,
            "epoch": packet.epoch,
            "type": type(packet.payload).__name__,
            **_plain(packet.payload),
        }
        if self._whole is None:
            say_json(record)
            return
        line = as_json(record)
        file = self._whole.file
        self._whole.attempt(lambda: file.write(line.encode() + b"\n"))

    def finish(self, ctx: Context) -> None:
        """Put the file in its place."""
        if self._whole is not None:
            self._whole.keep()

    def close(self) -> None:
        """Remove what was not finished."""
        if self._whole is not None:
            self._whole.discard()


def _plain(value: Any) -> Any:  # Any: JSON
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
