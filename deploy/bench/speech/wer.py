"""Word errors of recognisers as they stand in a pipeline, side by side: `bench wer`.

People and synthetic voices (said to be such), clean, in noise, over a telephone, from afar; every recogniser hears the
same. How time is counted says `wer_listening.py`, what words are `wer_text.py`. `… offline` is Whisper's own decode of
the whole recording at once with 30 s of context, without voice activity: what streaming is measured by;
`… greedy` keeps one hypothesis for final texts in place of two; `faster-whisper` is that package's decode with
whisper-base and its defaults (a beam of 5).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.journal import Journal
from thalweg.deploy.bench.peers import ask_peer
from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.rounds import LeftOut
from thalweg.deploy.bench.speech.wer_listening import Clock, Engine, Recognised, listen, turns
from thalweg.deploy.bench.speech.wer_sets import Utterance, conditions, heard, people, synthetic
from thalweg.deploy.bench.speech.wer_text import words
from thalweg.models.recipes.asr.measure import word_errors
from thalweg.models.speech.wav import write_wav
from thalweg.models.speech.whisper.decode import DecodeRequest
from thalweg.models.speech.whisper.model import WhisperModel, find_whisper
from thalweg.stages.speech.fastconformer import FastConformer
from thalweg.stages.speech.pocketsphinx import PocketSphinx
from thalweg.stages.speech.whisper import Whisper

FASTER = "faster-whisper"
SYSTEMS = (
    "whisper-base",
    "whisper-base greedy",
    "whisper-base offline",
    "whisper-tiny.en",
    "whisper-tiny.en offline",
    FASTER,
    "pocketsphinx",
    "fastconformer-en-4m",
)
_METHOD = "wer 2"
_DRAWS = 2_000
_QUICK = 2


def measure(
    result: Result, quick: bool, model: str | None = None, json_path: Path | None = None, minutes: float | None = None
) -> None:
    """Rows per recogniser and condition. `model`: these recognisers only, with commas between."""
    systems = tuple(model.split(",")) if model else SYSTEMS
    if wrong := set(systems) - set(SYSTEMS):
        raise BenchError(f"bench wer knows no {', '.join(sorted(wrong))}: it has {', '.join(SYSTEMS)}")
    journal = Journal(
        json_path.with_suffix(".jsonl") if json_path is not None else None,
        _METHOD,
        minutes=minutes,
        rounds=result.rounds,
    )
    spoken = {"people": people(), "synthetic": synthetic()}
    for name, utterances in spoken.items():
        if not utterances:
            missing = "pocketsphinx-testdata" if name == "people" else "espeak-ng flite"
            result.notes.append(f"{name} are left out: apt-get install {missing}")
    hear = {system: listener(system) if system != FASTER else partial(_faster, result) for system in systems}
    for condition in conditions():
        for name, utterances in spoken.items():
            case = f"{name}, {condition}"
            for system in systems:
                if system in result.rounds.left_out:
                    continue
                try:
                    rows = _rows(
                        journal, case, system, hear[system], utterances[: _QUICK if quick else None], condition
                    )
                except LeftOut as error:
                    result.rounds.leave_out(system, str(error))
                    continue
                if rows:
                    _add(result, case, system, rows)
    if journal.left:
        result.notes.append(f"{journal.left} utterances are left: the same command goes on with them")


def _rows(
    journal: Journal,
    case: str,
    system: str,
    hear: Callable[[Utterance], Recognised],
    utterances: Sequence[Utterance],
    condition: str,
) -> list[Mapping[str, Any]]:
    rows = []
    for number, utterance in enumerate(heard(list(utterances), condition)):
        found = journal.find(
            f"{system}: {case} {number}",
            lambda utterance=utterance: (
                asdict(hear(utterance))  # type: ignore[misc]
                | {"said": utterance.said, "begin_s": utterance.begin_s}
            ),
        )
        if found is not None:
            errors, count = word_errors(" ".join(words(found["said"])), " ".join(words(found["text"])))
            rows.append(found | {"errors": errors, "words": count})
    return rows


def _faster(result: Result, utterance: Utterance) -> Recognised:
    """faster-whisper's own decode of the whole recording, in its defaults but for the language. Raises LeftOut."""
    with tempfile.TemporaryDirectory() as folder:
        recording, task = Path(folder) / "heard.wav", Path(folder) / "task.json"
        write_wav(recording, utterance.audio, 16_000)
        about = {"model": str(find_whisper("whisper-base")), "recordings": [str(recording)]}
        task.write_text(json.dumps(about | {"batch": 0, "beam": 5, "threads": 1}), encoding="utf-8")
        found = ask_peer("pipecat-voice", "speech/programs/faster_whisper_texts.py", [str(task)])
    result.versions[FASTER] = found["version"]
    return Recognised(found["texts"][0], None, found["processor_s"], len(utterance.audio) / 16_000, 0, 0)


