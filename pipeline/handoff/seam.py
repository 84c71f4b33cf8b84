"""Where one backend broke off and another goes on: no word twice, none lost.

Theory of operation. The text of a reply passes through two gates. `WordGate` lets whole words out and holds the last,
perhaps unfinished one back, so that what was said always ends at the end of a word. When another backend takes over,
its text passes through a `Seam` first, which compares it, word by word and without regard to case and punctuation, with
what was said:

    it begins as what was said began      it started over: words are dropped until it is past what was said
    it begins with the last words said    it repeats them: they are dropped
    neither                               it goes on: everything passes

Words are compared as they come; at most `LOOK` of them wait before it is decided. In scripts that put no spaces between
words, such as Chinese, Japanese and Thai, every character counts as a word.
"""

from __future__ import annotations

import re

LOOK = 12
LETTER = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]"  # of a script without spaces
_PIECES = re.compile(rf"\s*(?:{LETTER}|(?:(?!{LETTER})\S)+)\s*")
_ENDS = re.compile(rf"\s|{LETTER}")
_ONE_LETTER = re.compile(LETTER)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]」』）]*\s*\Z")
_BARE = re.compile(r"[^\w]+")


class WordGate:
    """Lets whole words out; in a script without spaces each letter. `said`: everything that has gone out."""

    def __init__(self) -> None:
        self.said = ""
        self._held = ""

    def put(self, text: str) -> str:
        """What may go out now that `text` has come: up to the last white space or letter of such a script."""
        self._held += text
        cut = max((found.end() for found in _ENDS.finditer(self._held)), default=0)
        out, self._held = self._held[:cut], self._held[cut:]
        self.said += out
        return out

    def finish(self) -> str:
        """The reply is whole: what was held back goes out."""
        out, self._held = self._held, ""
        self.said += out
        return out

    def drop(self) -> None:
        """The reply broke off: discard the word that was held back, which is unfinished and was not played."""
        self._held = ""


class Seam:
    """The text of the backend that goes on, without what was said before. `kind`: how it began, once that is known."""

    def __init__(self, said: str) -> None:
        self.kind = "" if said.strip() else "goes on"
        self._said = words(said)
        self._spaced = said[-1:].isspace()
        self._held = ""
        self._dropped = 0

    def put(self, text: str) -> str:
        """What of it is new."""
        if self.kind == "goes on":
            return text
        self._held += text
        return self._decide(whole=False)

    def finish(self) -> str:
        """It is whole: what is still held back, where it is new."""
        return self._decide(whole=True)

    def _decide(self, *, whole: bool) -> str:
        pieces = _PIECES.findall(self._held)
        complete = pieces if whole or (self._held[-1:].isspace()) else pieces[:-1]
        come = [bare(piece) for piece in complete]
        if self.kind == "started over":
            return self._skip(pieces, come, whole=whole)
        if not come and not whole:
            return ""
        first = self._said[:3]
        if len(come) >= len(first) and come[: len(first)] == first:
            self.kind = "started over"
            return self._skip(pieces, come, whole=whole)
        if not whole and come == first[: len(come)]:
            return ""
        repeated = self._repeats(come)
        undecided = not whole and len(come) < LOOK and self._may_repeat(come)
        return "" if undecided else self._pass(pieces, repeated)

    def _skip(self, pieces: list[str], come: list[str], *, whole: bool) -> str:
        """It started over: pass on what lies behind what was said."""
        n = len(self._said)
        if come[:n] == self._said:
            return self._pass(pieces, n)
        tail = self._said[-3:]
        for end in range(max(len(tail), n - 6), min(len(come), n + LOOK) + 1):
            if come[end - len(tail) : end] == tail:
                return self._pass(pieces, end)
        return self._pass(pieces, n) if whole or len(come) >= n + LOOK else ""

    def _pass(self, pieces: list[str], dropped: int) -> str:
        self.kind = "goes on"
        self._held = ""
        passed = "".join(pieces[dropped:])
        return passed.lstrip() if self._spaced else passed

    def _repeats(self, come: list[str]) -> int:
        """How many of the words that came are the last ones that were said."""
        most = min(len(come), len(self._said))
        least = 2 if come and _ONE_LETTER.fullmatch(come[0]) else 1  # a letter comes twice more often than a word does
        return next((n for n in range(most, least - 1, -1) if come[:n] == self._said[-n:]), 0)

    def _may_repeat(self, come: list[str]) -> bool:
        """Whether the words so far are the beginning of some end of what was said, so that more may come."""
        n = len(come)
        lately = self._said[-LOOK:]
        return any(lately[i : i + n] == come for i in range(len(lately) - n))


def is_sentence(said: str) -> bool:
    """Whether an answer may end here: it ends as sentences do."""
    return _SENTENCE_END.search(said) is not None


def last_sentence(said: str) -> str:
    """What stands behind the last sentence that is whole."""
    return re.split(r"[.!?…][\"'”’»)\]]*\s+|[。！？][”’」』）]*", said)[-1]


def words(text: str) -> list[str]:
    """The words of a text as they are compared."""
    return [bare(piece) for piece in _PIECES.findall(text)]


def bare(piece: str) -> str:
    """A word without case, punctuation and white space."""
    return _BARE.sub("", piece).casefold() or piece.strip()
