"""An hour of speech into a file, beside faster-whisper's batched pipeline with the same weights: `bench long`.

Ten recordings of people (Debian's `pocketsphinx-testdata`), over and over in changing order, half a second to two
seconds of a quiet room between them. `thalweg transcribe` runs in a process of its own, as people call it; its seconds
hold starting and loading, those of faster-whisper its transcribing alone. Both have int8 weights and as many threads
as there are processors; `greedy` compares like with like, `beam of 5` is faster-whisper's default. `growth`: of
resident memory, between a tenth of the time that begins at a fifth of it and the last tenth but one.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result
from thalweg.deploy.bench.speech.wer_sets import RATE, people
from thalweg.deploy.bench.speech.wer_text import words
from thalweg.models.recipes.asr.measure import word_errors
from thalweg.models.speech.wav import write_wav
from thalweg.models.speech.whisper.model import find_whisper

SECONDS = 3_600
PEER = "pipecat-voice"
SCRIPT = "speech/programs/faster_whisper_texts.py"
MODEL = "whisper-base"
BATCH = 8
LIMIT_S = 3_600.0
_QUICK_S = 120
_HUM = 3e-4  # of full scale


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows. Raises BenchError where there are no recordings of speech."""
    seconds = _QUICK_S if quick else SECONDS
    result.rounds.expect(3)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "long.wav"
        said, lasts_s = _spoken(recording, seconds)
        case = f"{lasts_s / 60:.0f} minutes"
        ours = result.rounds.ours(case, lambda: _transcribed(recording), LIMIT_S)
        _add(result, case, OURS, ours, said)
        for beam, system in ((1, "faster-whisper, greedy"), (5, "faster-whisper, beam of 5")):
            task = {"recordings": [str(recording)], "batch": BATCH, "beam": beam}
            found = ask_faster_whisper(result, MODEL, task, system, case)
            if found is not None:
                _add(result, case, system, found, said)


def ask_faster_whisper(result: Result, model: str, task: dict[str, Any], system: str, what: str) -> Any:
    """What it prints for a task (see its script); None, and a note, where it is left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        about = {"model": str(find_whisper(model)), "threads": os.cpu_count() or 1} | task
        path.write_text(json.dumps(about), encoding="utf-8")
        return run_peer(PEER, SCRIPT, [str(path)], result, system=system, what=what, limit_s=LIMIT_S)


def _spoken(path: Path, seconds: int) -> tuple[str, float]:
    """Write the recording. Returns what is said in it, and its length."""
    utterances = people()
    if not utterances:
        raise BenchError("bench long has no recorded speech: apt-get install pocketsphinx-testdata")
    chosen, rng = random.Random("bench long"), np.random.default_rng(0)
    parts, said, count = [], [], 0
    while count < seconds * RATE:
        for each in chosen.sample(utterances, len(utterances)):
            quiet = (_HUM * rng.standard_normal(round(chosen.uniform(0.5, 2.0) * RATE))).astype(np.float32)
            parts += [each.audio, quiet]
            said.append(each.said)
            count += len(each.audio) + len(quiet)
    write_wav(path, np.concatenate(parts), RATE)
    return " ".join(said), count / RATE


def _transcribed(recording: Path) -> dict[str, Any]:
    target = recording.with_suffix(".txt")
    command = [sys.executable, "-P", "-m", "thalweg.deploy", "transcribe", str(recording), "--to", str(target)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    memory: list[float] = []
    try:
        while process.poll() is None:
            memory += _resident_mb(process.pid)
            time.sleep(1.0)
        seconds = time.monotonic() - began
    finally:
        process.kill()
        _, errors = process.communicate()
    if process.returncode:
        raise BenchError(f"thalweg transcribe failed: {errors.decode(errors='replace')[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = target.read_text(encoding="utf-8")
    return {"texts": [text], "seconds": seconds, "processor_s": spent, "memory_mb": memory}


def _resident_mb(process: int) -> list[float]:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):  # it is just ending
        return []
    return [pages * os.sysconf("SC_PAGE_SIZE") / 1e6]


def _add(result: Result, case: str, system: str, found: dict[str, Any], said: str) -> None:
    result.add(case, system, 1, "s", wall=found["seconds"], processor=found["processor_s"])
    memory: Sequence[float] = found["memory_mb"]
    if memory:
        tenth = max(1, len(memory) // 10)
        growth = median(memory[-2 * tenth : -tenth] or memory) - median(memory[len(memory) // 5 :][:tenth])
        result.add(f"{case}: memory", system, len(memory), "MB", most=max(memory), growth=growth)
    wrong, count = word_errors(" ".join(words(said)), " ".join(words(" ".join(found["texts"]))))
    result.add(f"{case}: words", system, count, "%", wrong=100 * wrong / max(1, count))
