"""The forms a transcript is written in, each by the suffix of its files. All are UTF-8, and written line by line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from thalweg.deploy.transcripts.utterance import Said, Utterance, cues, parts
from thalweg.pipeline.text import as_json, printable

Lines = Iterator[str]


def _srt(utterances: Iterable[Utterance], about: Mapping[str, Any], by_word: bool) -> Lines:
    """SubRip, for players: numbered cues."""
    for number, cue in enumerate(_cues(utterances, by_word), 1):
        yield f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{_shown(cue)}\n\n"


def _vtt(utterances: Iterable[Utterance], about: Mapping[str, Any], by_word: bool) -> Lines:
    """WebVTT, for web pages (W3C)."""
    yield "WEBVTT\n\n"
    for cue in _cues(utterances, by_word):
        text = _shown(cue).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        yield f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{text}\n\n"


def _txt(utterances: Iterable[Utterance], about: Mapping[str, Any], by_word: bool) -> Lines:
    """Text to read: a line per utterance."""
    for utterance in utterances:
        yield f"{printable(utterance.text, None)}\n"


def _tsv(utterances: Iterable[Utterance], about: Mapping[str, Any], by_word: bool) -> Lines:
    """A table: start and end in milliseconds, text."""
    yield "start\tend\ttext\n"
    for utterance in utterances:
        for said in _words(utterance) if by_word else (_whole(utterance),):
            yield f"{said.start_s * 1000:.0f}\t{said.end_s * 1000:.0f}\t{_cell(said.text)}\n"


def _json(utterances: Iterable[Utterance], about: Mapping[str, Any], by_word: bool) -> Lines:
    """For programs: about the recording, and `utterances` with their times and, where known, those of their words."""
    yield "{\n"
    for name, value in about.items():
        yield f" {json.dumps(name)}: {as_json(value)},\n"
    between = ' "utterances": [\n  '
    for utterance in utterances:
        yield between + as_json(utterance.as_json())
        between = ",\n  "
    yield "\n ]\n}\n" if between[0] == "," else ' "utterances": []\n}\n'


FORMS: Mapping[str, Callable[[Iterable[Utterance], Mapping[str, Any], bool], Lines]] = {
    ".srt": _srt,
    ".vtt": _vtt,
    ".txt": _txt,
    ".json": _json,
    ".tsv": _tsv,
}


def _cues(utterances: Iterable[Utterance], by_word: bool) -> Iterator[Said]:
    """One after the other: a cue that is still to be read when the next one begins ends there."""
    held: Said | None = None
    for utterance in utterances:
        for cue in _words(utterance) if by_word else cues(utterance):
            if held is not None:
                yield Said(held.text, held.start_s, max(held.start_s, min(held.end_s, cue.start_s)))
            held = cue
    if held is not None:
        yield held


def _words(utterance: Utterance) -> tuple[Said, ...]:
    return parts(utterance) if utterance.words else (_whole(utterance),)


def _whole(utterance: Utterance) -> Said:
    return Said(utterance.text, utterance.start_s, utterance.end_s)


def _shown(cue: Said) -> str:
    lines = (printable(line.strip(), None).replace("-->", "→") for line in cue.text.split("\n"))
    return "\n".join(line for line in lines if line.strip()) or "…"


def _cell(text: str) -> str:
    """A text as programs for tables take it for one: an apostrophe before what they would compute (`=`, `+`, `-`, `@`),
    or take for the beginning of a cell of many lines (`"`).
    """
    shown = printable(text.strip(), None)
    return f"'{shown}" if shown.startswith(tuple('=+-@"')) else shown


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
