"""What the time stamps of a recording mean: where its recorder paused, and where they are of another clock.

Sound and pictures of a file are read apart, and by the same rules, so that both keep their places.
"""

from __future__ import annotations

from thalweg.stages.io.media import Recording

JITTER_S = 0.1
"""A smaller jump is how clocks of recorders and of their sound cards differ; silence in it would be a click."""
_BACK_S = 1.0
_PAUSE_S = 3600.0
_RESTART_S = 10.0
_BROADCAST = ("mpegts", "mpeg")
"""Formats in which a jump of more than `_RESTART_S` is another clock, as players and FFmpeg itself take it."""


class Timeline:
    """Where a recording is that begins at `at_s`. `jumped_s`: how far time stamps ran away, where they just did."""

    def __init__(self, recording: Recording, at_s: float) -> None:
        self._zero_s = recording.start_s - at_s
        self._longest_s = _RESTART_S if recording.format in _BROADCAST else _PAUSE_S
        self.jumped_s = 0.0

    def pause(self, stamp_s: float, at_s: float) -> float:
        """How long nothing was recorded before what is stamped so, when `at_s` is where the last piece ended.

        None of: what is too short to be one, a jump back, where another recording begins, and a jump that no recorder
        would have waited for; after those two time is counted from here.
        """
        gap_s = stamp_s - self._zero_s - at_s
        self.jumped_s = gap_s if gap_s > self._longest_s else 0.0
        if self.jumped_s or gap_s < -_BACK_S:
            self._zero_s = stamp_s - at_s
        return gap_s if JITTER_S < gap_s <= self._longest_s else 0.0

    def place(self, stamp_s: float, last_s: float | None, next_s: float) -> float:
        """When a picture is shown that is stamped so, after one at `last_s`, where `next_s` would be next.

        The first one is at `next_s`, unless it comes noticeably later than the sound.
        """
        zero_s = self._zero_s
        pause_s = self.pause(stamp_s, next_s if last_s is None else last_s)
        if self._zero_s != zero_s or (last_s is None and not pause_s):
            self._zero_s = stamp_s - next_s
        at_s = stamp_s - self._zero_s
        return at_s if last_s is None or at_s > last_s else next_s
