"""What is said: sentences out of patterns, WordNet's examples of how words are used, and runs of words.

Patterns are what people ask and order, with numbers, times and names. WordNet (Debian's `wordnet-base`, free to use
with its copyright notice) has 46,000 short sentences that people might really say. Runs of words from a pronouncing
dictionary, the short ones more often, let every sound follow every other. Training and test are split by sentence: one
whose hash falls into the test share is never trained on.
"""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

TEST_SHARE = 0.03

_ONES = "one two three four five six seven eight nine".split()  # noqa: SIM905 – one word after another
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()  # noqa: SIM905
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_FILLERS = {
    "place": "france germany italy spain japan china brazil canada egypt norway london paris berlin rome boston",
    "thing": "door window lamp kitchen car phone radio television book table garden street train ticket coffee",
    "person": "anna john peter maria david susan michael laura robert emma my mother my brother the doctor",
    "act": "open close find show move check start stop read write send call bring carry clean paint repair",
    "kind": "big small red green blue old new warm cold quick slow bright dark quiet heavy long short good",
    "when": "now today tomorrow tonight this morning next week on monday on friday at noon in the evening",
    "animal": "dog cat horse bird fish cow sheep mouse lion bear rabbit duck",
}
_PATTERNS = (
    "what is the capital of {place}",
    "how far is it from {place} to {place}",
    "please {act} the {thing} {when}",
    "{act} the {kind} {thing}",
    "turn on the {thing} in the {thing}",
    "set a timer for {number} minutes",
    "wake me at {hour} {when}",
    "call {person} {when}",
    "the {kind} {animal} and the {kind} {animal} are in the {thing}",
    "how many {animal} can you see",
    "what is {number} plus {number}",
    "it costs {number} dollars and {number} cents",
    "my number is {digits}",
    "does {person} have a {kind} {thing}",
    "i would like to {act} a {thing} for {person}",
    "will it rain in {place} {when}",
    "what does the sign on the {thing} say",
    "is there a {kind} {thing} near the {thing}",
    "tell {person} that the {thing} is {kind}",
    "why is the {thing} so {kind} {when}",
)


class Sentences:
    """An endless supply.

    `words`: a pronouncing dictionary (`word phones …` a line) or a plain list of words; `extra`: sentences of your own,
    one a line, or a folder with WordNet's `data.*`. Where there are such, half of what is said comes from them.
    """

    def __init__(self, words: Path | None, extra: Path | None, seed: int, test: bool = False) -> None:
        self._random = random.Random(f"text {seed} {test}")
        self._test = test
        self._words = _read_words(words) if words else " ".join(_FILLERS.values()).split()
        self._extra = _read_sentences(extra) if extra else []

    def next(self) -> str:
        """A sentence of this split: lower case, letters, spaces and apostrophes."""
        while True:
            kind = self._random.random()
            if self._extra and kind < 0.5:
                sentence = self._random.choice(self._extra)
            elif kind < 0.9:
                sentence = self._pattern()
            else:
                sentence = " ".join(self._word() for _ in range(self._random.randint(2, 9)))
            if is_test(sentence) == self._test:
                return sentence

    def _pattern(self) -> str:
        filled = self._random.choice(_PATTERNS)
        while found := re.search(r"\{(\w+)\}", filled):
            filled = filled.replace(found[0], self._fill(found[1]), 1)
        return filled

    def _fill(self, kind: str) -> str:
        if kind == "number":
            return number(self._random.randint(1, 999))
        if kind == "hour":
            return f"{number(self._random.randint(1, 12))} {self._random.choice(['thirty', 'fifteen', 'o clock'])}"
        if kind == "digits":
            return " ".join(self._random.choice(["zero", *_ONES]) for _ in range(self._random.randint(4, 8)))
        return self._random.choice(_FILLERS[kind].split())

    def _word(self) -> str:
        return self._words[int(len(self._words) * self._random.random() ** 3)]


def is_test(sentence: str) -> bool:
    """Whether a sentence belongs to the test share."""
    return int(hashlib.sha256(sentence.encode()).hexdigest()[:8], 16) < TEST_SHARE * 2**32


def normalise(text: str) -> str:
    """Lower case, letters, spaces and apostrophes; numbers up to 999 in words."""
    spoken = re.sub(r"\d+", lambda m: number(int(m[0])) if 0 < int(m[0]) < 1000 else " ", text.lower())
    return " ".join(re.sub(r"[^a-z' ]", " ", spoken.replace("’", "'")).split())


def number(value: int) -> str:
    """1…999 in words."""
    hundreds, rest = divmod(value, 100)
    words = [f"{_ONES[hundreds - 1]} hundred"] if hundreds else []
    if rest >= 20:
        words.append(" ".join([_TENS[rest // 10 - 2]] + ([_ONES[rest % 10 - 1]] if rest % 10 else [])))
    elif rest:
        words.append(_TEENS[rest - 10] if rest >= 10 else _ONES[rest - 1])
    return " ".join(words)


def wordnet_examples(folder: Path) -> list[str]:
    """What stands in quotation marks in the glosses of WordNet's files, normalised, two to fourteen words each."""
    found = set()
    for path in sorted(folder.glob("data.*")):
        for line in path.read_text(errors="ignore", encoding="utf-8").splitlines():
            for example in re.findall(r'"([^"]+)"', line.partition("|")[2]):
                if not re.search(r"\d", example) and 2 <= len((said := normalise(example)).split()) <= 14:
                    found.add(said)
    if not found:
        raise FileNotFoundError(f"{folder} has no example sentences in data.*: apt-get install wordnet-base")
    return sorted(found)


def pronunciations(path: Path) -> dict[str, list[str]]:
    """The phones of every word of a pronouncing dictionary, without stress; of several ways to say it the first."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
        if line.strip():
            word, *phones = line.lower().split()
            found.setdefault(word, [phone.rstrip("012") for phone in phones])
    return found


def _read_sentences(path: Path) -> list[str]:
    if path.is_dir():
        return wordnet_examples(path)
    return [line for line in map(normalise, path.read_text(encoding="utf-8").splitlines()) if line]


def _read_words(path: Path) -> list[str]:
    words = {
        line.split()[0].lower()
        for line in path.read_text(encoding="utf-8", errors="ignore").splitlines()
        if line.split()
    }
    return sorted((w for w in words if re.fullmatch(r"[a-z]+('[a-z]+)?", w) and len(w) < 15), key=lambda w: (len(w), w))
