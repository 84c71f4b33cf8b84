"""What is said of a text that is made to be read: its words, without marks, addresses, pictures and code.

Language models write markdown; a voice says "asterisk asterisk". What is shown stays as it is (`Sentence.text`).
Blocks of code are left out without a word, as voice assistants do: their reader sees them, and before them a model says
"here is the code". Code within a line is said, it is mostly a name.

A reply comes in pieces, and a block of code goes over many: `Aloud` remembers. What must not be cut over two pieces,
since half of a link is no link, `whole` hides from the code that looks for a place to cut.
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape

KEPT = "\ue000"
"""In the place of a character that must stay with its neighbours; it is neither space nor mark."""
LONGEST_KEPT = 4_000
_FENCE = re.compile(r"`{3,}|(?<![^\s>])~{3,}")
_MARKED = re.compile(r"[`\[<$\\~]")
_LINKED, _OPEN, _FAR = 300, 200, LONGEST_KEPT
"""Characters of a link's words, of what may still become one, and of an address: data of a picture may stand in it."""
_WHOLE = re.compile(
    rf"!?\[[^\[\]\n]{{0,{_LINKED}}}\](?:\((?:[^()\n]|\([^()\n]*\))*\)|\[[^\[\]\n]*\])"
    rf"|!?\[[^\[\]\n]{{0,{_LINKED}}}\]\((?:[^()\n]|\([^()\n]*\)){{0,{_FAR}}}$"
    rf"|!?\[[^\[\]\n]{{0,{_OPEN}}}(?:\](?:\[[^\[\]\n]{{0,{_OPEN}}})?)?$"
    rf"|`[^`\n]{{1,{_LINKED}}}`|``?[^`\n]{{0,{_OPEN}}}$"
    rf"|<!--.{{0,{_FAR}}}?-->|<[A-Za-z/!][^<>\n]{{0,{_LINKED}}}>|<[A-Za-z/!][^<>\n]{{0,{_OPEN}}}$"
    rf"|\\\([^\n]{{0,{_LINKED}}}?\\\)|\\\([^\n]{{0,{_OPEN}}}$|\\$"
    rf"|\$[^\s$](?:[^$\n]{{0,{_LINKED}}}[^\s$])?\$(?!\d)|\$[^\s$\d][^$\n]{{0,{_OPEN}}}$"
)
_GREEK_AND_SIGNS = {
    "times": "times", "cdot": "times", "div": "divided by", "pm": "plus or minus", "leq": "is at most",
    "le": "is at most", "geq": "is at least", "ge": "is at least", "neq": "is not", "ne": "is not",
    "approx": "is about", "infty": "infinity", "to": "to", "rightarrow": "to", "ldots": "", "dots": "", "left": "",
    "right": "", "quad": "", "begin": "", "end": "",
}  # fmt: skip
_AT_LINE_START = re.compile(
    r"\s*(?:\[(?!\^)[^\[\]\n]+\]:\s+\S.*$"  # where a link of another line leads
    r"|\|?(?:\s*:?-{3,}:?\s*\|?)+$|[*_=-]{3,}\s*$|[*_-](?:\s+[*_-]){2,}\s*$"  # rules, and the second line of a table
    r"|(?:(?:#{1,6}|>|[-*+•◦▪‣])(?:\s+|$))*(?:\[[ xX]\]\s+)?(?:\[\^[^\[\]\n]+\]:\s+)?)"  # headings, lists, quotations
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"<!--.*?-->", " "),
        (r"<(script|style)\b[^<>]*>.*?</\1>", " "),
        # where something was found
        (r"\[\^[^\[\]\s]+\]|(?<=[\w.,!?])(?:\[\d{1,3}(?:[,–-]\s?\d{1,3})*\])+(?!\()|【[^【】]*】", ""),
        (r"!?\[([^\[\]]*)\](?:\((?:[^()\n]|\([^()\n]*\))*\)|\[[^\[\]\n]*\])", r"\1"),  # links, pictures: their words
        (
            r"<?\b(?:https?|ftp)://(?:[^\s/@<>]*@)?(?:www\.)?((?:[\w-]+\.)*[\w-]+)(?:[/:?#][^\s)\]>]*[^\s)\]>.,;!?])?/?>?",
            r"\1",
        ),  # addresses: whose they are
        (r"\bwww\.((?:[\w-]+\.)+[A-Za-z]{2,})(?:[/:?#](?:[^\s)\]>]*[^\s)\]>.,;!?])?)?", r"\1"),
        (r"\b((?:[\w-]+\.)+[A-Za-z]{2,})/[^\s)\]>]*[^\s)\]>.,;!?]", r"\1"),
        (r"</?[A-Za-z][^<>]*>", " "),
        (r"\s+#{1,6}\s*$", ""),  # a heading may end in them
        (r"\s*(?<!\\)\|\s*", ", "),  # tables
        (r"(?<![\w$\\])\$([^\s$](?:[^$\n]*[^\s$])?)\$(?!\d)", r"\1"),
        (r"\\[()\[\]]|\$\$", " "),
        (r"\\(?:frac|dfrac|tfrac)\{([^{}]*)\}\{([^{}]*)\}", r"\1 over \2"),
        (r"\\sqrt\{([^{}]*)\}", r"the square root of \1"),
        (r"([\w)])([\^_])\{([^{}]*)\}", r"\1\2\3"),
        (r"\\[a-zA-Z]+\{([^{}]*)\}", r"\1"),
        (r"\\([^\w\s])", r"\1"),  # a mark that is meant as such
        (r"(?<!\w)(?:\*{1,3}|_{1,3}|~~|`+)(?=\S)|(?<=\S)(?:\*{1,3}|_{1,3}|~~|`+)(?!\w)", ""),  # emphasis, code
        (r"\*{2,}|~~|`+", ""),
        (r"([\w)])\^(-?\w+)", r"\1 to the \2"),
        (r"(?:(?<![\w.+-])mailto:|(?<![\w.+-]))([\w.+-]+)@([\w-]+\.[\w.-]*\w)", r"\1 at \2"),
    )
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_JOINING = {0x200D, 0xFE0E, 0xFE0F, 0x20E3}


