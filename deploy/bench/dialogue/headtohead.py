"""The same conversation by us and by Pipecat, with the same parts: `bench turn --peer pipecat`.

Twenty questions in synthetic speech, six seconds apart, are heard by each system at the pace of a microphone, in a
process of its own, and its answers are played at the pace of a loudspeaker; a question that comes while an answer is
played interrupts it. Both have the same weights: Silero and Smart Turn, Whisper base in int8, Qwen2.5-Coder-0.5B behind
one llama.cpp server in this process, Piper's voice. What differs is the framework: what is done when, and how often.

Then come `LONG` ones, whose answers are still played when the next one begins. `interrupt` is from there to the last
audible sample of the answer that is played then; the end of the question at most. What follows is of the first twenty.

`first_audio` is from the last audible sample of a question to the first audible sample that is played after it and
before the next question; `missed`, questions without one; `too_soon`, questions at whose end an answer was already
played, which are in neither. `words_wrong`: of the questions' words, those misheard; the texts of one question are put
together. Processor time and memory are of the system's own process, `model_processor` is what the shared language-model
server spent meanwhile; all of the whole conversation. Rounds are interleaved.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.dialogue.turn import PAUSE_S, QUESTIONS
from thalweg.deploy.bench.dialogue.webrtc import Speaker
from thalweg.deploy.bench.peers import run_peer
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.speech.wer_text import words
from thalweg.models import ModelStore
from thalweg.models.language.llama import LlamaServer
from thalweg.models.recipes.asr.measure import word_errors
from thalweg.models.speech.wav import write_wav
from thalweg.transports.webrtc.client import AUDIBLE

CASE = "head to head"
ROUNDS = 2
PEER = "pipecat"
MODEL = "qwen2.5-coder-0.5b-instruct"
RECOGNISER = "whisper-base"
VOICE = "piper-en-us-joe"
SYSTEM = "You are a helpful voice assistant. Answer in one or two short, plain sentences."
LONG = (
    "Tell me a long story about a bear.",
    "Tell me all you know about the sea.",
    "Explain in many words how an engine works.",
    "Describe a day in the life of a farmer.",
    "Tell me a long story about a ship.",
    "Explain in many words how bread is made.",
    "Describe the four seasons of the year.",
    "Tell me all you know about horses.",
    "Thank you, that is enough.",
)
MAX_TOKENS = 96
KEY = "BENCH_API_KEY"
RATE = 16_000
SOON_NS = 200_000_000
LEAD_S = 2.0
"""Silence before the first question: everything is loaded and connected when it begins."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the recording: when its voice begins and ends, and until when it may be answered, s. `counts`: not
    only there to interrupt and be interrupted.
    """

    text: str
    begin_s: float
    end_s: float
    until_s: float
    counts: bool = True


@dataclass(slots=True)
class SystemMeasured:
    """Of one system, over its rounds. Milliseconds, seconds, MB."""

    first_audio: list[float] = field(default_factory=list)
    interrupt: list[float] = field(default_factory=list)
    missed: int = 0
    too_soon: int = 0
    wrong: int = 0
    words: int = 0
    processor: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def measure(result: Result, quick: bool) -> None:
    """Fill in the rows."""
    questions, rounds = (QUESTIONS[:3], 1) if quick else (QUESTIONS, ROUNDS)
    long = LONG[-3:] if quick else LONG
    found = {OURS: SystemMeasured(), PEER: SystemMeasured()}
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "questions.wav"
        samples, asked = spoken(questions, long)
        write_wav(recording, samples, RATE)
        server = LlamaServer(ModelStore().path(MODEL))
        try:
            told = _told(recording, len(samples) / RATE, server)
            result.rounds.expect(2 * rounds)
            for number in range(rounds):
                for system in found if number % 2 == 0 else reversed(found):
                    _round(result, system, told, found[system], asked, f"round {number + 1} of {rounds}")
        finally:
            server.close()
    for system, heard in found.items():
        if heard.words:
            _add(result, system, heard)


def spoken(questions: tuple[str, ...], long: tuple[str, ...]) -> tuple[NDArray[np.float32], list[Asked]]:
    """The questions, and those with long answers, as one recording of 16 kHz."""
    speaker = Speaker(RATE)
    parts: list[NDArray[np.float32]] = [np.zeros(round(LEAD_S * RATE), np.float32)]
    asked, at_s = [], LEAD_S
    for number, question in enumerate(questions + long):
        samples = speaker.say(question)
        end_s = at_s + len(samples) / RATE
        asked.append(Asked(question, at_s, end_s, end_s + PAUSE_S, number < len(questions)))
        parts += [samples, np.zeros(round(PAUSE_S * RATE), np.float32)]
        at_s = end_s + PAUSE_S
    return np.concatenate(parts), asked


def judge(heard: SystemMeasured, asked: list[Asked], found: dict[str, Any]) -> None:
    """Add what a system has printed: when it began, when it was heard, and what it heard."""
    for each in asked:
        first, asked_ns, over = (found["started_ns"] + round(1e9 * s) for s in (each.begin_s, each.end_s, each.until_s))
        if any(first - SOON_NS <= at < first for at in found["heard_ns"]):
            last = max((at for at in found["heard_ns"] if first <= at < asked_ns), default=first)
            heard.interrupt.append((last - first) / 1e6)
        if not each.counts:
            continue
        answered = next((at for at in found["heard_ns"] if asked_ns <= at < over), None)
        if any(asked_ns - SOON_NS <= at < asked_ns for at in found["heard_ns"]):
            heard.too_soon += 1
        elif answered is None:
            heard.missed += 1
        else:
            heard.first_audio.append((answered - asked_ns) / 1e6)
        text = " ".join(said for at, said in found["words"] if first <= at < over)
        wrong, count = word_errors(" ".join(words(each.text)), " ".join(words(text)))
        heard.wrong += wrong
        heard.words += count


def _told(recording: Path, lasts_s: float, server: LlamaServer) -> dict[str, Any]:
    store = ModelStore()
    voice, _ = store.pull(VOICE)
    return {
        "recording": str(recording),
        "lasts_s": lasts_s,
        "audible": AUDIBLE,
        "url": server.url,
        "key": server.key,
        "key_env": KEY,
        "model": MODEL,
        "recogniser": RECOGNISER,
        "whisper": str(store.path(RECOGNISER).parent),
        "voices": str(voice.parent),
        "voice": voice.stem,
        "out_rate": 22_050,
        "system": SYSTEM,
        "max_tokens": MAX_TOKENS,
    }


def _round(
    result: Result, system: str, told: dict[str, Any], heard: SystemMeasured, asked: list[Asked], what: str
) -> None:
    path = Path(told["recording"]).with_name("told.json")
    path.touch(0o600)  # it holds the key of the server
    path.write_text(json.dumps(told), encoding="utf-8")
    limit_s = told["lasts_s"] + 240
    before = _processor_s()
    if system == OURS:
        found = result.rounds.ours(what, lambda: _ours(path, told["key"]), limit_s)
    else:
        program = "dialogue/programs/pipecat_turn.py"
        found = run_peer("pipecat-voice", program, [str(path)], result, system=system, what=what, limit_s=limit_s)
    if found is not None:
        heard.model.append(_processor_s() - before)
        heard.processor.append(found["processor_s"])
        heard.memory.append(found["memory_kb"] / 1024)
        judge(heard, asked, found)


def _ours(path: Path, key: str) -> Any:  # Any: what the program prints
    env = os.environ | {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each), KEY: key}
    with as_file(files("thalweg.deploy.bench").joinpath("dialogue/programs/thalweg_turn.py")) as program:
        command = [sys.executable, str(program), str(path)]
        done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", errors="replace")
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        raise BenchError(f"our own program failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    return json.loads(said[-1])


def _processor_s() -> float:
    """What this process has spent: the language-model server, while the others hear and speak."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def _add(result: Result, system: str, heard: SystemMeasured) -> None:
    n = len(heard.first_audio)
    if n:
        times = {f"first_audio_p{round(100 * q)}": quantile(heard.first_audio, q) for q in (0.5, 0.95)}
        result.add(CASE, system, n, "ms", **times)
    if heard.interrupt:
        times = {f"interrupt_p{round(100 * q)}": quantile(heard.interrupt, q) for q in (0.5, 0.95)}
        result.add(CASE, system, len(heard.interrupt), "ms", **times)
    asked = n + heard.missed + heard.too_soon
    result.add(CASE, system, asked, "questions", missed=heard.missed, too_soon=heard.too_soon)
    result.add(CASE, system, heard.words, "%", words_wrong=100 * heard.wrong / heard.words)
    rounds = len(heard.processor)
    result.add(
        CASE,
        system,
        rounds,
        "s",
        processor=float(np.mean(heard.processor)),
        model_processor=float(np.mean(heard.model)),
    )
    result.add(CASE, system, rounds, "MB", memory=max(heard.memory))
