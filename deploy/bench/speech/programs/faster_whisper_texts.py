"""faster-whisper's side of `bench wer` and `bench long`; runs with its own Python, needs nothing of ours.

Argument: a file of JSON: `model` (folder of CTranslate2), `recordings` (WAV files), `batch` (0: its plain `transcribe`,
with 30 s of context), `beam`, `threads`. Prints one line of JSON: `texts`, `seconds` and `processor_s` of transcribing
alone, `memory_mb` every second of it.
"""

import importlib.metadata
import json
import os
import sys
import threading
import time
from pathlib import Path

from faster_whisper import BatchedInferencePipeline, WhisperModel


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def transcribe(model, task, recording):
    if task["batch"]:
        segments, _ = BatchedInferencePipeline(model).transcribe(
            recording, batch_size=task["batch"], language="en", beam_size=task["beam"]
        )
    else:
        segments, _ = model.transcribe(recording, language="en", beam_size=task["beam"])
    return " ".join(segment.text.strip() for segment in segments)


def main(path):
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    model = WhisperModel(task["model"], device="cpu", compute_type="int8", cpu_threads=task["threads"])
    memory, done = [], threading.Event()

    def watch():
        while not done.wait(1.0):
            memory.append(resident_mb())

    watching = threading.Thread(target=watch)
    watching.start()
    began, began_cpu = time.monotonic(), time.process_time()
    try:
        texts = [transcribe(model, task, recording) for recording in task["recordings"]]
    finally:
        done.set()
        watching.join()
    seconds, processor = time.monotonic() - began, time.process_time() - began_cpu
    version = importlib.metadata.version("faster-whisper")
    print(
        json.dumps(
            {"version": version, "texts": texts, "seconds": seconds, "processor_s": processor, "memory_mb": memory}
        )
    )


main(sys.argv[1])