class Aloud:
    """What is said of a reply, piece after piece. `state` is all it remembers, for a snapshot."""

    def __init__(self, state: tuple[str, bool] = ("", True)) -> None:
        self._fence, self._begins_line = state

    @property
    def state(self) -> tuple[str, bool]:
        """The marks that a block of code under way began with, and whether the next piece begins a line."""
        return self._fence, self._begins_line

    def say(self, piece: str) -> str:
        """The words of the next piece, in one line; nothing where there are none."""
        said = []
        for line in piece.splitlines(keepends=True):
            said.append(_words("".join(line[a:b] for a, b in self._prose(line)), self._begins_line))
            self._begins_line = line[-1] in "\r\n"
        return " ".join(part for part in said if part)

    def _prose(self, line: str) -> list[tuple[int, int]]:
        """Where a line is not part of a block of code; what closes a block, and what opens one, is part of it."""
        parts: list[tuple[int, int]] = []
        at = 0
        while True:
            if self._fence:
                end = _closing(line, at, self._fence)
                if end is None:
                    return parts
                self._fence, at = "", end
            fence = _FENCE.search(line, at)
            if fence is None:
                return [*parts, (at, len(line))]
            parts.append((at, fence.start()))
            end = _closing(line, fence.end(), fence[0])
            if end is None:
                self._fence = fence[0]
                return parts
            parts.append((fence.end(), end - len(fence[0])))  # code within the line
            at = end

    def whole(self, text: str) -> str:
        """As long as `text`, which comes next, with `KEPT` for each character that belongs with those beside it.

        Lines of code stay apart. What is open at the end of the text belongs together as far as it goes, unless it has
        grown too long to become anything.
        """
        if not self._fence and not _MARKED.search(text):
            return text
        ahead, hidden = Aloud(self.state), []
        for line in text.splitlines(keepends=True):
            end = len(line.rstrip("\r\n"))
            marks = [KEPT] * end + list(line[end:])
            for a, b in ahead._prose(line):
                marks[a:b] = line[a:b]
            hidden.append(_WHOLE.sub(lambda match: KEPT * len(match[0]), "".join(marks)))
        return "".join(hidden)


def spoken(text: str) -> str:
    """The words of a text that stands for itself, in one line; nothing where there are none."""
    return Aloud().say(text)


def _closing(line: str, at: int, fence: str) -> int | None:
    """Where a run of at least as many of the marks of `fence` ends."""
    match = re.compile(rf"{re.escape(fence[0])}{{{len(fence)},}}").search(line, at)
    return match.end() if match else None


def _words(line: str, begins_line: bool) -> str:
    said = re.sub(r"[^\S\r\n]+", " ", unescape(line))
    if begins_line and (marks := _AT_LINE_START.match(said)):
        said = said[marks.end() :]
    for pattern, put in _RULES:
        said = pattern.sub(put, said)
    said = _COMMAND.sub(lambda match: f" {_GREEK_AND_SIGNS.get(match[1], match[1])} ", said)
    said = "".join(" " if _is_picture(char) else char for char in said)
    said = re.sub(r"\s*,(?:\s*,)+\s*", ", ", " ".join(said.split())).strip(", ")
    return re.sub(r"\s+([.,!?;:])", r"\1", said) if any(char.isalnum() for char in said) else ""


def _is_picture(char: str) -> bool:
    """Emoji and their skin tones, what joins them, and what has no sound."""
    code = ord(char)
    return code >= 0x1F000 or code in _JOINING or 0x2190 <= code <= 0x2BFF or unicodedata.category(char) in ("Cf", "Cc")
