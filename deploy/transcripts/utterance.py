"""An utterance: what is said between two pauses, and how it is cut to be read as subtitles."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

LINE = 42
LINES = 2
LONGEST_S = 7.0
"""What viewers can read: two lines of 42 characters, no longer than 7 s (Netflix's and the BBC's rules agree)."""
_SHORTEST_S = 0.2
_STOPS = (".", "?", "!", "…", "。", "？", "！", "؟", "।")
_PAUSES = (",", ";", ":", "—", "、", "،")


@dataclass(frozen=True, slots=True)
class Said:
    """A word, or what stands for one, with its times from the start of the recording. `confidence`: 0…1."""

    text: str
    start_s: float
    end_s: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """What was said without a pause. `words`: in order, none where the recogniser does not know their times."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Said, ...] = ()
    language: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it stands in JSON; `from_json` reads it."""
        plain: dict[str, Any] = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3), "text": self.text}
        if self.language:
            plain["language"] = self.language
        if self.words:
            plain["words"] = [
                {"text": word.text, "start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3)}
                | ({} if word.confidence is None else {"confidence": round(word.confidence, 3)})
                for word in self.words
            ]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Utterance:
        """Raises KeyError and TypeError on what is none."""
        words = tuple(
            Said(str(word["text"]), float(word["start_s"]), float(word["end_s"]), word.get("confidence"))
            for word in plain.get("words", ())
        )
        return cls(
            float(plain["start_s"]), float(plain["end_s"]), str(plain["text"]), words, str(plain.get("language", ""))
        )


def parts(utterance: Utterance) -> tuple[Said, ...]:
    """Its words with the marks and spaces that follow them in the text, so that they join to it.

    Where the recogniser has no times of words the utterance's are shared out by length.
    """
    if utterance.words:
        return _as_written(utterance.text, utterance.words)
    pieces = re.findall(r"\S{1,40}\s*", utterance.text)
    whole = sum(map(len, pieces))
    found, at_s = [], utterance.start_s
    for piece in pieces:
        end_s = at_s + (utterance.end_s - utterance.start_s) * len(piece) / whole
        found.append(Said(piece, at_s, end_s))
        at_s = end_s
    return tuple(found)


def cues(utterance: Utterance) -> Iterator[Said]:
    """Pieces that can be read at once, cut where the text stops or pauses; each with its text in lines."""
    held: list[Said] = []
    for part in parts(utterance):
        if held and not _fits([*held, part]):
            cut = _cut(held)
            yield _cue(held[:cut])
            held = held[cut:]
        held.append(part)
    if held:
        yield _cue(held)


def _as_written(text: str, words: Sequence[Said]) -> tuple[Said, ...]:
    found: list[Said] = []
    at = 0
    for word in words:
        bare = word.text.strip()
        begin = text.find(bare, at)
        if begin < 0:  # the text was written anew, as digits for instance
            return tuple(replace(word, text=f"{word.text.strip()} ") for word in words)
        if found:
            found[-1] = replace(found[-1], text=found[-1].text + text[at:begin])
        else:
            bare = text[:begin] + bare
        at = begin + len(word.text.strip())
        found.append(replace(word, text=bare))
    found[-1] = replace(found[-1], text=found[-1].text + text[at:])
    return tuple(found)


def _lines(held: Sequence[Said]) -> list[str]:
    return textwrap.wrap(" ".join("".join(part.text for part in held).split()), LINE)


def _fits(held: Sequence[Said]) -> bool:
    return len(_lines(held)) <= LINES and held[-1].end_s - held[0].start_s <= LONGEST_S


def _cut(held: Sequence[Said]) -> int:
    """How many words to show: up to the last stop or else pause in the second half, all where there is none."""
    for marks in (_STOPS, _PAUSES):
        for count in range(len(held), len(held) // 2, -1):
            if held[count - 1].text.rstrip().endswith(marks):
                return count
    return len(held)


def _cue(held: Sequence[Said]) -> Said:
    return Said("\n".join(_lines(held)), held[0].start_s, max(held[-1].end_s, held[0].start_s + _SHORTEST_S))
