"""From the end of a question to the first audible answer, at real-time pace, with the embedded models.

Twenty questions are spoken by the demo's own voice (synthetic speech), one after the other, six seconds apart (so that
each answer is complete before the next question), into the pipeline of `deploy/examples/voice_turn.yaml`. Where the
time goes: the silence that must pass before a turn counts as over, then recognition, the language model and speech
synthesis, each from the milestone before. The same questions are heard by each of RECOGNISERS, one after the other in
one run; or, where models are named, answered by each of those.
"""

from __future__ import annotations

import asyncio
import tempfile
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np

from thalweg.deploy.bench.result import OURS, Result, quantile
from thalweg.deploy.bench.rounds import LIMIT_S
from thalweg.deploy.ops.observing.stats import stats_of
from thalweg.deploy.runtime.worker import Worker
from thalweg.models import ModelStore
from thalweg.models.speech.piper import PiperVoice
from thalweg.models.speech.wav import write_wav
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.observing.turn import Turn

PAUSE_S = 6.0
SILENCE_MS = 300
RECOGNISERS = ("whisper-base", "pocketsphinx")
ENDS = ("silence", "understood")
"""What ends a turn: SILENCE_MS of silence, or what is known by then."""
QUESTIONS = (
    "What is the capital of France?",
    "Why is the sky blue?",
    "How many days are in a week?",
    "What is the largest planet?",
    "Who wrote the book?",
    "How far away is the moon?",
    "What color is the grass?",
    "How do plants make food?",
    "What is the boiling point of water?",
    "How many people live in China?",
    "What is a good name for a cat?",
    "Where do penguins live?",
    "What do cows eat?",
    "How old is the earth?",
    "What is the fastest animal?",
    "Tell me a story about a dog.",
    "What is the meaning of life?",
    "How can I learn to cook?",
    "What time do people eat lunch?",
    "Why do birds fly south?",
)


def speak_questions(path: Path, questions: tuple[str, ...]) -> None:
    """Write the questions, each followed by silence, to a WAV file."""
    store = ModelStore()
    model, config = store.pull("piper-en-us-joe")
    voice = PiperVoice(model, config)
    pause = np.zeros(round(PAUSE_S * voice.rate), np.float32)
    spoken = [part for question in questions for part in (voice.speak(question), pause)]
    samples = np.concatenate([pause[: voice.rate // 2], *spoken])
    write_wav(path, samples, voice.rate)


def measure(result: Result, quick: bool, model: str | None = None) -> None:
    """Fill in the rows of a case for each of `ways`: `file`, `file understood`, `file pocketsphinx`. `model`: the case
    `file` with these language models instead, with commas between: `file NAME`.
    """
    compared = ways("file")
    if model:
        compared = {f"file {name}": compared["file"] | {"model": name} for name in model.split(",")}
    for case, settings in compared.items():
        _measure(result, case, settings, QUESTIONS[:2] if quick else QUESTIONS)


def ways(where: str) -> dict[str, dict[str, str]]:
    """What is compared: the case's name → variables. Understood ends of turns with the default recogniser only."""
    found = {}
    for recogniser in RECOGNISERS:
        for end in ENDS if recogniser == RECOGNISERS[0] else ENDS[:1]:
            named = [where, *([recogniser] if recogniser != RECOGNISERS[0] else []), *([end] if end != ENDS[0] else [])]
            silence = f"{SILENCE_MS}ms" if end == ENDS[0] else "500ms"
            found[" ".join(named)] = {"recogniser": recogniser, "end_of_turn": end, "silence": silence}
    return found


def _measure(result: Result, case: str, variables: dict[str, str], questions: tuple[str, ...]) -> None:
    example = files("thalweg.deploy").joinpath("examples/voice_turn.yaml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "questions.wav"
        result.rounds.expect(2)
        result.rounds.ours(
            f"{case}: {len(questions)} questions are spoken", lambda: speak_questions(recording, questions)
        )
        answer = str(Path(folder) / "answer.wav")
        settings = {"input": str(recording), "output": answer, **variables}
        spec = load_spec(example, "voice_turn.yaml", settings=settings)
        worker = Worker(spec.graph)
        limit_s = LIMIT_S + 3 * (PAUSE_S + 4) * len(questions)
        result.rounds.ours(
            f"{case}: {len(questions)} questions are answered", lambda: asyncio.run(worker.run()), limit_s
        )
    turns = [turn for turn in worker.turns.turns.values() if turn.latency_ns("first_audio") is not None]
    if len(turns) != len(questions) or worker.problem_count:
        result.notes.append(
            f"{case}: {len(questions)} questions, {len(turns)} answered, {worker.problem_count} errors: "
            + "; ".join(problem.message for problem in worker.problems)
        )
    names = {"first_partial": "first_partial", "final_transcript": "final"}
    for milestone in ("first_partial", "final_transcript", "first_token", "first_audio"):
        values = [value / 1e6 for turn in turns if (value := turn.latency_ns(milestone)) is not None]
        name = names.get(milestone, milestone)
        if not values:
            result.notes.append(f"{case}: no turn has a {name.replace('_', ' ')}")
            continue
        result.add(
            case,
            OURS,
            len(values),
            "ms",
            **{f"{name}_p50": quantile(values, 0.5), f"{name}_p95": quantile(values, 0.95)},
        )
    drafts = {kind: count for kind, count in stats_of(worker)["stages"]["chat"]["counts"].items() if "draft" in kind}
    result.add(case, OURS, len(turns), "count", **drafts)
    if turns and variables["end_of_turn"] == ENDS[0]:
        _shares(result, case, turns)


def _shares(result: Result, case: str, turns: list[Turn]) -> None:
    names = ("recognition", "language_model", "speech_synthesis")
    parts: dict[str, list[float]] = {"end_of_turn_silence": [SILENCE_MS] * len(turns)}
    for name, (before, after) in zip(
        names, pairwise(("speech_end", "final_transcript", "first_token", "first_audio")), strict=True
    ):
        parts[name] = [
            (
                (turn.latency_ns(after) or 0)
                - (SILENCE_MS * 1e6 if before == "speech_end" else turn.latency_ns(before) or 0)
            )
            / 1e6
            for turn in turns
        ]
    whole = quantile([(turn.latency_ns("first_audio") or 0) / 1e6 for turn in turns], 0.5)
    for name, values in parts.items():
        middle = quantile(values, 0.5)
        result.add(case, OURS, len(values), "ms", **{f"{name}_p50": middle})
        result.add(case, OURS, len(values), "share", **{f"{name}_share": middle / whole})
