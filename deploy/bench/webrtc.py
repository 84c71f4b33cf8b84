"""Conversations over WebRTC, measured at the client: `bench turn --webrtc` and `bench sessions`.

A server in a process of its own, clients in this one, on the network interface of this machine. Questions are spoken by
the demo's own voice (synthetic speech). A client's clock starts when the last audible sample of its question was sent
and stops when the first audible sample of the answer has arrived and is decoded; a browser adds its own buffer to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.turn import QUESTIONS, SILENCE_MS
from thalweg.deploy.talk import Ear
from thalweg.models import ModelStore
from thalweg.models.piper import PiperVoice
from thalweg.transports.webrtc.client import AUDIBLE, Talker, TalkError
from thalweg.transports.webrtc.send import RATE

INTERRUPTION = "Wait, stop it please."
READY_S = 60.0
WITHIN = 1.5


@dataclass(slots=True)
class Turns:
    """What clients measured, milliseconds; `shares` by the part of the way."""

    first_audio: list[float] = field(default_factory=list)
    interrupt: list[float] = field(default_factory=list)
    stop: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=dict)
    missed: int = 0


class Speaker:
    """Questions as sound, made once."""

    def __init__(self) -> None:
        model, config = ModelStore().pull("piper-en-us-joe")
        self._voice = PiperVoice(model, config)
        self._made: dict[str, NDArray[np.float32]] = {}

    def say(self, text: str) -> NDArray[np.float32]:
        """[time] float32 at 48 kHz, from the first audible sample to the last."""
        if text not in self._made:
            spoken = np.concatenate(list(self._voice.speak(text)))
            at = np.arange(round(len(spoken) * RATE / self._voice.rate)) * self._voice.rate / RATE
            samples = np.interp(at, np.arange(len(spoken)), spoken).astype(np.float32)
            audible = np.flatnonzero(np.abs(samples) > AUDIBLE)
            self._made[text] = samples[audible[0] : audible[-1] + 1]
        return self._made[text]


@contextmanager
def server(*options: str) -> Iterator[tuple[str, int]]:
    """`thalweg serve` with the example; gives its address and process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    example = str(files("thalweg.deploy").joinpath("examples/voice_chat.yaml"))
    command = [sys.executable, "-m", "thalweg.deploy", "serve", example, "--port", str(port)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen([*command, "--set", f"silence={SILENCE_MS}ms", *options], env=env)
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
        process.wait(15.0)


def measure_turns(result: Result, quick: bool) -> None:
    """The case `webrtc` of `bench turn`."""
    questions = QUESTIONS[:3] if quick else QUESTIONS
    speaker = Speaker()
    spoken = [speaker.say(question) for question in questions]
    with server() as (url, _):
        turns = asyncio.run(_converse(url, spoken, speaker.say(INTERRUPTION)))
    for name in ("first_audio", "interrupt", "stop"):
        values = getattr(turns, name)
        if values:
            found = {f"{name}_p50": quantile(values, 0.5), f"{name}_p95": quantile(values, 0.95)}
            result.add("webrtc", OURS, len(values), "ms", **found)
    whole = quantile(turns.first_audio, 0.5) if turns.first_audio else 1.0
    for part, values in turns.shares.items():
        middle = quantile(values, 0.5)
        result.add("webrtc", OURS, len(values), "ms", **{f"{part}_p50": middle})
        result.add("webrtc", OURS, len(values), "share", **{f"{part}_share": middle / whole})
    if turns.missed:
        result.notes.append(f"{turns.missed} of {len(questions)} questions were not answered")


def measure_sessions(result: Result, quick: bool) -> None:
    """More and more conversations at once, until the server says that it is busy; then connects and drops."""
    speaker = Speaker()
    spoken = [speaker.say(question) for question in (QUESTIONS[:2] if quick else QUESTIONS[:6])]
    hello = speaker.say("Hello there.")
    with server("--per-address", "1000") as (url, pid):
        alone = 0.0
        for n in range(1, 3 if quick else 9):
            turns, refused = asyncio.run(_crowd(url, n, spoken))
            if turns.first_audio:
                p95 = quantile(turns.first_audio, 0.95)
                alone = alone or p95
                result.add(f"n={n}", OURS, len(turns.first_audio), "ms", first_audio_p95=p95)
                result.add(f"n={n}", OURS, 1, "ratio", first_audio_ratio=p95 / alone)
            result.add(f"n={n}", OURS, n, "conversations", refused=refused)
            result.add(f"n={n}", OURS, 1, "MB", rss_mb=resources(pid)["rss_mb"])
            if refused:
                break
    with server("--per-address", "1000", "--resume-seconds", "1") as (url, pid):
        asyncio.run(_churn(url, 5, hello))
        before = resources(pid)
        count = 10 if quick else 60
        asyncio.run(_churn(url, count, hello))
        after = resources(pid)
        for name in before:
            result.add("churn", OURS, count, name, **{f"{name}_before": before[name], f"{name}_after": after[name]})


async def _converse(
    url: str, questions: list[NDArray[np.float32]], interruption: NDArray[np.float32] | None = None
) -> Turns:
    """Ask one question after the other; interrupt each answer by voice, and the answer to that with the button."""
    turns = Turns()
    async with Talker(url) as talker:
        await asyncio.sleep(1.0)
        for question in questions:
            ear = Ear()
            talker.on_audio = ear.hear
            if talker.lost:  # a machine so busy that nobody answers for half a minute
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


async def _crowd(url: str, n: int, questions: list[NDArray[np.float32]]) -> tuple[Turns, int]:
    """`n` conversations at once, begun half a second apart; returns all turns and how many were refused."""
    together, refused = Turns(), 0

    async def one(i: int) -> None:
        nonlocal refused
        await asyncio.sleep(0.7 * i)
        try:
            turns = await _converse(url, questions[i % 2 :] + questions[: i % 2])
        except TalkError as error:
            if error.code != "busy":
                raise
            refused += 1
            return
        together.first_audio += turns.first_audio
        together.missed += turns.missed

    async with asyncio.TaskGroup() as group:
        for i in range(n):
            group.create_task(one(i))
    return together, refused


async def _churn(url: str, count: int, words: NDArray[np.float32]) -> None:
    """Connect, say something, and be gone: every other time without a word of goodbye."""
    for i in range(count):
        try:
            async with Talker(url) as talker:
                await talker.voice.say(words)
                if i % 2:
                    talker.session = ""
        except TalkError as error:
            if error.code != "busy":
                raise
            await asyncio.sleep(1.0)
    await asyncio.sleep(5.0)


def resources(pid: int) -> dict[str, float]:
    """Resident megabytes, open descriptors and threads of a process and the processes it has started."""
    found = {"rss_mb": 0.0, "descriptors": 0.0, "threads": 0.0}
    for process in (pid, *_children(pid)):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            found["rss_mb"] += int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
            found["threads"] += int(next(line for line in status if line.startswith("Threads")).split()[1])
            found["descriptors"] += len(os.listdir(f"/proc/{process}/fd"))
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2.0) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
