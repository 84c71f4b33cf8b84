"""What `bench endofturn` lets people and machines say: turns with pauses inside them, by kind.

`people`: recordings of Debian's `pocketsphinx-testdata` with the pauses that their speakers made. All others are
synthetic, spoken by espeak-ng with a break of 0.3 to 1.5 s where a person might think; its melody before a break is
that of a clause that goes on, more regular than a person's.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thalweg.deploy.bench.speech.wer_sets import PEOPLE
from thalweg.models.recipes.asr.corpus.data import human_recordings
from thalweg.models.recipes.asr.corpus.voices import samples_of

RATE = 16_000
Floats = NDArray[np.float32]
KINDS = ("question", "request", "list", "number", "thinking")
_BEFORE_S, _AFTER_S = 0.5, 3.5
_HUM = 3e-4
_VARIANTS = ("m1", "m3", "m7", "f1", "f2", "f4")
_VOICES = tuple(f"{accent}+{variant}" for accent in ("en-us", "en-gb") for variant in _VARIANTS)
_PLACES = "France Boston Italy London Japan Canada Norway Berlin".split()  # noqa: SIM905
_THINGS = ("the kitchen light", "the radio", "a table for two", "the next train", "my calendar", "the front door")
_FOODS = "milk eggs bread butter apples rice coffee tomatoes cheese onions".split()  # noqa: SIM905
_DIGITS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Said:
    """One turn: [time] at 16 kHz, with the quiet before it and 3.5 s behind. `number`: among people's or synthetic
    ones.
    """

    kind: str
    number: int
    audio: Floats


def turns(count: int) -> Iterator[Said]:
    """`count` synthetic turns, kinds in turn, and those of people that are here; the same every time."""
    if PEOPLE.is_dir():
        for number, each in enumerate(human_recordings(PEOPLE)):
            yield Said("people", number, _framed(each.audio))
    if not shutil.which("espeak-ng"):
        return
    for number in range(count):
        rng = random.Random(f"end of turn {number}")
        kind = KINDS[number % len(KINDS)]
        parts = _parts(kind, rng)
        text = parts[0]
        for part in parts[1:]:
            text += f' <break time="{rng.randint(300, 1500)}ms"/> {part}'
        yield Said(kind, number, _framed(_speak(text, rng)))


def _parts(kind: str, rng: random.Random) -> list[str]:
    """What is said, cut where the speaker thinks."""
    place, thing = rng.choice(_PLACES), rng.choice(_THINGS)
    if kind == "question":
        return rng.choice(
            (
                ["What is the capital of", f"{place}?"],
                ["How far is it from here", f"to {place}?"],
                ["Can you tell me", f"when the train to {place} leaves?"],
                [f"What time is it in {place}?"],
                [f"Do you know {thing}?"],
                ["Who was the first", "president of the United States?"],
            )
        )
    if kind == "request":
        return rng.choice(
            (
                ["I would like to", f"see {thing}."],
                [f"Please tell me about {thing}", f"and about {place}."],
                ["Could you", f"show me {thing} please?"],
                [f"Set a timer for {rng.choice(_DIGITS[2:])} minutes."],
                ["Remind me tomorrow", f"to call my brother in {place}."],
            )
        )
    if kind == "list":
        foods = rng.sample(_FOODS, 3)
        return [f"I need {foods[0]},", f"{foods[1]},", f"and {foods[2]}."]
    if kind == "number":
        groups = [" ".join(rng.choices(_DIGITS, k=size)) for size in (3, 3, 2)]
        return [f"My number is {groups[0]},", f"{groups[1]},", f"{groups[2]}."]
    return rng.choice(
        (
            ["Well, um,", f"I was in {place} last year."],
            ["I think that", f"{thing} is broken because", "it makes a noise."],
            ["Let me see,", f"maybe we should go to {place}."],
            [f"{place} is nice, but", "it rains too much there."],
        )
    )


def _speak(text: str, rng: random.Random) -> Floats:
    pace = ["-s", str(rng.randint(140, 190)), "-p", str(rng.randint(30, 70))]
    command = ["espeak-ng", "-m", "-v", rng.choice(_VOICES), *pace, "--stdout", text]
    return samples_of(subprocess.run(command, capture_output=True, check=True).stdout)


def _framed(audio: Floats) -> Floats:
    rng = np.random.default_rng(len(audio))
    whole = np.concatenate([np.zeros(round(_BEFORE_S * RATE)), audio, np.zeros(round(_AFTER_S * RATE))])
    framed: Floats = (whole + _HUM * rng.standard_normal(len(whole))).astype(np.float32)
    return framed
