"""How far words may travel: `edge` (this machine), `fog` (your own machines), `cloud` (third parties).

It fails closed. A conversation that has once held something private stays within its zone, because every question
carries the history: `Privacy.zone` only narrows within a conversation. Everything that carries words asks here first:
routing, hedges, drafts, reading along, audits, caches.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

_CARD = re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")
_PHRASES = re.compile(
    r"\b(?:don'?t|do not) tell any(?:one|body)|\bkeep (?:this|that|it) (?:private|secret|to yourself)"
    r"|\b(?:between|just) (?:us|you and me)\b|\boff the record\b",
    re.IGNORECASE,
)

_BEGUN = re.compile(
    r"(?:\b(?:don'?t|do not)(?: tell)?|\bkeep(?: (?:this|that|it)(?: to)?)?|\b(?:between|just)(?: you(?: and)?)?"
    r"|\boff(?: the)?|(?:\d[ -]?){6,})$",
    re.IGNORECASE,
)
"""The beginning of such a phrase, or of a card number, at the end."""


class Zone(IntEnum):
    """Where a backend is, and how far words may go; a wider zone contains the narrower ones."""

    EDGE = 0
    FOG = 1
    CLOUD = 2


@dataclass(slots=True)
class Privacy:
    """Of one conversation. `limit`: the widest zone by the pipeline's settings. `names`: words that must not leave."""

    limit: Zone = Zone.CLOUD
    names: Sequence[str] = ()
    reason: str = ""
    zone: Zone = field(init=False)
    _names: re.Pattern[str] | None = field(init=False, default=None)
    _begun: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.zone = self.limit
        if self.names:
            words = "|".join(re.escape(_as_read(name)) for name in sorted(self.names, key=len, reverse=True))
            self._names = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
            read = [_as_read(name) for name in self.names]
            begun = {name[:length] for name in read for length in range(min(2, len(name)), len(name))}
            ends = "|".join(re.escape(each) for each in sorted(begun))
            self._begun = re.compile(rf"(?<!\w)(?:{ends})$", re.IGNORECASE) if begun else None

    def hear(self, text: str) -> None:
        """Words that were said, also those not final yet: what is private in them narrows the zone to the edge."""
        if self.zone is Zone.EDGE:
            return
        text = _as_read(text)
        if _PHRASES.search(text):
            self.narrow(Zone.EDGE, "the person asked for it")
        elif any(luhn(match[0]) for match in _CARD.finditer(text)):
            self.narrow(Zone.EDGE, "a card number was said")
        elif self._names is not None and self._names.search(text):
            self.narrow(Zone.EDGE, "a name from the list was said")

    def may_become_private(self, text: str) -> bool:
        """Whether words whose end was not heard end in the beginning of something private. Changes nothing."""
        text = re.sub(r"\W+$", "", _as_read(text))
        return _BEGUN.search(text) is not None or (self._begun is not None and self._begun.search(text) is not None)

    def narrow(self, zone: Zone, reason: str) -> None:
        """From now on words go no further than `zone`. Widening is not possible: what was said stays in the history."""
        if zone < self.zone:
            self.zone, self.reason = zone, reason

    def forget(self) -> None:
        """The history is gone, and with it what was private in it."""
        self.zone, self.reason = self.limit, ""

    def allows(self, where: Zone) -> bool:
        """Whether words may go to a backend that is there."""
        return where <= self.zone


def _as_read(text: str) -> str:
    """The text as a reader sees it: letter widths and kinds of space normalised, invisible characters removed."""
    normal = unicodedata.normalize("NFKC", text)
    return "".join(c for c in normal if unicodedata.category(c) != "Cf").replace("’", "'")


def luhn(text: str) -> bool:
    """Whether the digits of a text are a card number by its check digit (ISO/IEC 7812-1)."""
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d * 2 - 9 if d > 4 else d * 2 for d in digits[-2::-2]]
    return len(digits) >= 13 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0
