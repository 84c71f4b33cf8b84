"""A session description as lines, session and sections: what can be said of it without knowing a codec (RFC 8866).

Its size is bounded before anything else reads it, so that later readers need little time and memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.text import printable

MAX_CHARACTERS = 64_000
MAX_LINES = 1_500
MAX_LINE = 4_000
MAX_SECTIONS = 8
_MEDIA = re.compile(r"m=([a-z]{1,20}) ([0-9]{1,5})(?:/[0-9]{1,3})? ([A-Za-z0-9/]{1,40}) (\S.*)", re.ASCII)
_MID = re.compile(r"[!-~]{1,64}", re.ASCII)


class OfferError(ThalwegError):
    """An offer that cannot be answered, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One media section: its first line taken apart, and the lines after that."""

    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    lines: tuple[str, ...]

    def values(self, name: str) -> Iterator[str]:
        """The values of an attribute; of one without a value, empty texts."""
        return values(self.lines, name)

    @property
    def mid(self) -> str:
        """Its name; empty where it has none."""
        return next(self.values("mid"), "").strip()

    @property
    def rejected(self) -> bool:
        """Whether the other side does not want it: port 0, and not because it goes along with another one."""
        return self.port == 0 and next(self.values("bundle-only"), None) is None

    def without(self, *names: str) -> Section:
        """The same without some attributes."""
        heads = tuple(f"a={name}:" for name in names)
        return replace(self, lines=tuple(line for line in self.lines if not f"{line}:".startswith(heads)))

    def with_lines(self, *lines: str) -> Section:
        """The same with more lines."""
        return replace(self, lines=self.lines + lines)

    def text(self) -> list[str]:
        """Its lines."""
        return [f"m={self.kind} {self.port} {self.profile} {' '.join(self.formats)}", *self.lines]

    def refusal(self) -> list[str]:
        """The section of an answer that refuses it (RFC 3264 §6)."""
        mid = (f"a=mid:{self.mid}",) if self.mid else ()
        return [f"m={self.kind} 0 {self.profile} {self.formats[0]}", "c=IN IP4 0.0.0.0", "a=inactive", *mid]


def taken_apart(text: str) -> tuple[list[str], list[Section]]:
    """The lines of the session and its sections. Raises OfferError on what is none, or too much."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OfferError("the offer is not text") from None
    if "\0" in text:
        raise OfferError("the offer is not text")
    if len(text) > MAX_CHARACTERS:
        raise OfferError(f"the offer has {len(text)} characters, expected at most {MAX_CHARACTERS}")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    if not lines:
        raise OfferError("the offer is empty")
    if len(lines) > MAX_LINES or max(map(len, lines)) > MAX_LINE:
        raise OfferError(f"the offer is too long, expected at most {MAX_LINES} lines of {MAX_LINE} characters")
    odd = next((line for line in lines if line[1:2] != "=" or len(line.splitlines()) > 1), None)
    if odd is not None:
        raise OfferError(f"the offer has a line {printable(odd, 40)!r}, expected a letter and = at its beginning")
    session: list[str] = []
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            sections.append([line])
        else:
            (sections[-1] if sections else session).append(line)
    if len(sections) > MAX_SECTIONS:
        raise OfferError(f"the offer has {len(sections)} media sections, expected at most {MAX_SECTIONS}")
    found = [_section(first, rest) for first, *rest in sections]
    mids = [section.mid for section in found if section.mid]
    if len(set(mids)) < len(mids) or not all(map(_MID.fullmatch, mids)):
        raise OfferError("the offer gives the same name (a=mid) to two sections, or one that is none")
    return session, found


def values(lines: list[str] | tuple[str, ...], name: str) -> Iterator[str]:
    """The values of an attribute in some lines."""
    head = f"a={name}:"
    for line in lines:
        if line.startswith(head):
            yield line[len(head) :].strip()
        elif line == head[:-1]:
            yield ""


def _section(first: str, rest: list[str]) -> Section:
    match = _MEDIA.fullmatch(first.rstrip())
    if match is None:
        raise OfferError(f"the offer has a section {printable(first, 60)!r}, expected m=KIND PORT PROTOCOL FORMATS")
    kind, port, profile, formats = match.groups()
    return Section(kind=kind, port=int(port), profile=profile, formats=tuple(formats.split()), lines=tuple(rest))
