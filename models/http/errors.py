"""What goes wrong with a server, in words that hold no secret, and other people's words made harmless."""

from __future__ import annotations

import unicodedata
from enum import Enum

from thalweg.models.errors import ModelError

_HARMLESS = "\u200c\u200d"  # they join letters and emoji, and turn nothing round


class HttpErrorKind(Enum):
    """What helps: other settings; another try, later or elsewhere; nothing."""

    SETTINGS = "settings"
    UNREACHABLE = "unreachable"
    REDIRECTED = "redirected"
    BROKE_OFF = "broke off"
    NO_ANSWER = "no answer"


class HttpError(ModelError):
    """A server that must not or cannot be asked, or that breaks off. Its text never holds a key."""

    def __init__(self, kind: HttpErrorKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def quoted(text: object, most: int = 200) -> str:
    """A stranger's text for one line of ours: at most `most` characters, every kind of white space one blank, without
    control characters, direction overrides, private and unpaired code points.
    """
    raw = str(text)
    cut = raw[: 4 * most]
    plain = " ".join("".join(_shown(character) for character in cut).split())
    return plain if len(plain) <= most and len(cut) == len(raw) else plain[:most].rstrip() + "…"


def _shown(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cc":
        return " "
    if kind in ("Zl", "Zp"):
        return " "
    return "" if kind.startswith("C") and character not in _HARMLESS else character
