"""Pipecat's side of `bench inprocess`; runs with Pipecat's own Python, needs nothing of ours.

The same chain: a source processor, `stages` processors that pass a 20 ms audio frame on, a sink. Frames are
data frames of Pipecat's ordinary kind, through its ordinary queues; turn tracking and RTVI are off.
"""

import asyncio
import importlib.metadata
import json
import sys
import time

from loguru import logger
from pipecat.frames.frames import EndFrame, OutputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.processors.frame_processor import FrameProcessor

AUDIO = bytes(640)


class PassOn(FrameProcessor):
    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Sink(FrameProcessor):
    def __init__(self):
        super().__init__()
        self.ages_ns = []
        self.last = 0.0

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputAudioRawFrame):
            self.ages_ns.append(time.monotonic_ns() - frame.pts)
            self.last = time.perf_counter()
        await self.push_frame(frame, direction)


def audio_frame():
    frame = OutputAudioRawFrame(audio=AUDIO, sample_rate=16_000, num_channels=1)
    frame.pts = time.monotonic_ns()
    return frame


async def chain(stages, n, gap_s):
    sink = Sink()
    first = PassOn()
    pipeline = Pipeline([first, *(PassOn() for _ in range(stages)), sink])
    task = PipelineTask(pipeline, enable_turn_tracking=False, enable_rtvi=False)
    runner = PipelineRunner(handle_sigint=False)
    started = asyncio.create_task(runner.run(task))
    await asyncio.sleep(0.3)
    start = time.perf_counter()
    for i in range(n):
        await first.push_frame(audio_frame())
        if gap_s:
            await asyncio.sleep(gap_s)
        elif i % 16 == 15:
            await asyncio.sleep(0)
    while len(sink.ages_ns) < n:
        await asyncio.sleep(0.001)
    seconds = sink.last - start
    await task.queue_frame(EndFrame())
    await started
    return sink.ages_ns, seconds


async def main():
    stages, n, gap_s, flood = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    logger.remove()
    ages_ns, _ = await chain(stages, n, gap_s)
    _, seconds = await chain(stages, flood, 0.0)
    version = importlib.metadata.version("pipecat-ai")
    print(json.dumps({"version": version, "ages_ns": ages_ns, "flood": flood / seconds}))


asyncio.run(main())
