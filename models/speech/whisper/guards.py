"""What of a Whisper decode must not be believed: sentences out of nothing, loops, words behind the end of the audio."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

NO_SPEECH = 0.6
"""Probability of no speech, from which on an improbable text is no text."""
LOG_PROB = -1.0
"""Mean log-probability of tokens below which a text is improbable."""
COMPRESSION = 2.4
"""How many times shorter zlib makes a text that repeats itself."""
TOKENS_PER_S = 10
"""More than in any speech; the cap for a decode that does not find its end."""
_LONGEST_LOOP = 8
_LOOPS = 3
_WORDS_PER_S = 7.0


def most_tokens(audio_s: float) -> int:
    """How many tokens a decode may make of so much audio."""
    return 12 + int(TOKENS_PER_S * audio_s)


def is_silence(no_speech: float, log_prob: float) -> bool:
    """Whether the audio holds no speech, so that its text must be ignored."""
    return no_speech > NO_SPEECH and log_prob < LOG_PROB


def is_monotonous(text: str) -> bool:
    """Whether a text says the same over and over, as decoders in a loop do. Short ones never do."""
    written = text.encode()
    return len(written) > 64 and len(written) / len(zlib.compress(written)) > COMPRESSION


def loop(keys: Sequence[str], times: Sequence[tuple[float, float]]) -> tuple[int, int] | None:
    """Where a decode went round in circles: (first word behind the first copy, first word behind the last copy).

    `keys`: words without punctuation and case; `times`: when each begins and ends, seconds. Three copies or more of one
    to eight words, faster than anyone speaks: a real “five five five five” takes longer.
    """
    for begin in range(len(keys)):
        for size in range(1, min(_LONGEST_LOOP, (len(keys) - begin) // _LOOPS) + 1):
            pattern = keys[begin : begin + size]
            copies = 1
            while keys[begin + copies * size : begin + (copies + 1) * size] == pattern:
                copies += 1
            end = begin + copies * size
            if copies >= _LOOPS and (end - begin) / max(times[end - 1][1] - times[begin][0], 0.02) > _WORDS_PER_S:
                return begin + size, end
    return None
