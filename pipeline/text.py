"""Makes untrusted text safe to show.

File names, pipeline files, models, servers and recordings hold untrusted text. A terminal obeys control characters in
it (they set titles and clipboards, clear screens), direction overrides make one name look like another, and printing a
lone surrogate raises. So every such text goes through `printable` on its way to a terminal, a log, a table or a
picture, through `as_json` for JSON and through `as_xml` for SVG.

Characters that are not shown are written as Python escapes, an escape character as `\\x1b`. So the reader sees that
something was there; nothing is omitted silently.
"""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any

MOST = 2_000
"""How much of a text is shown by default, in characters."""

# C0 and C1 controls, lone surrogates, what is invisible or turns the direction of what follows. Marks that join
# letters (U+200C, U+200D) and those of weak direction (U+200E, U+200F) stay: Persian, Hindi, Hebrew, emoji need them.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0000-\U000e00ff]"
)
_SPACE = re.compile(r"\r\n|[\n\t\v\f\r\x85\u2028\u2029]")
_ENDS = re.compile(r"\r\n|[\v\f\x85\u2028\u2029]")


def printable(text: object, limit: int | None = MOST, *, lines: bool = False) -> str:
    """`text` without control characters, in at most `limit` characters.

    In one line, unless `lines`: then line ends and tabs stay. Longer text is cut and ends with `…`. Idempotent. Never
    raises.
    """
    shown = str(text)
    if limit is not None and len(shown) > limit:
        shown = shown[: max(limit - 1, 0)] + "…"
    shown = _ENDS.sub("\n", shown) if lines else _SPACE.sub(" ", shown)
    if not _UNFIT.search(shown):
        return shown
    shown = _UNFIT.sub(_escaped, shown)
    return shown if limit is None or len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def as_json(value: Any, *, indent: int | None = None) -> str:  # Any: what JSON can hold
    """JSON that is safe for every terminal: letters stay; what `printable` would escape becomes `\\u` escapes.

    Parsing it gives the same value, including lone surrogates.
    """
    return _UNFIT.sub(_json_escaped, json.dumps(value, ensure_ascii=False, indent=indent))


def as_xml(text: object) -> str:
    """`printable` text as it stands between tags or in an attribute of XML and HTML."""
    return escape(printable(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is not in the file system's encoding (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
