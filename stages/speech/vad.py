"""Cutting audio into turns.

Theory of operation. Each 32 ms frame gets a speech probability. Two thresholds keep it from flickering, and
two durations decide:

    state     event                                   next      emits
    SILENCE   speech for `min_speech`                 SPEECH    START, with the audio since `pre_roll` before it
    SPEECH    any frame                               SPEECH    CONTINUE
    SPEECH    silence for `silence`                   SILENCE   END
    SPEECH    `max_turn` since START                  SILENCE   END: a turn must end somewhere; in the last sixth of
                                                                it in a pause, the shorter the later, not in a word
    SPEECH    a Flush signal                          SILENCE   END: another stage knows that the turn is over

With `end_of_turn: understood` the silence that ends a turn depends on how the last words sounded (Smart Turn) and on
what they were, as a recogniser behind tells with `Words`; see `pipeline/dialogue/end_of_turn.py`. `silence` is then the
wait where neither is known, and all other waits change in proportion to it, up to `longest`. The sound is judged on a
thread, once per pause; the audio waits for nothing.

A turn gets an epoch of its own. With `barge_in` its START also interrupts: packets of older turns become stale.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from thalweg.models.speech.silero import RATE, STEP, SileroVad
from thalweg.models.speech.smart_turn import SECONDS, SmartTurn
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.dialogue.end_of_turn import EndAction, EndOfTurn, EndRules
from thalweg.pipeline.duration import MS, Duration
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import AudioChunk, Speech, SpeechEvent
from thalweg.pipeline.signal import Flush, Interrupt, Signal, Words
from thalweg.pipeline.stage import Context

_FRAME_NS = STEP * 1_000_000_000 // RATE


class VoiceActivity:
    """Finds speech in audio and cuts it into turns (Silero VAD)."""

    inputs = {"audio": AudioChunk}
    outputs = {"speech": Speech}
    configurable = ("threshold", "silence", "barge_in")

    def __init__(
        self,
        silence: Annotated[Duration, Field(description="silence that ends a turn")] = 500 * MS,
        threshold: Annotated[
            float, Field(gt=0, lt=1, description="probability from which a frame counts as speech")
        ] = 0.5,
        min_speech: Annotated[Duration, Field(description="length of speech that begins a turn")] = 96 * MS,
        pre_roll: Annotated[Duration, Field(description="audio from before the turn that is included")] = 256 * MS,
        max_turn: Annotated[Duration, Field(description="longest turn")] = 30_000 * MS,
        barge_in: Annotated[bool, Field(description="speech interrupts the current answer")] = True,
        end_of_turn: Annotated[
            Literal["silence", "understood"],
            Field(description="what ends a turn: `silence` alone, or also the words and their sound"),
        ] = "silence",
        longest: Annotated[Duration, Field(description="silence that ends a turn that sounds unfinished")] = 1_400 * MS,
    ) -> None:
        self.threshold = threshold
        self.silence = silence
        self._longest = longest
        self.barge_in = barge_in
        self._min_frames = max(1, -(-min_speech // _FRAME_NS))
        self._max_frames = max(1, max_turn // _FRAME_NS)
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=max(1, pre_roll // _FRAME_NS) + self._min_frames)
        self._vad: SileroVad | None = None
        self._held = np.zeros(0, np.float32)
        self._frame_ns = 0
        self._speech_frames = 0
        self._silent_frames = 0
        self._turn_frames = 0
        self._epoch = AMBIENT
        self._end_of_turn: EndOfTurn | None = None
        if end_of_turn == "understood":
            self._end_of_turn = EndOfTurn(self._end_rules())
        self._heard: deque[NDArray[np.float32]] = deque(maxlen=SECONDS * RATE // STEP + 1)
        self._sound: SmartTurn | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._judging: tuple[int, Future[float]] | None = None
        self.counts: dict[str, int] = {}

    def open(self, ctx: Context) -> None:
        """Load the model, fetching it where needed."""
        self._vad = SileroVad(ModelStore().path("silero-vad"))
        if self._end_of_turn is not None:
            self._sound = SmartTurn(ModelStore().path("smart-turn-v3"))
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="smart-turn")
            self.counts = {"pauses": 0, "judged_done": 0}

    def close(self) -> None:
        """Release the models. Each is freed with its last user."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        for model in (self._vad, self._sound):
            if model is not None:
                model.close()

    def configure(self, settings: dict[str, Any]) -> None:
        """Take new settings at once, in the middle of a turn too."""
        for name, value in settings.items():
            setattr(self, name, value)
        if self._end_of_turn is not None and "silence" in settings:
            self._end_of_turn.rules = self._end_rules()

    def _end_rules(self) -> EndRules:
        hearing = min(self.silence, EndRules().hearing_ns)
        return EndRules(unknown_ns=self.silence, hearing_ns=hearing, longest_ns=max(self.silence, self._longest))

    def process(self, packet: Packet, ctx: Context) -> None:
        """Look at every whole frame so far."""
        audio = packet.payload
        assert isinstance(audio, AudioChunk)
        if audio.rate != RATE or audio.samples.ndim != 1:
            raise ThalwegError(
                f"voice activity detection takes mono audio at {RATE} Hz, got {audio.rate} Hz, "
                f"shape {audio.samples.shape}: set `rate: {RATE}` at the source"
            )
        if not len(self._held):
            self._frame_ns = packet.time
        self._held = np.concatenate([self._held, audio.samples])
        start = 0
        while len(self._held) - start >= STEP:
            self._frame(self._held[start : start + STEP], ctx)
            self._frame_ns += _FRAME_NS
            start += STEP
        self._held = self._held[start:]

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """A Flush ends the turn under way; words that were understood may."""
        if isinstance(signal, Words) and signal.epoch == self._epoch and self._end_of_turn is not None:
            self._end_of_turn.words(signal.text, signal.language)
        if isinstance(signal, Flush) and self._epoch != AMBIENT and signal.epoch in (0, self._epoch):
            self._end_here(ctx)

    def finish(self, ctx: Context) -> None:
        """The audio has ended, and with it the turn."""
        if self._epoch != AMBIENT:
            self._end_here(ctx)

    def snapshot(self) -> dict[str, Any]:
        """Everything between two packets."""
        assert self._vad is not None
        kept = ("_held", "_frame_ns", "_speech_frames", "_silent_frames", "_turn_frames", "_epoch")
        return {"vad": self._vad.snapshot(), "recent": list(self._recent)} | {k: getattr(self, k) for k in kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        assert self._vad is not None
        rest = dict(state)
        self._vad.restore(rest.pop("vad"))
        self._recent.clear()
        self._recent.extend(rest.pop("recent"))
        for name, value in rest.items():
            setattr(self, name, value)

    def _frame(self, samples: NDArray[np.float32], ctx: Context) -> None:
        assert self._vad is not None
        probability = self._vad.step(samples)
        if self._epoch == AMBIENT:
            self._recent.append(samples)
            self._speech_frames = self._speech_frames + 1 if probability >= self.threshold else 0
            if self._speech_frames >= self._min_frames:
                self._begin(ctx)
            return
        self._turn_frames += 1
        silent = probability < self.threshold - 0.15
        self._silent_frames = self._silent_frames + 1 if silent else 0
        self._emit([samples], SpeechEvent.CONTINUE, self._frame_ns, ctx)
        if self._is_over(samples, silent=silent) or self._is_late():
            voice_ns = self._frame_ns + (1 - self._silent_frames) * _FRAME_NS
            self._end([], voice_ns, ctx)

    def _is_late(self) -> bool:
        """Whether the turn has become so long that the silence so far, or none, has to do."""
        left = 6 * (self._max_frames - self._turn_frames)  # of the last sixth, in sixths
        if left >= self._max_frames:
            return False
        enough_ns = self.silence * left // self._max_frames
        return left <= 0 or (self._silent_frames > 0 and self._silent_frames * _FRAME_NS >= enough_ns)

    def _is_over(self, samples: NDArray[np.float32], *, silent: bool) -> bool:
        """Whether the silence so far ends the turn."""
        end = self._end_of_turn
        if end is None:
            return self._silent_frames * _FRAME_NS >= self.silence
        self._heard.append(samples)
        if not silent:
            end.voice()
            return False
        if self._judging is not None and self._judging[1].done():
            (pause, judged), self._judging = self._judging, None
            end.sounds(pause, judged.result())
            self.counts["judged_done"] += judged.result() >= 0.5
        action = end.silence(self._frame_ns + _FRAME_NS, _FRAME_NS)
        if action is EndAction.ASK and self._thread is not None and self._sound is not None:
            self.counts["pauses"] += 1
            self._judging = end.pause, self._thread.submit(self._sound.complete, np.concatenate(self._heard))
        return action is EndAction.END

    def _begin(self, ctx: Context) -> None:
        self._epoch = ctx.new_epoch()
        self._heard.clear()
        self._heard.extend(self._recent)
        if self._end_of_turn is not None:
            self._end_of_turn.begin()
        if self.barge_in:
            ctx.signal(Interrupt(origin=ctx.name, epoch=self._epoch))
        start_ns = self._frame_ns - (len(self._recent) - 1) * _FRAME_NS
        self._turn_frames = self._silent_frames = 0
        self._emit(list(self._recent), SpeechEvent.START, start_ns, ctx)
        self._recent.clear()

    def _end_here(self, ctx: Context) -> None:
        """Between two frames: what has come of the next one belongs to the turn as well."""
        rest, self._held = self._held, np.zeros(0, np.float32)
        rest_ns = len(rest) * 1_000_000_000 // RATE
        voice_ns = self._frame_ns - self._silent_frames * _FRAME_NS if self._silent_frames else self._frame_ns + rest_ns
        self._end([rest], voice_ns, ctx)

    def _end(self, frames: Sequence[NDArray[np.float32]], voice_ns: int, ctx: Context) -> None:
        self._emit(frames, SpeechEvent.END, self._frame_ns, ctx, speech_end_ns=voice_ns)
        self._epoch = AMBIENT
        self._speech_frames = 0

    def _emit(
        self,
        frames: Sequence[NDArray[np.float32]],
        event: SpeechEvent,
        time_ns: int,
        ctx: Context,
        speech_end_ns: int | None = None,
    ) -> None:
        samples = np.concatenate(frames) if frames else np.zeros(0, np.float32)
        audio = AudioChunk(samples=samples, rate=RATE)
        silence_ns = self._silent_frames * _FRAME_NS
        speech = Speech(audio=audio, event=event, speech_end_ns=speech_end_ns, silence_ns=silence_ns)
        ctx.emit(speech, time=time_ns, epoch=self._epoch)