def listener(system: str) -> Callable[[Utterance], Recognised]:
    """What hears with one of SYSTEMS. Models are loaded when the first utterance comes, and stay."""
    name, _, way = system.partition(" ")
    held: dict[str, Any] = {}

    def whisper() -> WhisperModel:
        if "model" not in held:
            held["model"] = WhisperModel(find_whisper(name))
        model: WhisperModel = held["model"]
        return model

    def whole(utterance: Utterance) -> Recognised:
        model = whisper()
        clock = Clock()
        engine = Engine(model, clock)
        job = engine.order(lambda: DecodeRequest(samples=utterance.audio, at_least_s=30, careful=True))
        return Recognised(job.result().text, None, clock.engine_s, len(utterance.audio) / 16_000, 0, 0)

    def streamed(utterance: Utterance) -> Recognised:
        clock = Clock()
        stage = Whisper(name, beam=1) if way == "greedy" else Whisper(name)
        stage._share = Engine(whisper(), clock)  # type: ignore[assignment]  # in place of the one of this process
        return listen(stage, turns(utterance.audio), clock)

    def plain(utterance: Utterance) -> Recognised:
        if "stage" not in held:
            held["stage"] = PocketSphinx() if name == "pocketsphinx" else FastConformer(name)
            held["stage"].open(None)
        return listen(held["stage"], turns(utterance.audio))

    if not name.startswith("whisper"):
        return plain
    return whole if way == "offline" else streamed


def _add(result: Result, case: str, system: str, rows: Sequence[Mapping[str, Any]]) -> None:
    counts = np.array([(row["errors"], row["words"]) for row in rows])
    drawn = counts[np.random.default_rng(0).integers(0, len(counts), (_DRAWS, len(counts)))].sum(axis=1)
    low, high = np.percentile(100 * drawn[:, 0] / np.maximum(1, drawn[:, 1]), (2.5, 97.5))
    rate = 100 * counts[:, 0].sum() / max(1, counts[:, 1].sum())
    result.add(case, system, len(rows), "%", word_errors=float(rate), low_95=float(low), high_95=float(high))
    speech_s = sum(row["speech_s"] for row in rows)
    cpu = sum(row["cpu_s"] for row in rows) / max(speech_s, 1e-9)
    result.add(f"{case}: cost", system, len(rows), "s per s of speech", processor=cpu)
    first = [1e3 * (row["first_s"] - row["begin_s"]) for row in rows if row["first_s"] is not None]
    if first:
        result.add(f"{case}: partials", system, len(first), "ms", first_partial_p50=float(np.median(first)))
        shown = sum(len(words(row["text"])) for row in rows)
        changed = sum(row["changed"] for row in rows)
        result.add(f"{case}: partials", system, len(rows), "edits/word", edits=changed / max(1, shown))
        result.add(
            f"{case}: partials", system, len(rows), "per s", partials=sum(r["partials"] for r in rows) / speech_s
        )
