"""Pipecat's side of `bench freshness`; runs with Pipecat's own Python, needs nothing of ours."""

import asyncio
import importlib.metadata
import json
import sys
import time

from loguru import logger
from pipecat.frames.frames import EndFrame, OutputImageRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.processors.frame_processor import FrameProcessor


class PassOn(FrameProcessor):
    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class SlowConsumer(FrameProcessor):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.ages_ns = []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            self.ages_ns.append(time.monotonic_ns() - frame.pts)
            await asyncio.sleep(self.seconds)
        await self.push_frame(frame, direction)


async def main():
    frames, fps, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    logger.remove()
    consumer = SlowConsumer(seconds)
    first = PassOn()
    task = PipelineTask(Pipeline([first, consumer]), enable_turn_tracking=False, enable_rtvi=False)
    runner = PipelineRunner(handle_sigint=False)
    started = asyncio.create_task(runner.run(task))
    await asyncio.sleep(0.3)
    picture = bytes(640 * 480 * 3)
    start = time.monotonic()
    for i in range(frames):
        await asyncio.sleep(max(0.0, start + i / fps - time.monotonic()))
        frame = OutputImageRawFrame(image=picture, size=(640, 480), format="RGB")
        frame.pts = time.monotonic_ns()
        await first.push_frame(frame)
    deadline = time.monotonic() + 1 + frames * seconds
    while len(consumer.ages_ns) < frames and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    await task.queue_frame(EndFrame())
    await started
    print(json.dumps({"version": importlib.metadata.version("pipecat-ai"), "ages_ns": consumer.ages_ns}))


asyncio.run(main())
