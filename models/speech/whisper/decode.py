"""One decode: a stretch of audio and what is known of it in, words with times and confidence out.

CTranslate2's encoder takes any length, and costs what that is. Too little silence behind the audio makes the decoder
repeat itself, so a second follows it, and `at_least` is the shortest length in all. Lengths are whole seconds: the
window that audio is decoded in depends on that audio only, and those of one length form one batch. Sums over a batch
equal those of each alone, so that a text never depends on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from thalweg.models.errors import ModelError
from thalweg.models.speech.whisper.guards import is_monotonous, is_silence, loop, most_tokens
from thalweg.models.speech.whisper.mel import FRAMES_PER_S, RATE, Floats, log_mel
from thalweg.models.speech.whisper.model import WhisperModel

LONGEST_S = 30
_BEHIND_S = 1.0
_MOST_PREVIOUS = 200
_PREFIX_STEP = 16
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word as it is written, with its punctuation and the space before it. Seconds from the start of the audio."""

    text: str
    tokens: tuple[int, ...]
    start_s: float
    end_s: float
    confidence: float

    @property
    def key(self) -> str:
        """Without punctuation and case."""
        return "".join(c for c in self.text.casefold() if c.isalnum())


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What is to be decoded. `samples`: [time] at 16 kHz, at most 29 s of them count.

    `prefix`: tokens that the text must begin with; `previous`: what was said before, or may come up; `language`: a
    code, or `auto`; `task`: `transcribe` or `translate`; `at_least_s`: length of audio and silence; `careful`: what
    goes round in circles is decoded again with as much context as there can be.
    """

    samples: Floats
    prefix: tuple[int, ...] = ()
    previous: tuple[int, ...] = ()
    language: str = "en"
    task: str = "transcribe"
    at_least_s: float = 8.0
    beam: int = 1
    careful: bool = False

    @property
    def audio_s(self) -> float:
        """How long it is."""
        return len(self.samples) / RATE

    @property
    def window_s(self) -> int:
        """How long it is with the silence behind it."""
        return min(LONGEST_S, math.ceil(max(self.audio_s + _BEHIND_S, self.at_least_s)))

    @property
    def shape(self) -> tuple[object, ...]:
        """Those with the same can be decoded in one batch."""
        return self.window_s, self.most, min(len(self.previous), _MOST_PREVIOUS), self.language, self.task, self.beam

    @property
    def most(self) -> int:
        """How many tokens may come of it, in steps: one for all of a batch, and yet that of each alone."""
        return most_tokens(self.window_s) + _PREFIX_STEP * math.ceil(len(self.prefix) / _PREFIX_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """What a decode found. `sure`: it may be shown; one that went round in circles is cut and not sure."""

    words: tuple[HeardWord, ...]
    language: str
    no_speech: float
    log_prob: float
    sure: bool = True

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(word.text for word in self.words).strip()


def check_language(model: WhisperModel, language: str) -> None:
    """Raises ModelError where the model does not know it."""
    if language == AUTO and model.multilingual:
        return
    known = model.vocabulary.languages() if model.multilingual else ("en",)
    if language not in known:
        if not model.multilingual:
            raise ModelError(
                f"{model.folder.name} knows English only, language {language!r} was asked for: take whisper-base"
            )
        raise ModelError(f"language {language!r} is none of {model.folder.name}: auto, {', '.join(known)}")


def decode(model: WhisperModel, asks: Sequence[DecodeRequest]) -> list[Hypothesis]:
    """Each of `asks`, which are all of one shape."""
    found = _once(model, asks)
    for i, (ask, hypothesis) in enumerate(zip(asks, found, strict=True)):
        if ask.careful and not hypothesis.sure and ask.window_s < LONGEST_S:
            found[i] = _once(model, [replace(ask, at_least_s=LONGEST_S)])[0]
    return found


def _once(model: WhisperModel, asks: Sequence[DecodeRequest]) -> list[Hypothesis]:
    frames = asks[0].window_s * FRAMES_PER_S
    encoded = model.encode([log_mel(ask.samples, frames, model.bins) for ask in asks])
    languages = _languages(model, encoded, asks)
    prompts = [_prompt(model, ask, language) for ask, language in zip(asks, languages, strict=True)]
    most = len(prompts[0]) - len(asks[0].prefix) + asks[0].most
    found = model.generate(encoded, prompts, most, asks[0].beam)
    texts = [_text(model, ask, tokens) for ask, (tokens, _, _) in zip(asks, found, strict=True)]
    words = _words(model, encoded, asks, languages, texts)
    return [
        _judged(asks[i], Hypothesis(words=words[i], language=languages[i], no_speech=silent, log_prob=log_prob))
        for i, (_, log_prob, silent) in enumerate(found)
    ]


def _languages(model: WhisperModel, encoded: Any, asks: Sequence[DecodeRequest]) -> list[str]:
    if not model.multilingual or all(ask.language != AUTO for ask in asks):
        return [ask.language for ask in asks]
    likely = model.languages(encoded)
    return [
        max(p, key=p.__getitem__) if ask.language == AUTO else ask.language for ask, p in zip(asks, likely, strict=True)
    ]


def _start(model: WhisperModel, task: str, language: str) -> list[int]:
    special = model.vocabulary.special
    return [model.vocabulary.start, *([special(language), special(task)] if model.multilingual else [])]


def _prompt(model: WhisperModel, ask: DecodeRequest, language: str) -> list[int]:
    previous = list(ask.previous[-_MOST_PREVIOUS:])
    before = [model.vocabulary.previous, *previous] if previous else []
    forced = [model.vocabulary.first_time, *ask.prefix] if ask.prefix else []
    return [*before, *_start(model, ask.task, language), *forced]


def _text(model: WhisperModel, ask: DecodeRequest, tokens: Sequence[int]) -> list[int]:
    """The text tokens, but for those that by their own time stamps begin behind the audio."""
    kept: list[int] = []
    most = most_tokens(ask.audio_s) + len(ask.prefix)
    for token in tokens[:most]:
        time_s = model.vocabulary.time_s(token)
        if time_s is not None and kept and len(kept) >= len(ask.prefix) and time_s > ask.audio_s + _BEHIND_S / 2:
            break
        if model.vocabulary.is_text(token):
            kept.append(token)
    return kept


def _words(
    model: WhisperModel,
    encoded: Any,
    asks: Sequence[DecodeRequest],
    languages: Sequence[str],
    texts: Sequence[list[int]],
) -> list[tuple[HeardWord, ...]]:
    if not any(texts):
        return [()] * len(asks)
    if len(set(languages)) > 1:  # one start for all, and no text may depend on its neighbours
        return [
            w
            for i, ask in enumerate(asks)
            for w in _words(model, _alone(model, ask), [ask], [languages[i]], [texts[i]])
        ]
    something = model.vocabulary.encode(".")
    aligned = model.align(
        encoded,
        _start(model, asks[0].task, languages[0]),
        [text or something for text in texts],
        [_heard_frames(ask) for ask in asks],
    )
    return [_timed(model, text, *each) if text else () for text, each in zip(texts, aligned, strict=True)]


def _alone(model: WhisperModel, ask: DecodeRequest) -> Any:
    return model.encode([log_mel(ask.samples, ask.window_s * FRAMES_PER_S, model.bins)])


def _heard_frames(ask: DecodeRequest) -> int:
    return max(2, min(math.ceil(ask.audio_s * FRAMES_PER_S), ask.window_s * FRAMES_PER_S))


def _timed(
    model: WhisperModel, text: Sequence[int], pairs: Sequence[tuple[int, int]], likely: Sequence[float]
) -> tuple[HeardWord, ...]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for token, frame in pairs:
        first.setdefault(token, frame)
        last[token] = frame
    words, at, until = [], 0, 0.0
    for group in model.vocabulary.words(text):
        inside = range(at, at + len(group))
        at += len(group)
        begin = min((first[i] for i in inside if i in first), default=None)
        end = max((last[i] for i in inside if i in last), default=None)
        start_s = until if begin is None else begin / 50
        until = start_s + 0.02 if end is None else max(end / 50, start_s + 0.02)
        probable = [max(likely[i], 1e-6) for i in inside if i < len(likely)] or [0.0]
        confidence = math.prod(probable) ** (1 / len(probable)) if all(probable) else 0.0
        words.append(HeardWord(model.vocabulary.text(group), tuple(group), start_s, until, min(1.0, confidence)))
    return tuple(words)


def _judged(ask: DecodeRequest, found: Hypothesis) -> Hypothesis:
    if is_silence(found.no_speech, found.log_prob) and not ask.prefix:
        return replace(found, words=())
    words = found.words
    circle = loop([word.key for word in words], [(word.start_s, word.end_s) for word in words])
    if circle is not None:
        again, behind = circle
        return replace(found, words=(*words[:again], *words[behind:]), sure=False)
    return replace(found, sure=not is_monotonous(found.text))
