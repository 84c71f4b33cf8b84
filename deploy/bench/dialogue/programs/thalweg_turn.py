"""Our side of `bench turn --peer pipecat`, in a process of its own as the other one is; see `pipecat_turn.py`."""

import asyncio
import json
import resource
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thalweg
from thalweg import AudioChunk, Context, Interrupt, Packet, Port, Signal, Transcript

STEP_S = 0.02


class Microphone:
    """A recording as a microphone would give it."""

    outputs = {"audio": AudioChunk}

    def __init__(self, samples: NDArray[np.float32], rate: int) -> None:
        self.samples, self.rate = samples, rate
        self.started_ns = 0

    async def run(self, ctx: Context) -> None:
        """Give 20 ms every 20 ms."""
        step = round(STEP_S * self.rate)
        self.started_ns = time.monotonic_ns()
        for number, at in enumerate(range(0, len(self.samples), step)):
            due = self.started_ns + (number + 1) * round(STEP_S * 1e9)
            await asyncio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            await ctx.send(AudioChunk(samples=self.samples[at : at + step], rate=self.rate), time=ctx.now_ns())


class Loudspeaker:
    """Takes sound no faster than it can be played, and forgets it where it is interrupted."""

    inputs = {"audio": Port(AudioChunk)}

    def __init__(self, audible: float) -> None:
        self.audible = audible
        self.heard: list[int] = []
        self.free_ns = 0
        self._stopped = asyncio.Event()

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """What is not played yet will not be."""
        if isinstance(signal, Interrupt):
            self.free_ns = 0
            self._stopped.set()

    async def process(self, packet: Packet[AudioChunk], ctx: Context) -> None:
        """Play it, 20 ms at a time, some 40 ms ahead."""
        sound = packet.payload
        step = sound.rate // 50
        self._stopped.clear()
        for at in range(0, len(sound.samples), step):
            now_ns = time.monotonic_ns()
            if np.abs(sound.samples[at : at + step]).max(initial=0) > self.audible:
                self.heard.append(now_ns)
            self.free_ns = max(self.free_ns, now_ns) + round(STEP_S * 1e9)
            wait_s = (self.free_ns - now_ns) / 1e9 - 0.04
            if wait_s > 0:
                try:
                    await asyncio.wait_for(self._stopped.wait(), wait_s)
                except TimeoutError:
                    continue
            if self._stopped.is_set():
                return


class Words:
    """Notes what was heard."""

    inputs = {"transcript": Port(Transcript)}

    def __init__(self) -> None:
        self.heard: list[tuple[int, str]] = []

    def process(self, packet: Packet[Transcript], ctx: Context) -> None:
        """Note a final text."""
        if packet.payload.final:
            self.heard.append((time.monotonic_ns(), packet.payload.text))


async def main(told: dict[str, Any]) -> None:
    """Hear, answer, and say what was measured."""
    with wave.open(told["recording"]) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / np.float32(32768)
    microphone, loudspeaker, words = Microphone(samples, rate), Loudspeaker(told["audible"]), Words()
    pipeline = thalweg.Pipeline("turn")
    pipeline.add("microphone", microphone)
    pipeline.add("vad", "speech.vad", end_of_turn="understood", silence="500ms")
    pipeline.add("recogniser", "speech.recognise", model=told["recogniser"])
    pipeline.add(
        "chat",
        "language.chat",
        url=told["url"],
        api_key_env=told["key_env"],
        model=told["model"],
        system=told["system"],
        max_tokens=told["max_tokens"],
        prefill=True,
        draft=True,
    )
    pipeline.add("sentences", "speech.sentences")
    pipeline.add("voice", "speech.piper")
    pipeline.add("loudspeaker", loudspeaker)
    pipeline.add("words", words)
    pipeline.connect("microphone", "vad", "recogniser", "chat", "sentences", "voice", "loudspeaker")
    pipeline.connect("chat.draft", "sentences.draft")
    pipeline.connect("sentences.draft", "voice.draft", policy="latest")
    pipeline.connect("recogniser", "words")
    async with asyncio.timeout(told["lasts_s"] + 120):
        async with pipeline.run() as run:
            await run.finish()
    spent = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "version": thalweg.__version__,
        "started_ns": microphone.started_ns,
        "heard_ns": loudspeaker.heard,
        "words": words.heard,
        "processor_s": spent.ru_utime + spent.ru_stime,
        "memory_kb": spent.ru_maxrss,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
