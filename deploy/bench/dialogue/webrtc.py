"""A conversation over WebRTC, measured at the client: `bench turn --webrtc`.

A server in a process of its own, clients in this one, on the network interface of this machine. Questions are spoken by
the demo's own voice (synthetic speech). A client's clock starts when the last audible sample of its question was sent
and stops when the first audible sample of the answer has arrived and is decoded; a browser adds its own buffer to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.dialogue.turn import ENDS, QUESTIONS, SILENCE_MS, ways
from thalweg.deploy.bench.ports import free_port
from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.rounds import LIMIT_S
from thalweg.deploy.commands.talk import Ear
from thalweg.models import ModelStore
from thalweg.models.speech.piper import PiperVoice
from thalweg.transports.webrtc.client import AUDIBLE, Talker, TalkError
from thalweg.transports.webrtc.send import RATE

INTERRUPTION = "Wait, stop it please."
READY_S = 60.0


@dataclass(slots=True)
class Turns:
    """What clients measured, milliseconds; `shares` by the part of the way."""

    first_audio: list[float] = field(default_factory=list)
    interrupt: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    missed: int = 0


class Speaker:
    """Questions as sound at `rate` Hz, made once."""

    def __init__(self, rate: int = RATE) -> None:
        self._rate = rate
        model, config = ModelStore().pull("piper-en-us-joe")
        self._voice = PiperVoice(model, config)
        self._made: dict[str, NDArray[np.float32]] = {}

    def say(self, text: str) -> NDArray[np.float32]:
        """[time] float32, from the first audible sample to the last."""
        if text not in self._made:
            spoken = self._voice.speak(text)
            at = np.arange(round(len(spoken) * self._rate / self._voice.rate)) * self._voice.rate / self._rate
            samples = np.interp(at, np.arange(len(spoken)), spoken).astype(np.float32)
            audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
            self._made[text] = samples[audible[0] : audible[-1] + 1]
        return self._made[text]


@contextmanager
def server(*options: str) -> Iterator[tuple[str, int]]:
    """`thalweg serve` with the example; gives its address and process."""
    port = free_port()
    example = str(files("thalweg.deploy").joinpath("examples/voice_chat.yaml"))
    command = [sys.executable, "-m", "thalweg.deploy", "serve", example, "--port", str(port)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([*command, *options], env=env)
    try:
        deadline = time.monotonic() + READY_S
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TalkError("unreachable", "the server for the benchmark did not become ready")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.terminate()
        try:
            process.wait(15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure_turns(result: Result, quick: bool) -> None:
    """The cases `webrtc`, `webrtc understood` and `webrtc pocketsphinx` of `bench turn`."""
    questions = QUESTIONS[:3] if quick else QUESTIONS
    speaker = Speaker()
    spoken = [speaker.say(question) for question in questions]
    compared = ways("webrtc")
    result.rounds.expect(len(compared))
    for case, variables in compared.items():
        options = [word for name, value in variables.items() for word in ("--set", f"{name}={value}")]
        with server(*options) as (url, _):
            turns = result.rounds.ours(
                f"{case}: {len(spoken)} questions are answered, and interrupted",
                partial(_conversed, url, spoken, speaker.say(INTERRUPTION)),
                LIMIT_S + 60 * len(spoken),
            )
            counted = _counted(url)
        _add(result, case, turns, counted, len(questions))


def _conversed(url: str, spoken: list[NDArray[np.float32]], interruption: NDArray[np.float32]) -> Turns:
    return asyncio.run(converse(url, spoken, interruption))


def _add(result: Result, case: str, turns: Turns, counted: dict[str, float], asked: int) -> None:
    for name, value in counted.items():
        result.add(case, OURS, len(turns.first_audio), "count", **{name: value})
    for name in ("first_audio", "interrupt", "stop"):
        values = getattr(turns, name)
        if values:
            found = {f"{name}_p50": quantile(values, 0.5), f"{name}_p95": quantile(values, 0.95)}
            result.add(case, OURS, len(values), "ms", **found)
    whole = quantile(turns.first_audio, 0.5) if turns.first_audio else 1.0
    for part, values in turns.shares.items() if ENDS[1] not in case else ():
        middle = quantile(values, 0.5)
        result.add(case, OURS, len(values), "ms", **{f"{part}_p50": middle})
        result.add(case, OURS, len(values), "share", **{f"{part}_share": middle / whole})
    if turns.missed:
        result.notes.append(f"{case}: {turns.missed} of {asked} questions were not answered")


async def converse(
    url: str, questions: list[NDArray[np.float32]], interruption: NDArray[np.float32] | None = None
) -> Turns:
    """Ask one question after the other; interrupt each answer by voice, and the answer to that with the button."""
    turns = Turns()
    async with Talker(url) as talker:
        await asyncio.sleep(1.0)
        for question in questions:
            ear = Ear()
            talker.on_audio = ear.hear
            if talker.lost:  # a machine so busy that no answer comes for half a minute
                turns.missed += 1
                continue
            try:
                await _ask(talker, ear, question, turns)
                if interruption is None:
                    await talker.next("heard", timeout_s=60.0)
            except (TimeoutError, TalkError):
                turns.missed += 1
            else:
                if interruption is not None:
                    with contextlib.suppress(TimeoutError, TalkError):  # it was over before
                        await _interrupt(talker, ear, interruption, turns)
            talker.send({"type": "stop"})
            await asyncio.sleep(1.2)
    return turns


async def _ask(talker: Talker, ear: Ear, question: NDArray[np.float32], turns: Turns) -> None:
    async with asyncio.timeout(60.0):
        ended_ns = await talker.voice.say(question)
    latency = await talker.next("latency", timeout_s=60.0)
    await asyncio.sleep(0.3)
    first_ns = ear.first_sound_ns(ended_ns)
    if first_ns is None:
        raise TimeoutError
    heard_ms = (first_ns - ended_ns) / 1e6
    turns.first_audio.append(heard_ms)
    names = ("final_ms", "first_token_ms", "first_audio_ms", "played_ms")
    if any(name not in latency for name in names):
        return
    marks = [float(SILENCE_MS), *(float(latency[name]) for name in names)]
    parts = {"end_of_turn": float(SILENCE_MS)}
    for part, (before, after) in zip(
        ("recognition", "first_token", "synthesis", "play_out"), pairwise(marks), strict=True
    ):
        parts[part] = after - before
    parts["network"] = heard_ms - latency["played_ms"]
    for name, value in parts.items():
        turns.shares.setdefault(name, []).append(value)


async def _interrupt(talker: Talker, ear: Ear, words: NDArray[np.float32], turns: Turns) -> None:
    """Speak into the answer, then press the button in the answer to that."""
    before = len(talker.events)
    spoken = talker.voice.say(words)
    began_ns = talker.clock.now_ns()
    await spoken
    await talker.next("latency", timeout_s=60.0)
    interrupted = next((at for at, event in talker.events[before:] if event["type"] == "interrupted"), None)
    thinking = [at for at, event in talker.events[before:] if event["type"] == "state" and event["state"] == "thinking"]
    if interrupted is not None and thinking:  # otherwise the answer was over before we could interrupt it
        last_ns = ear.last_sound_ns(thinking[-1]) or began_ns
        turns.interrupt.append(max(0.0, (last_ns - began_ns) / 1e6))
    await asyncio.sleep(0.4)
    pressed_ns = talker.clock.now_ns()
    talker.send({"type": "stop"})
    await talker.next("interrupted", timeout_s=10.0)
    await asyncio.sleep(0.3)
    last_ns = ear.last_sound_ns(talker.clock.now_ns()) or pressed_ns
    turns.stop.append(max(0.0, (last_ns - pressed_ns) / 1e6))


def _counted(url: str) -> dict[str, float]:
    """What the stages have counted, drafts that were used and were not among it."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5.0) as response:
        text = response.read().decode()
    return {
        kind: float(n) for kind, n in re.findall(r'^thalweg_counts_total\{kind="(\w+)"\} (\S+)$', text, re.MULTILINE)
    }


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
