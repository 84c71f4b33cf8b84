"""What is said of a text that is made to be read: its words, without marks, addresses and pictures.

Language models write markdown; a voice says "asterisk asterisk". What is shown stays as it is (`Sentence.text`).
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"```\w*", " "),  # fences of code
        (r"!?\[([^\]]*)\]\((?:[^()\s]|\([^()]*\))*\)", r"\1"),  # links and pictures: their words
        (
            r"<https?://[^>]*>|\bhttps?://(?:www\.)?([\w.-]+[\w])(?:[/:?#][^\s)\]>]*)?",
            r"\1",
        ),  # addresses: whose they are
        (r"</?[A-Za-z][^<>]*>", " "),
        (r"(?m)^\s*(?:#{1,6}\s+|>\s+|[-*+•]\s+|\|?(?:\s*:?-{3,}:?\s*\|?)+$)", ""),  # headings, quotations, lists, rules
        (r"(?m)^\s*[*_=-]{3,}\s*$", " "),
        (r"\s*\|\s*", ", "),  # tables
        (r"\\[()\[\]]|\$\$", " "),
        (r"\\(?:frac|dfrac)\{([^{}]*)\}\{([^{}]*)\}", r"\1 over \2"),
        (r"\\[a-zA-Z]+\{([^{}]*)\}", r"\1"),
        (r"\\([a-zA-Z]+)", r" \1 "),
        (r"(?<!\w)(?:\*{1,3}|_{1,3}|~~|`+)(?=\S)|(?<=\S)(?:\*{1,3}|_{1,3}|~~|`+)(?!\w)", ""),  # emphasis, code
        (r"\*{2,}|~~|`+", ""),
        (r"(\w)\^(\w+)", r"\1 to the \2"),
        (r"([\w.+-]+)@([\w-]+\.[\w.-]*\w)", r"\1 at \2"),
    )
)
_JOINING = {0x200D, 0xFE0E, 0xFE0F, 0x20E3}


def spoken(text: str) -> str:
    """The words of a text, in one line; nothing where there are none."""
    said = unescape(text)
    for pattern, put in _RULES:
        said = pattern.sub(put, said)
    said = "".join(" " if _is_picture(char) else char for char in said)
    said = re.sub(r"\s*,(?:\s*,)+\s*", ", ", " ".join(said.split())).strip(", ")
    return re.sub(r"\s+([.,!?;:])", r"\1", said) if any(char.isalnum() for char in said) else ""


def _is_picture(char: str) -> bool:
    """Emoji and their skin tones, what joins them, and what has no sound."""
    code = ord(char)
    return code >= 0x1F000 or code in _JOINING or 0x2190 <= code <= 0x2BFF or unicodedata.category(char) in ("Cf", "Cc")
