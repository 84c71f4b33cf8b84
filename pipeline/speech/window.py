"""Where the audio that is decoded again and again begins, so that a step's cost does not grow with the turn.

Only settled words leave the window, and with them their audio: at the last end of a sentence as soon as the window is
`sentence_ns` long, at the last pause between words from `pause_ns` on, at the last settled word from `word_ns` on. At
`limit_ns` it must be shortened in any case: then the words of the last decode leave with their audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.pipeline.duration import MS
from thalweg.pipeline.speech.hypothesis import Spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """See above. `gap_ns`: silence between two words that counts as a pause. `kept_ns`: of audio, at a forced cut."""

    sentence_ns: int = 5_000 * MS
    pause_ns: int = 8_000 * MS
    word_ns: int = 12_000 * MS
    limit_ns: int = 25_000 * MS
    gap_ns: int = 200 * MS
    kept_ns: int = 3_000 * MS


@dataclass(frozen=True, slots=True)
class Cut:
    """The first `words` leave the window, which begins at `at_ns` from now on."""

    words: int
    at_ns: int


def find_cut(words: Sequence[Spoken], settled: int, start_ns: int, end_ns: int, cuts: Cuts) -> Cut | None:
    """Where to cut a window from `start_ns` to `end_ns` in which `words` were heard; None where it stays as it is."""
    length_ns = end_ns - start_ns
    if length_ns >= cuts.sentence_ns:
        for at in range(settled, 0, -1):
            if words[at - 1].ends_sentence:
                return Cut(at, _between(words, at, end_ns))
    if length_ns >= cuts.pause_ns:
        for at in range(min(settled, len(words) - 1), 0, -1):
            if words[at].start_ns - words[at - 1].end_ns >= cuts.gap_ns:
                return Cut(at, _between(words, at, end_ns))
    if length_ns >= cuts.word_ns and settled:
        return Cut(settled, _between(words, settled, end_ns))
    if length_ns >= cuts.limit_ns:
        at_ns = end_ns - cuts.kept_ns
        gone = sum(word.end_ns <= at_ns for word in words)
        return Cut(gone, _between(words, gone, end_ns) if gone else at_ns)
    return None


def _between(words: Sequence[Spoken], at: int, end_ns: int) -> int:
    """In the middle between a word and the next one, or right behind the last one."""
    before_ns = words[at - 1].end_ns
    after_ns = words[at].start_ns if at < len(words) else before_ns
    return min(max(before_ns, (before_ns + after_ns) // 2), end_ns)
