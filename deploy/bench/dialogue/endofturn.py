"""Who is cut off, and how long the others wait: `bench endofturn`.

Turns with pauses inside them (`endofturn_sets.py`) go through voice activity once; in each pause Smart Turn judges the
sound and Whisper tiny.en hears the words, as the stages would. From that, each policy decides on the audio's clock:

    300, 500, 800 ms     that much silence ends the turn
    smart turn           as Pipecat 1.14 uses it: judged after 200 ms of silence, ends at once where it says done, else
                         after 3 s
    sound                ours without words
    sound and words      ours; words are there 200 ms after they are asked for, which a quiet core keeps
    ours × 0.6 … 2       the same with all waits in that proportion to the default ones: what a shorter delay costs

A turn is cut off where a policy ends it before its speaker goes on. Delays count from the end of the voice to the
decision, of turns that were not cut off. `calibration` are the turns that the waits of ours were chosen on; no other
case has a sentence or a voice of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from thalweg.deploy.bench.dialogue.endofturn_sets import CALIBRATE, REPORT, Said, turns
from thalweg.deploy.bench.journal import Journal
from thalweg.deploy.bench.result import Result, quantile
from thalweg.models.speech.silero import RATE, STEP, SileroVad
from thalweg.models.speech.smart_turn import SmartTurn
from thalweg.models.speech.whisper.decode import DecodeRequest, decode
from thalweg.models.speech.whisper.model import WhisperModel, find_whisper
from thalweg.models.store.store import ModelStore
from thalweg.pipeline.dialogue.end_of_turn import EndAction, EndOfTurn, EndRules
from thalweg.pipeline.duration import MS

COUNT, CALIBRATION = 300, 150
SHARES = (0.6, 0.8, 1.25, 1.5, 2)
_QUICK = 5
_METHOD = "endofturn 3"
_FRAME_MS = 1_000 * STEP / RATE
_ASK, _SOUND_ASK = 3, 7
"""Frames of silence after which the words and the sound are asked for: 96 and 224 ms."""
_PIPECAT_LONGEST = 94
_SOUND_LATE, _WORDS_LATE = 1, 6
"""Frames until an answer is there."""
_HEARD_S = 8


def measure(result: Result, quick: bool, json_path: Path | None = None, minutes: float | None = None) -> None:
    """A row per policy and kind. With `json_path` a later run goes on."""
    path = json_path.with_suffix(".jsonl") if json_path is not None else None
    journal = Journal(path, _METHOD, minutes=minutes, rounds=result.rounds)
    ears = _Ears()
    found = []
    for split, count in ((REPORT, COUNT), (CALIBRATE, CALIBRATION)):
        for said in turns(_QUICK if quick else count, split):
            key = f"{split.seed} {said.kind} {said.number}"
            facts = journal.find(key, lambda said=said: ears.examine(said))  # type: ignore[misc]
            if facts is not None:
                found.append((split, facts))
    reported = [facts for split, facts in found if split is REPORT]
    for kind in ("all", *dict.fromkeys(facts["kind"] for facts in reported)):
        _add(result, kind, [facts for facts in reported if kind in ("all", facts["kind"])])
    _add(result, "calibration", [facts for split, facts in found if split is CALIBRATE])
    result.notes.append("all but `people` is synthetic speech")
    if journal.left:
        result.notes.append(f"{journal.left} turns are left: the same command goes on with them")


class _Ears:
    """Everything that hears, loaded with the first turn."""

    def __init__(self) -> None:
        self._loaded: tuple[SileroVad, SmartTurn, WhisperModel] | None = None

    def examine(self, said: Said) -> dict[str, Any]:
        """`{kind, voiced, pauses}`: for each frame whether there is a voice, and what was judged in each pause."""
        if self._loaded is None:
            store = ModelStore()
            self._loaded = (
                SileroVad(store.path("silero-vad")),
                SmartTurn(store.path("smart-turn-v3")),
                WhisperModel(find_whisper("whisper-tiny.en")),
            )
        vad, smart, whisper = self._loaded
        frames = said.audio[: len(said.audio) // STEP * STEP].reshape(-1, STEP)
        voiced, speaking = [], False
        for frame in frames:
            likely = vad.step(frame)
            speaking = likely >= (0.35 if speaking else 0.5)
            voiced.append(speaking)
        pauses = []
        begin = voiced.index(True) if any(voiced) else len(voiced)
        for at in range(begin + 1, len(voiced)):
            if voiced[at - 1] and not voiced[at]:
                for_words, for_sound = (
                    said.audio[max(0, begin - 8) * STEP : (at + n) * STEP] for n in (_ASK, _SOUND_ASK)
                )
                (words,) = decode(whisper, [DecodeRequest(samples=for_words[-29 * RATE :], careful=True)])
                sound = smart.complete(for_sound[-_HEARD_S * RATE :])
                pauses.append({"at": at, "sound": sound, "words": words.text})
        return {"kind": said.kind, "voiced": [int(v) for v in voiced], "pauses": pauses}


def policies() -> dict[str, Callable[[Mapping[str, Any], int], int]]:
    """Each says of a pause (its facts, the frames it lasts) in which frame of it the turn ends; −1: it does not."""
    fixed = {f"{ms} ms": _fixed(round(ms / _FRAME_MS)) for ms in (300, 500, 800)}
    ours = {"sound": _ours(words=False), "sound and words": _ours(words=True)}
    scaled = {f"ours × {share:g}": _ours(words=True, share=share) for share in SHARES}
    return {**fixed, "smart turn": _pipecat, **ours, **scaled}


def _fixed(frames: int) -> Callable[[Mapping[str, Any], int], int]:
    return lambda pause, lasts: frames if frames <= lasts else -1


def _pipecat(pause: Mapping[str, Any], lasts: int) -> int:
    frames = _SOUND_ASK + _SOUND_LATE if pause["sound"] > 0.5 else _PIPECAT_LONGEST
    return frames if frames <= lasts else -1


def _ours(*, words: bool, share: float = 1.0) -> Callable[[Mapping[str, Any], int], int]:
    frame_ns = round(_FRAME_MS * MS)
    rules = EndRules()
    longest_ns = round(max(1.0, share) * rules.longest_ns)
    rules = replace(rules, unknown_ns=round(share * rules.unknown_ns), longest_ns=longest_ns)

    def decide(pause: Mapping[str, Any], lasts: int) -> int:
        end = EndOfTurn(rules)
        for n in range(1, lasts + 1):
            if n == _SOUND_ASK + _SOUND_LATE:
                end.sounds(end.pause, pause["sound"])
            if words and n == _ASK + _WORDS_LATE:
                end.words(pause["words"])
            if end.silence(n * frame_ns, frame_ns) is EndAction.END:
                return n
        return -1

    return decide


def _add(result: Result, kind: str, found: Sequence[Mapping[str, Any]]) -> None:
    for policy, decide in policies().items():
        cut, delays = 0, []
        for facts in found:
            early, delay_ms = outcome(facts, decide)
            cut += early
            if delay_ms is not None:
                delays.append(delay_ms)
        result.add(kind, policy, len(found), "%", cut_off=100 * cut / max(1, len(found)))
        if delays:
            waits = {f"delay_p{q}": quantile(delays, q / 100) for q in (50, 95)} | {"delay_mean": fmean(delays)}
            result.add(kind, policy, len(delays), "ms", **waits)


def outcome(facts: Mapping[str, Any], decide: Callable[[Mapping[str, Any], int], int]) -> tuple[bool, float | None]:
    """Whether the turn is cut off, and otherwise how many ms after its voice it ends."""
    voiced = np.array(facts["voiced"], bool)
    for pause in facts["pauses"]:
        again = np.flatnonzero(voiced[pause["at"] :])
        lasts = int(again[0]) if len(again) else len(voiced) - pause["at"]
        ends = decide(pause, lasts)
        if ends >= 0:
            return (True, None) if len(again) else (False, ends * _FRAME_MS)
    return False, None
