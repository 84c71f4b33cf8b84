"""What a decoder has found so far: tokens with their frames, and the text and words they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.models.speech.decoding.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Emitted:
    """One token: `frame` is the encoder frame it came with, `log_prob` how sure the decoder was."""

    token: int
    frame: int
    log_prob: float


@dataclass(frozen=True, slots=True)
class RecognisedWord:
    """A word; `start_s`, `end_s` from the start of the utterance, `confidence` 0…1 (geometric mean of its tokens)."""

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Guess:
    """What was said so far. `stable_chars`: leading characters that more audio can no longer change."""

    text: str
    stable_chars: int
    words: tuple[RecognisedWord, ...] = ()


def words_of(emitted: Sequence[Emitted], tokens: Tokens, frame_s: float) -> tuple[RecognisedWord, ...]:
    """Group tokens into words."""
    groups: list[list[Emitted]] = []
    for one in emitted:
        if not groups or tokens.begins_word(one.token):
            groups.append([])
        groups[-1].append(one)
    words = []
    for group in groups:
        text = tokens.text([one.token for one in group]).strip()
        spoken = [one for one in group if tokens.text([one.token]).strip()] or group
        if text:
            mean = sum(one.log_prob for one in group) / len(group)
            words.append(
                RecognisedWord(
                    text, spoken[0].frame * frame_s, (spoken[-1].frame + 1) * frame_s, min(1.0, 2.718281828**mean)
                )
            )
    return tuple(words)


def whole_words(emitted: Sequence[Emitted], tokens: Tokens) -> int:
    """How many leading tokens belong to words that another word already follows."""
    starts = [i for i, one in enumerate(emitted) if tokens.begins_word(one.token)]
    return starts[-1] if starts else 0
