"""Pipecat's side of `bench turn --peer pipecat`; runs with Pipecat's own Python, needs nothing of ours.

Pipecat's own services, as its quick start puts them together: Silero in the user aggregator, Smart Turn (its default),
faster-whisper, the OpenAI service, Piper. Its transport is one of local sound: the recording is handed in at the pace
of a microphone, 20 ms at a time, and what is to be played is taken at the pace of a loudspeaker.

Argument: a file of JSON, as `headtohead.py` writes it. Prints what it measured as one line of JSON, times in ns of the
monotonic clock.
"""

import asyncio
import importlib.metadata
import json
import resource
import sys
import time
import wave
from pathlib import Path

import numpy as np
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import EndFrame, InputAudioRawFrame, TranscriptionFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.piper.tts import PiperTTSService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

STEP_S = 0.02


class Microphone(BaseInputTransport):
    """A recording as a microphone would give it."""

    def __init__(self, params, samples, rate):
        super().__init__(params)
        self.samples, self.rate = samples, rate
        self.started_ns = None
        self.done = asyncio.Event()
        self.speaking = None

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)
        self.speaking = asyncio.create_task(self.speak())

    async def speak(self):
        step = round(STEP_S * self.rate)
        self.started_ns = time.monotonic_ns()
        for number, at in enumerate(range(0, len(self.samples), step)):
            due = self.started_ns + (number + 1) * round(STEP_S * 1e9)
            await asyncio.sleep(max(0, due - time.monotonic_ns()) / 1e9)
            sound = self.samples[at : at + step].tobytes()
            await self.push_audio_frame(InputAudioRawFrame(audio=sound, sample_rate=self.rate, num_channels=1))
        self.done.set()


class Loudspeaker(BaseOutputTransport):
    """Takes sound no faster than it can be played. `heard`: when audible sound was taken, ns."""

    def __init__(self, params, audible):
        super().__init__(params)
        self.audible = audible
        self.heard = []
        self.free_at = 0.0

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame):
        now = time.monotonic()
        samples = np.frombuffer(frame.audio, np.int16)
        if np.abs(samples.astype(np.int32)).max(initial=0) > self.audible * 32767:
            self.heard.append(time.monotonic_ns())
        self.free_at = max(self.free_at, now) + len(samples) / frame.sample_rate
        await asyncio.sleep(max(0.0, self.free_at - now - 0.04))  # a device holds some 40 ms
        return True


class Words(FrameProcessor):
    """Notes what was heard, and passes everything on."""

    def __init__(self):
        super().__init__()
        self.heard = []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            self.heard.append([time.monotonic_ns(), frame.text])
        await self.push_frame(frame, direction)


async def main():
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    logger.remove()
    with wave.open(told["recording"]) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    params = TransportParams(
        audio_in_enabled=True, audio_in_sample_rate=rate, audio_out_enabled=True, audio_out_sample_rate=told["out_rate"]
    )
    microphone, loudspeaker, words = Microphone(params, samples, rate), Loudspeaker(params, told["audible"]), Words()
    hears = WhisperSTTService(
        device="cpu", compute_type="int8", settings=WhisperSTTService.Settings(model=told["whisper"], language="en")
    )
    thinks = OpenAILLMService(
        api_key=told["key"],
        base_url=told["url"],
        settings=OpenAILLMService.Settings(model=told["model"], temperature=0.0, max_tokens=told["max_tokens"]),
    )
    speaks = PiperTTSService(download_dir=Path(told["voices"]), settings=PiperTTSService.Settings(voice=told["voice"]))
    context = LLMContext([{"role": "system", "content": told["system"]}])
    pair = LLMContextAggregatorPair(context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()))
    pipeline = Pipeline([microphone, hears, words, pair.user(), thinks, speaks, loudspeaker, pair.assistant()])
    task = PipelineTask(
        pipeline, params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=told["out_rate"])
    )
    running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
    await asyncio.wait_for(microphone.done.wait(), told["lasts_s"] + 120)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "version": importlib.metadata.version("pipecat-ai"),
        "started_ns": microphone.started_ns,
        "heard_ns": loudspeaker.heard,
        "words": words.heard,
        "processor_s": spent.ru_utime + spent.ru_stime,
        "memory_kb": spent.ru_maxrss,
    }
    await task.queue_frame(EndFrame())
    await asyncio.wait([running], timeout=10)
    print(json.dumps(found))


asyncio.run(main())
