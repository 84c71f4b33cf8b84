"""A whole conversation under the virtual clock: voice, turns, a slow answer, play-out; every race ends in an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.conftest import require_package
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet, run_virtual
from thalweg.pipeline.clock import VirtualClock
from thalweg.pipeline.dialogue.call import NoPeerError, using
from thalweg.pipeline.dialogue.events import (
    Control,
    Event,
    Heard,
    Interrupted,
    Say,
    State,
    Stop,
)
from thalweg.pipeline.dialogue.playout import Playout
from thalweg.pipeline.duration import MS
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, Speech, SpeechEvent, SpokenText, Transcript, VideoFrame
from thalweg.pipeline.signal import Ahead, Direction, Signal
from thalweg.pipeline.stage import Context
from thalweg.stages.dialogue.live import LiveSpeaker
from thalweg.stages.dialogue.turns import LiveTurns

UNIT_MS = 20
RATE = 16_000
THINK_MS, WORD_MS = 200, 300
TONE = np.full(RATE * UNIT_MS // 1000, 0.1, np.float32)


class FakeLine:
    """The person's side: pulls by the clock, keeps what was told and heard."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.playout = Playout(RATE)
        self.on_control: Callable[[Control], None] = lambda control: None
        self.on_play: Callable[[Any], None] = lambda event: None
        self.on_bitrate: Callable[[int], None] = lambda bps: None
        self.on_key_wanted: Callable[[], None] = lambda: None
        self.on_codecs: Callable[[tuple[str, ...]], None] = lambda codecs: None
        self.connected = True
        self.told: list[tuple[int, Event]] = []
        self.sound: list[tuple[int, float]] = []

    async def listen(self, until_ms: int) -> None:
        for at_ms in range(0, until_ms, UNIT_MS):
            await asyncio.sleep(max(0.0, at_ms / 1000 - self.clock.now_ns() / 1e9))
            if self.connected:
                block, events = self.playout.pull(len(TONE), self.clock.now_ns())
                self.sound.append((at_ms, float(np.abs(block).max())))
                for event in events:
                    self.on_play(event)

    def tell(self, event: Event) -> None:
        self.told.append((self.clock.now_ns() // MS, event))

    def show(self, time_ns: int, unit: EncodedVideo) -> None:
        raise AssertionError("no pictures here")

    async def audio(self) -> AsyncIterator[tuple[int, AudioChunk]]:
        yield 0, AudioChunk(samples=TONE, rate=RATE)

    async def video(self) -> AsyncIterator[tuple[int, VideoFrame]]:
        yield 0, VideoFrame(pixels=np.zeros((1, 1, 3), np.uint8))


class Person:
    """Says things: `(start, length, text)` in ms. The final transcript comes `late` ms after the voice.

    `trials`: transcripts made in a pause, time in ms → epoch and text.
    """

    outputs = {"audio": AudioChunk, "speech": Speech, "transcript": Transcript}

    def __init__(self, says: list[tuple[int, int, str]], until_ms: int, late: int, line: FakeLine) -> None:
        self.says, self.until_ms, self.late, self.line = says, until_ms, late, line
        self.does: dict[int, Callable[[], None]] = {}
        self.trials: dict[int, tuple[int, str]] = {}

    async def run(self, ctx: Context) -> None:
        for at in range(0, self.until_ms, UNIT_MS):
            await ctx.sleep_until(at * MS)
            if at in self.does:
                self.does[at]()
            if at in self.trials:
                epoch, text = self.trials[at]
                trial = Transcript(text=text, final=False, trial=True)
                await ctx.send(trial, port="transcript", time=at * MS, epoch=epoch)
            for epoch, (start, length, text) in enumerate(self.says, 1):
                chunk = AudioChunk(samples=TONE, rate=RATE)
                if start <= at <= start + length:
                    kind = SpeechEvent.START if at == start else SpeechEvent.CONTINUE
                    if at == start + length:
                        kind = SpeechEvent.END
                    speech = Speech(audio=chunk, event=kind, speech_end_ns=at * MS if kind is SpeechEvent.END else None)
                    await ctx.send(speech, port="speech", time=at * MS, epoch=epoch)
                if text and start < at < start + length and (at - start) % 100 == 0:
                    share = len(text) * (at - start) // length
                    partial = Transcript(text=text[: text.rfind(" ", 0, share + 1)] if share else "", final=False)
                    await ctx.send(partial, port="transcript", time=at * MS, epoch=epoch)
                if at == start + length + self.late:
                    final = Transcript(text=text, final=True, stable_chars=len(text))
                    await ctx.send(final, port="transcript", time=at * MS, epoch=epoch)
            await ctx.send(AudioChunk(samples=TONE, rate=RATE), port="audio", time=at * MS)


class Answerer:
    """Thinks for a while, then answers in ten words, each a piece of speech."""

    inputs = {"transcript": Transcript}
    outputs = {"audio": SpokenText}

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def process(self, packet: Packet, ctx: Context) -> None:
        question = packet.payload
        assert isinstance(question, Transcript)
        if not question.final:
            return
        self.asked.append(question.text)
        await asyncio.sleep(THINK_MS / 1000)
        for number in range(10):
            samples = np.full(RATE * WORD_MS // 1000, 0.5, np.float32)
            ctx.emit(SpokenText(samples=samples, rate=RATE, text=f"w{number}", last=number == 9))
            await asyncio.sleep(0.02)


def converse(graph: Graph, line: FakeLine, clock: VirtualClock, until_ms: int) -> None:
    """Run the pipeline while the person listens."""
    worker = Worker(graph, clock=clock)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            group.create_task(line.listen(until_ms))

    run_virtual(main(), clock)
    assert worker.problems == []


class Talk:
    """What came of a conversation."""

    def __init__(
        self,
        *says: tuple[int, int, str],
        until: int = 12_000,
        late: int = 60,
        does: dict[int, Control | str] | None = None,
    ) -> None:
        clock = VirtualClock()
        self.line = FakeLine(clock)
        self.answerer = Answerer()
        person = Person(list(says), until, late, self.line)
        for at, what in (does or {}).items():
            person.does[at] = self._action(what)
        graph = Graph(name="talk")
        with using(self.line):
            for name, stage in (("turns", LiveTurns()), ("speaker", LiveSpeaker())):
                graph.add(name, stage)
        graph.add("person", person)
        graph.add("answerer", self.answerer)
        for port in ("audio", "speech", "transcript"):
            graph.connect(f"person.{port}", f"turns.{port}", capacity=50)
        graph.connect("turns", "answerer", capacity=50)
        graph.connect("answerer", "speaker")
        converse(graph, self.line, clock, until)

    def _action(self, what: Control | str) -> Callable[[], None]:
        if what in ("gone", "back"):
            return lambda: setattr(self.line, "connected", what == "back")
        assert isinstance(what, Control)
        return lambda: self.line.on_control(what)

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for _, event in self.line.told if isinstance(event, kind)]

    def sound_between(self, start_ms: int, end_ms: int) -> bool:
        return any(level > 0.01 for at, level in self.line.sound if start_ms <= at < end_ms)

    @property
    def ends_answered(self) -> bool:
        """The last question was answered to its end, and the floor is free again."""
        heard = self.told(Heard)
        return bool(heard) and heard[-1].complete and self.told(State)[-1].state == "listening"


@pytest.fixture(autouse=True)
def av() -> None:
    require_package("av", "audio")


QUESTION = (1000, 800, "what is the capital of france")


def test_a_question_is_answered_to_its_end() -> None:
    talk = Talk(QUESTION)
    assert talk.answerer.asked == ["what is the capital of france"]
    assert talk.ends_answered
    assert [s.state for s in talk.told(State)] == ["hearing", "thinking", "speaking", "listening"]


def test_words_over_the_answer_silence_it_and_only_what_was_heard_is_remembered() -> None:
    talk = Talk(QUESTION, (3500, 800, "and what about the other one"))
    first = talk.told(Heard)[0]
    assert (first.complete, first.text) == (False, "w0 w1 w2 w3 w4")
    assert not talk.sound_between(3700, 4500)
    assert talk.ends_answered


def test_the_last_stale_sample_leaves_within_a_block_of_the_decision() -> None:
    talk = Talk(QUESTION, does={3500: Stop()})
    stopped = talk.told(Interrupted)
    assert [event.cause for event in stopped] == ["stop"]
    assert stopped[0].stale_ms <= UNIT_MS + 5
    assert not talk.sound_between(3560, 12_000)


def test_a_back_channel_pauses_the_answer_and_it_goes_on() -> None:
    talk = Talk(QUESTION, (3500, 400, "okay yeah"))
    assert [heard.complete for heard in talk.told(Heard)] == [True]
    assert not talk.sound_between(3700, 3900)
    assert talk.sound_between(4100, 4500)
    assert talk.ends_answered


def test_interrupt_before_the_first_token() -> None:
    talk = Talk(QUESTION, (1880, 600, "and of spain too"))
    assert talk.answerer.asked == ["what is the capital of france", "what is the capital of france and of spain too"]
    assert not talk.sound_between(0, 2600)
    assert talk.ends_answered


def test_interrupt_between_token_and_speech() -> None:
    talk = Talk(QUESTION, (2060, 600, "and of spain too"))
    assert talk.answerer.asked[-1].endswith("and of spain too")
    assert talk.ends_answered


def test_interrupt_at_the_last_sample() -> None:
    talk = Talk(QUESTION, (5000, 800, "and what about the other one"))
    assert talk.answerer.asked[-1] == "and what about the other one"
    assert talk.ends_answered


def test_interrupt_twice_within_50_ms() -> None:
    talk = Talk(QUESTION, (3500, 800, "and what about the other one"), does={4000: Stop(), 4040: Stop()})
    assert talk.answerer.asked[-1] == "and what about the other one"
    assert talk.ends_answered


def test_interrupt_during_a_reconnect() -> None:
    talk = Talk(QUESTION, (3500, 800, "and what about the other one"), does={3300: "gone", 5300: "back"})
    assert talk.told(Heard)[0].complete is False
    assert talk.sound_between(5300, 6000)
    assert talk.ends_answered


def test_a_cough_during_a_reconnect_leaves_the_answer_to_be_heard() -> None:
    talk = Talk(QUESTION, (3500, 300, ""), does={3300: "gone", 5300: "back"})
    assert [heard.complete for heard in talk.told(Heard)] == [True]
    assert talk.ends_answered


def test_interrupt_while_the_final_transcript_is_pending() -> None:
    talk = Talk(QUESTION, (2000, 600, "and of spain too"), late=500)
    assert talk.answerer.asked == ["what is the capital of france and of spain too"]
    assert talk.ends_answered


@pytest.mark.parametrize("start", range(1800, 5300, 100))
def test_whenever_it_is_interrupted_it_ends_answered(start: int) -> None:
    talk = Talk(QUESTION, (start, 600, "tell me something else please"))
    assert talk.answerer.asked[-1].endswith("tell me something else please")
    assert talk.ends_answered


def test_a_written_question_is_answered_too() -> None:
    talk = Talk(does={1000: Say(text="why is the sky blue")})
    assert talk.answerer.asked == ["why is the sky blue"]
    assert talk.ends_answered


def test_a_live_stage_without_anybody_there_says_how_to_run_it() -> None:
    with pytest.raises(NoPeerError, match="thalweg serve"):
        LiveSpeaker()


class Upstream:
    """All of a context that a speaker uses for a piece of speech."""

    name = "speaker"

    def __init__(self) -> None:
        self.told: list[Signal] = []

    def signal(self, signal: Signal, direction: Direction) -> None:
        assert direction is Direction.UP
        self.told.append(signal)


def test_with_each_piece_of_speech_it_is_told_how_much_there_is_to_play() -> None:
    upstream = Upstream()
    with using(FakeLine(VirtualClock())):
        speaker = LiveSpeaker()
    speech = packet(SpokenText(samples=np.zeros(RATE, np.float32), rate=RATE, text="one second"), epoch=3)
    for _ in range(2):
        run_virtual(speaker.process(speech, upstream))  # type: ignore[arg-type]  # as it says above
    assert upstream.told == [Ahead(origin="speaker", epoch=3, ahead_ns=s * 1_000_000_000) for s in (1, 2)]


def test_the_pieces_of_a_reply_are_one_sound_at_the_rate_of_the_play_out() -> None:
    rate = 22_050
    tone = np.sin(2 * np.pi * 440 * np.arange(rate, dtype=np.float32) / rate).astype(np.float32)
    cuts = [0, 3000, 7000, 7100, 15_000, rate]
    line = FakeLine(VirtualClock())
    with using(line):
        speaker = LiveSpeaker()
    for begin, end in pairwise(cuts):
        piece = SpokenText(samples=tone[begin:end], rate=rate, text="la")
        run_virtual(speaker.process(packet(piece, epoch=1), Upstream()))  # type: ignore[arg-type]
    over = SpokenText(samples=np.zeros(0, np.float32), rate=rate, last=True)
    run_virtual(speaker.process(packet(over, epoch=1), Upstream()))  # type: ignore[arg-type]
    heard, _ = line.playout.pull(RATE, 0)
    count = round(line.playout.rate * 0.99)
    wanted = np.sin(2 * np.pi * 440 * np.arange(count) / line.playout.rate)
    assert np.abs(heard[100:count] - wanted[100:]).max() < 0.01, "a piece resampled alone fades at its ends"
