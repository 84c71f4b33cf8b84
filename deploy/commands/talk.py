"""`thalweg talk`: a conversation with a server from the command line."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.runtime.tasks import beside
from thalweg.models.speech.wav import write_wav
from thalweg.stages.io.media import MediaError
from thalweg.stages.io.sound import decoded
from thalweg.stages.io.terminal import say, say_json
from thalweg.stages.io.whole import WholeFile
from thalweg.transports.webrtc.client import AUDIBLE, Talker, TalkError
from thalweg.transports.webrtc.send import RATE
from thalweg.transports.webrtc.signalling import Signalling

SHORTEST_S, LONGEST_S = 0.1, 600


@dataclass(slots=True)
class Ear:
    """Everything that was heard, with when it came."""

    parts: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)

    def hear(self, time_ns: int, samples: NDArray[np.float32]) -> None:
        """Keep a stretch of sound."""
        self.parts.append((time_ns, samples))

    def first_sound_ns(self, after_ns: int) -> int | None:
        """When the first audible stretch arrived after a moment."""
        return next((at for at, s in self.parts if at >= after_ns and np.abs(s).max(initial=0.0) > AUDIBLE), None)

    def last_sound_ns(self, before_ns: int) -> int | None:
        """When the last audible stretch arrived before a moment."""
        return next(
            (at for at, s in reversed(self.parts) if at <= before_ns and np.abs(s).max(initial=0.0) > AUDIBLE), None
        )

    def write(self, whole: WholeFile) -> None:
        """All of it as a 16-bit WAV file. Raises SinkError."""
        samples = np.concatenate([np.zeros(0, np.float32), *(part for _, part in self.parts)])
        whole.attempt(lambda: write_wav(whole.file, samples, RATE))
        whole.keep()


def talk_to(
    url: str,
    question: Path | None,
    answer: Path | None,
    token: str,
    wait_s: float,
    as_json: bool,
    insecure: bool = False,
) -> int:
    """Hold a conversation; returns the exit code: 0, 1 where no answer came.

    Raises TalkError; MediaError on a question that is no speech, SinkError on an answer that could not be written: both
    before the server is called.
    """
    Signalling(url, token, insecure=insecure)  # refuses before anything is read or written
    samples = question_of(question) if question is not None else None
    whole = WholeFile(answer) if answer is not None else None
    try:
        return asyncio.run(_talk(lambda: Talker(url, token=token, insecure=insecure), samples, whole, wait_s, as_json))
    finally:
        if whole is not None:
            whole.discard()


def question_of(path: Path) -> NDArray[np.float32]:
    """A recording to be said, [time] float32 at 48 kHz. Raises MediaError where it is none, too short or too long."""
    parts: list[NDArray[np.float32]] = []
    for part in decoded(path, RATE, RATE):
        parts.append(part)
        if len(parts) > LONGEST_S:
            raise MediaError(f"{path} is longer than {LONGEST_S // 60} minutes, which is no question")
    samples = np.concatenate(parts)
    if len(samples) < SHORTEST_S * RATE:
        raise MediaError(f"{path} holds {1000 * len(samples) / RATE:.0f} ms of sound, in which nothing can be said")
    return samples


async def _talk(
    make: Callable[[], Talker],
    samples: NDArray[np.float32] | None,
    whole: WholeFile | None,
    wait_s: float,
    as_json: bool,
) -> int:
    ear = Ear()
    made = make()
    made.on_crowd = lambda refused: say(f"          {refused} Trying again …", err=True)
    made.on_event = lambda event: _print(event, as_json)  # the first one comes while it connects
    async with made as talker, beside(talker.stay()):
        talker.on_audio = ear.hear
        if samples is None:
            if whole is None:
                return await _with_sound_card(talker, None)
            try:
                return await _with_sound_card(talker, ear)
            finally:
                ear.write(whole)
        await asyncio.sleep(0.5)
        async with beside(_ask(talker, samples, wait_s)) as answered, beside(talker.ended.wait()) as over:
            await asyncio.wait({answered, over}, return_when=asyncio.FIRST_COMPLETED)
        told = {event["type"] for _, event in talker.events}
        if talker.lost and not told & {"heard", "bye"}:
            raise TalkError("lost", "the connection was lost before the question was answered")
    if whole is not None:
        ear.write(whole)
    return 0 if "heard" in told else 1


async def _ask(talker: Talker, samples: NDArray[np.float32], wait_s: float) -> None:
    """Say a question, then wait for the end of its answer, for so long at most."""
    await talker.voice.say(samples)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await talker.next("heard", timeout_s=wait_s)
            while (await talker.next("state", timeout_s=2.0))["state"] != "listening":
                pass
    await asyncio.sleep(0.3)


async def _with_sound_card(talker: Talker, ear: Ear | None) -> int:
    """The microphone and speaker of this machine, until Ctrl-C or the end of the conversation; `ear` hears it, too."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise TalkError("no-microphone", f"no sound card: {error}. Say what to play with --in FILE") from None
    loop = asyncio.get_running_loop()

    def recorded(data: NDArray[np.float32], frames: int, _time: Any, _status: Any) -> None:  # Any: C structures
        loop.call_soon_threadsafe(speak, data[:, 0].copy())

    def speak(samples: NDArray[np.float32]) -> None:
        if talker.there:  # else it would be said once the connection is back, and all after it as late
            talker.voice.say(samples)

    try:
        with (
            sounddevice.InputStream(samplerate=RATE, blocksize=960, channels=1, dtype="float32", callback=recorded),
            sounddevice.OutputStream(samplerate=RATE, channels=1, dtype="float32") as speaker,
        ):

            def play(time_ns: int, samples: NDArray[np.float32]) -> None:
                if ear is not None:
                    ear.hear(time_ns, samples)
                speaker.write(samples[:, None])

            talker.on_audio = play
            await talker.ended.wait()
    except sounddevice.PortAudioError as error:
        raise TalkError("no-microphone", f"no sound card: {error}. Say what to play with --in FILE") from None
    return 0


def _print(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(event)
    elif event["type"] == "caption" and event["final"]:
        say(f"you       {event['text']}")
    elif event["type"] == "heard":
        say(f"thalweg   {event['text']}{'' if event['complete'] else ' …'}")
    elif event["type"] == "latency" and event.get("played_ms") is not None:
        say(f"          first word after {event['played_ms']:.0f} ms")
    elif event["type"] in ("trouble", "bye"):
        say(f"          {event['message']}")
