"""What `bench endofturn` lets people and machines say: turns with pauses inside them, by kind.

`people`: recordings of Debian's `pocketsphinx-testdata` with the pauses that their speakers made. All others are
synthetic, spoken by espeak-ng with a break of 0.3 to 1.5 s where a person might think; its melody before a break is
that of a clause that goes on, more regular than a person's.

Two splits share no sentence, no voice and no accent: settings are chosen on `CALIBRATE`, results are of `REPORT`.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
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
_DIGITS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Said:
    """One turn: [time] at 16 kHz, with the quiet before it and 3.5 s behind. `number`: among people's or synthetic
    ones.
    """

    kind: str
    number: int
    audio: Floats


@dataclass(frozen=True, slots=True)
class Split:
    """`parts`: what is said in a turn of a kind, cut where the speaker thinks. `seed`: of its random numbers."""

    seed: str
    accents: tuple[str, ...]
    variants: tuple[str, ...]
    parts: Callable[[str, random.Random], list[str]]
    people: bool


def turns(count: int, split: Split) -> Iterator[Said]:
    """`count` synthetic turns, kinds in turn, and those of people that are here; the same every time."""
    if split.people and PEOPLE.is_dir():
        for number, each in enumerate(human_recordings(PEOPLE)):
            yield Said("people", number, _framed(each.audio))
    if not shutil.which("espeak-ng"):
        return
    for number in range(count):
        rng = random.Random(f"{split.seed} {number}")
        kind = KINDS[number % len(KINDS)]
        parts = split.parts(kind, rng)
        text = parts[0]
        for part in parts[1:]:
            text += f' <break time="{rng.randint(300, 1500)}ms"/> {part}'
        yield Said(kind, number, _framed(_speak(text, split, rng)))


def _speak(text: str, split: Split, rng: random.Random) -> Floats:
    pace = ["-s", str(rng.randint(140, 190)), "-p", str(rng.randint(30, 70))]
    voices = [f"{accent}+{variant}" for accent in split.accents for variant in split.variants]
    command = ["espeak-ng", "-m", "-v", rng.choice(voices), *pace, "--stdout", text]
    return samples_of(subprocess.run(command, capture_output=True, check=True).stdout)


def _framed(audio: Floats) -> Floats:
    rng = np.random.default_rng(len(audio))
    whole = np.concatenate([np.zeros(round(_BEFORE_S * RATE)), audio, np.zeros(round(_AFTER_S * RATE))])
    framed: Floats = (whole + _HUM * rng.standard_normal(len(whole))).astype(np.float32)
    return framed


_PLACES = "France Boston Italy London Japan Canada Norway Berlin".split()  # noqa: SIM905
_THINGS = ("the kitchen light", "the radio", "a table for two", "the next train", "my calendar", "the front door")
_FOODS = "milk eggs bread butter apples rice coffee tomatoes cheese onions".split()  # noqa: SIM905


def _reported(kind: str, rng: random.Random) -> list[str]:
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


_CITIES = "Spain Chicago Rome Paris Sydney Mexico Dublin Vienna".split()  # noqa: SIM905
_OBJECTS = ("the bedroom lamp", "the television", "a room with a bath", "the last bus", "my messages", "the garage")
_GOODS = "paper pens glue tape sugar flour honey candles soap socks".split()  # noqa: SIM905
_NUMBERS = (
    ("You can call me at", (3, 3, 4)),
    ("The phone number is", (3, 4)),
    ("Her number is", (5, 3, 3)),
    ("Dial", (2, 2, 2, 2)),
    ("My card number is", (4, 4, 4, 4)),
    ("The code is", (3, 3)),
    ("The pin is", (2, 2)),
    ("Our account is", (4, 4)),
)
"""How the number is called and how people group its digits."""


def _calibrated(kind: str, rng: random.Random) -> list[str]:
    (place, other), thing = rng.sample(_CITIES, 2), rng.choice(_OBJECTS)
    if kind == "question":
        return rng.choice(
            (
                ["How many people live in", f"{place}?"],
                ["Where can I", f"rent a car in {place}?"],
                ["Is it true that", f"it snows in {place}?"],
                ["When does the museum open?"],
                ["Which is bigger,", f"{place} or {other}?"],
                ["How do you spell", "the name of your street?"],
                ["Did you find", f"{thing}?"],
                ["Why is the sky blue?"],
            )
        )
    if kind == "request":
        return rng.choice(
            (
                ["I want to know", f"where {thing} is."],
                [f"Turn off {thing}", "and close the windows."],
                ["Play some music", "by the Beatles."],
                ["Send a message", f"to my sister in {place}."],
                [f"Wake me up at {rng.choice(_DIGITS[5:])}."],
                ["Would you", f"find {thing} for me?"],
                [f"Book {thing} please."],
            )
        )
    if kind == "list":
        goods = rng.sample(_GOODS, rng.randint(2, 4))
        begin = rng.choice(("We have to buy", "Put on the list", "She asked for", "They sell"))
        return [f"{begin} {goods[0]},", *(f"{each}," for each in goods[1:-1]), f"and {goods[-1]}."]
    if kind == "number":
        begin, sizes = rng.choice(_NUMBERS)
        groups = [" ".join(rng.choices(_DIGITS, k=size)) for size in sizes]
        return [f"{begin} {groups[0]},", *(f"{group}," for group in groups[1:-1]), f"{groups[-1]}."]
    return rng.choice(
        (
            ["So, uh,", f"we had a cat in {place}."],
            ["I was going to say that", f"{thing} is too loud."],
            ["It was on Tuesday, or", "maybe on Wednesday."],
            [f"If you go to {place},", "take a coat with you."],
            [f"I like {place}, because", "the food is good."],
            ["Hmm,", f"{place} sounds good."],
            ["The thing is,", "I have no time."],
        )
    )


REPORT = Split("end of turn", ("en-us", "en-gb"), ("m1", "m3", "m7", "f1", "f2", "f4"), _reported, people=True)
CALIBRATE = Split(
    "calibrate",
    ("en-us-nyc", "en-gb-x-rp", "en-gb-scotland"),
    ("m2", "m4", "m5", "m6", "f3", "f5"),
    _calibrated,
    people=False,
)
