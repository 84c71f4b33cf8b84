"""Half characters: UTF-16 surrogates that a gateway has cut apart, put together again or replaced."""

from __future__ import annotations

REPLACEMENT = "\ufffd"


def repaired(text: str) -> str:
    """Surrogate pairs as the characters that they mean, what is left of halves as U+FFFD."""
    if text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


class Halves:
    """Joins pairs across pieces: what ends in a first half waits for the second one."""

    def __init__(self) -> None:
        self._first = ""

    def feed(self, text: str) -> str:
        """What can be given out of `text`, valid Unicode."""
        if not text:
            return ""
        text, self._first = self._first + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._first = text[:-1], text[-1]
        return repaired(text)

    def end(self) -> str:
        """What is left: nothing, or the sign for a character that was lost."""
        left, self._first = self._first, ""
        return REPLACEMENT if left else ""
