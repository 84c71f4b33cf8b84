"""Whisper's tokens: byte-level BPE, with special ones for languages, tasks and times.

The vocabulary is a list in the order of the token numbers. Of a byte-level BPE that is all there is to know: a merge
has the number of what it makes, and the lower one is done first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.bounded import read_text_at_most

_PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
_BYTES_OF_TEXT = [*range(33, 127), *range(161, 173), *range(174, 256)]
TIME_STEP_S = 0.02
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3041, 0x9FFF),  # Japanese, Chinese
)
_OPENING = "\"'“‘«([{¿¡-"


def _alphabet() -> dict[int, str]:
    """GPT-2's printable stand-ins for bytes."""
    others = [byte for byte in range(256) if byte not in _BYTES_OF_TEXT]
    return {b: chr(b) for b in _BYTES_OF_TEXT} | {b: chr(256 + i) for i, b in enumerate(others)}


_STAND_IN = _alphabet()
_BYTE = {stand_in: byte for byte, stand_in in _STAND_IN.items()}


class Vocabulary:
    """Tokens by number. Raises ModelError where these are not the tokens of a Whisper model."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._numbers = {token: number for number, token in enumerate(tokens)}
        self.end = self.special("endoftext")
        self.start = self.special("startoftranscript")
        self.previous = self.special("startofprev")
        self.no_times = self.special("notimestamps")
        self.first_time = self.no_times + 1

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Of the folder of a CTranslate2 model: `vocabulary.json`, or `vocabulary.txt`."""
        for name in ("vocabulary.json", "vocabulary.txt"):
            path = folder / name
            if path.exists():
                try:
                    text = read_text_at_most(path)
                    tokens = json.loads(text) if name.endswith("json") else text.removesuffix("\n").split("\n")
                except (OSError, ValueError, RecursionError) as error:
                    raise ModelError(f"{path} cannot be read: {error}") from None
                return cls(tokens)
        raise ModelError(f"{folder} holds no vocabulary.txt or vocabulary.json: it is not a whole Whisper model")

    def special(self, name: str) -> int:
        """The number of `<|name|>`. Raises ModelError where there is none."""
        number = self._numbers.get(f"<|{name}|>")
        if number is None:
            raise ModelError(f"this vocabulary has no <|{name}|>: it is not that of a Whisper model")
        return number

    def languages(self) -> tuple[str, ...]:
        """Codes of the languages it has tokens for, whether or not the model was trained on them."""
        last = self.special("translate")
        return tuple(token[2:-2] for token in self._tokens[self.start + 1 : last])

    def is_text(self, token: int) -> bool:
        """Whether it is neither a time nor another special token."""
        return token < self.end

    def time_s(self, token: int) -> float | None:
        """Seconds from the start of the audio, where the token is a time."""
        return (token - self.first_time) * TIME_STEP_S if token >= self.first_time else None

    def text(self, tokens: Sequence[int]) -> str:
        """What the text tokens among `tokens` say, with the space before the first word. Broken characters are �."""
        stand_ins = "".join(self._tokens[token] for token in tokens if self.is_text(token))
        return bytes(_BYTE.get(each, 63) for each in stand_ins).decode("utf-8", "replace")

    def encode(self, text: str) -> list[int]:
        """Text as tokens."""
        found: list[int] = []
        for piece in _PIECES.findall(text):
            parts = [_STAND_IN[byte] for byte in piece.encode()]
            while len(parts) > 1:
                merged = [self._numbers.get(a + b, len(self._tokens)) for a, b in pairwise(parts)]
                at = merged.index(min(merged))
                if merged[at] == len(self._tokens):
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            found += [self._numbers[part] for part in parts]
        return found

    def words(self, tokens: Sequence[int]) -> list[list[int]]:
        """The text tokens grouped into words: a word begins with a space, or with a letter of a script without them.

        Punctuation belongs to the word before it.
        """
        groups: list[list[int]] = []
        for unit in self._characters(tokens):
            said = self.text(unit)
            begins = said.startswith(" ") and (not _is_punctuation(said) or said.strip()[:1] in _OPENING)
            after_space = bool(groups) and self.text(groups[-1]) == " "
            if groups and (after_space or not (begins or _is_word_by_itself(said))):
                groups[-1] += unit
            else:
                groups.append(list(unit))
        return groups

    def _characters(self, tokens: Sequence[int]) -> list[list[int]]:
        """Tokens, those together that make up one character."""
        units: list[list[int]] = []
        broken = False
        for token in tokens:
            if broken:
                units[-1].append(token)
            else:
                units.append([token])
            broken = self.text(units[-1]).endswith("�") and len(units[-1]) < 4
        return units


def _is_punctuation(text: str) -> bool:
    return not any(c.isalnum() for c in text) and text.strip() not in ("&", "+", "$", "£", "€", "#", "=", "<", ">", "@")


def _is_word_by_itself(text: str) -> bool:
    """Of a script that puts no spaces between words."""
    first = ord(text.strip()[:1] or " ")
    return any(low <= first <= high for low, high in _WITHOUT_SPACES)
