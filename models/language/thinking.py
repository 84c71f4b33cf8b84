"""Telling what a model says from what it only thinks, where both come in one text, cut anywhere.

    state      event                         text is                  next
    SAYING     text                          said                     SAYING
    SAYING     a mark that opens             –                        THINKING, depth 1
    SAYING     a mark that closes (stray)    –                        SAYING; `stray`: what was said was thought
    THINKING   text                          thought                  THINKING
    THINKING   a mark that opens             –                        THINKING, depth + 1
    THINKING   a mark that closes            –                        SAYING
    THINKING   likewise, deeper than 1       –                        UNSURE
    UNSURE     text                          kept                     UNSURE
    UNSURE     a mark that opens             what was kept: thought   THINKING
    UNSURE     a mark that closes            what was kept: thought   SAYING, or UNSURE by depth
    UNSURE     the end                       what was kept: said      –
    any        a mark that begins a header   what was kept: thought   HEADER; OVER where another turn begins
    HEADER     text                          dropped: who speaks      HEADER
    HEADER     a mark or line that ends it   –                        SAYING
    HEADER     it names another channel      –                        THINKING
    HEADER     a mark that closes            –                        UNSURE, or SAYING by depth
    any        a mark that ends the turn     –                        OVER, once anything was said or thought
    OVER       anything                      dropped                  OVER

A mark that opens right behind one that opens counts once. UNSURE is also where the reply of a model begins of which it
is known that it opens its thoughts without a mark. Marks are those of the models' own chat templates (the tables
below), in any case; any other `<|…|>` is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto

_THOUGHTS = (
    "think thinking thought thoughts reasoning reasoning_process reflection scratchpad inner_monologue seed:think "
    "antthinking internal_thoughts chain_of_thought"
)
# <name> and <name attribute="…">
_TAG_NAMES = {
    "opens": f"{_THOUGHTS} unused94",
    "closes": " ".join(f"/{name}" for name in _THOUGHTS.split()) + " unused95",
    "details": "details",
    "/details": "/details",
    "turn": "start_of_turn",
    "ends": "end_of_turn",
    "dropped": "answer /answer final_answer /final_answer response /response s /s",
}
# <|name|>
_SPECIAL_NAMES = {
    "opens": "begin_of_thought start_thinking begin_thinking think thinking",
    "closes": "end_of_thought end_thinking /think /thinking",
    "header": "channel start",
    "turn": "im_start start_header_id",
    "message": "message end_header_id",
    "ends": "im_end eot_id eom_id endoftext end_of_text end_of_turn return end▁of▁sentence",
}
_TAGS = {name: kind for kind, names in _TAG_NAMES.items() for name in names.split()}
_SPECIAL = {name: kind for kind, names in _SPECIAL_NAMES.items() for name in names.split()}
_LITERALS = {"[think]": "opens", "[/think]": "closes", "◁think▷": "opens", "◁/think▷": "closes"}
_WHOLE = re.compile(
    r"<[|｜](?P<special>[^<>|｜\s]{1,32})[|｜]>|<(?P<tag>/?[a-z_:0-9]{1,20})(?P<rest>\s[^<>]{0,100})?>|"
    r"(?P<literal>\[/?think\]|◁/?think▷)",
    re.IGNORECASE,
)
_BEGUN = re.compile(
    r"<[|｜][^<>|｜\s]{0,32}[|｜]?|<(?P<tag>/?[a-z_:0-9]{0,20})(?P<rest>\s[^<>]{0,100})?", re.IGNORECASE
)
_FIRST = re.compile(r"[<\[◁]")


class _State(Enum):
    SAYING = auto()
    THINKING = auto()
    UNSURE = auto()
    HEADER = auto()
    OVER = auto()


TRANSITIONS: Mapping[_State, frozenset[_State]] = {
    _State.SAYING: frozenset({_State.THINKING, _State.HEADER, _State.OVER}),
    _State.THINKING: frozenset({_State.SAYING, _State.UNSURE, _State.HEADER, _State.OVER}),
    _State.UNSURE: frozenset({_State.SAYING, _State.THINKING, _State.HEADER, _State.OVER}),
    _State.HEADER: frozenset({_State.SAYING, _State.THINKING, _State.UNSURE, _State.OVER}),
    _State.OVER: frozenset(),
}
"""The table above as data: state → possible next states, without itself."""


class ThinkingFilter:
    """Takes a reply piece by piece; gives (is it thought?, text). `unmarked`: it may open its thoughts without a mark.

    Keeps what may be the beginning of a mark, 123 characters at most, and, while it is unsure, everything: its caller
    must bound the reply.
    """

    def __init__(self, unmarked: bool = False) -> None:
        self.stray = False
        self._state = _State.UNSURE if unmarked else _State.SAYING
        self._depth = 1 if unmarked else 0
        self._kept = ""
        self._tail = ""
        self._header = ""
        self._said = self._thought = False
        self._trim = False
        self._opened = unmarked  # with nothing but blanks since

    @property
    def over(self) -> bool:
        """Whether the model has ended its turn: what comes now is none of it."""
        return self._state is _State.OVER

    def apart(self) -> None:
        """The thoughts come beside the text, so that the text is said from its beginning."""
        if self._state is _State.UNSURE and not self._kept and not self._thought:
            self._state, self._depth = _State.SAYING, 0

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """What is certain by now."""
        self._tail += text
        given: list[tuple[bool, str]] = []
        at = searched = 0
        while first := _FIRST.search(self._tail, searched):
            place = searched = first.start()
            mark = _WHOLE.match(self._tail, place)
            kind = _kind(mark) if mark else ""
            if mark and kind:
                self._text(self._tail[at:place], given)
                self._mark(kind, given)
                at = searched = mark.end()
            elif mark is None and _begun(self._tail[place:].lower()):
                break
            else:
                searched += 1
        else:
            place = len(self._tail)
        self._text(self._tail[at:place], given)
        self._tail = self._tail[place:]
        return given

    def end(self) -> list[tuple[bool, str]]:
        """The reply is over."""
        given: list[tuple[bool, str]] = []
        rest, self._tail = self._tail, ""
        self._text(rest, given)
        if self._state is _State.UNSURE:
            self._give(False, given)
        return given

    def _text(self, text: str, given: list[tuple[bool, str]]) -> None:
        if self._state is _State.HEADER:
            header, line, text = text.partition("\n")
            self._header = (self._header + header)[:64]
            if line:
                self._begin()
        if not text or self._state in (_State.HEADER, _State.OVER):
            return
        self._opened = self._opened and not text.strip()
        if self._state is _State.THINKING:
            self._thought = True
            given.append((True, text))
        elif self._state is _State.UNSURE:
            self._kept += text
        elif text := text.lstrip() if self._trim else text:
            self._said, self._trim = self._said or bool(text.strip()), False
            given.append((False, text))

    def _mark(self, kind: str, given: list[tuple[bool, str]]) -> None:
        if self._state is _State.OVER or kind == "dropped":
            return
        if kind == "opens":
            self._open(given)
        elif kind == "closes" or (kind == "/details" and self._state is not _State.SAYING):
            self._close(given)
        elif kind == "message" and self._state is _State.HEADER:
            self._begin()
        elif kind == "ends" or (kind == "turn" and self._said):
            if self._said or self._thought or self._kept.strip():
                self._give(self._state is not _State.UNSURE, given)
                self._state = _State.OVER
        elif kind in ("header", "turn"):
            self._give(True, given)
            self._state, self._header = _State.HEADER, ""

    def _open(self, given: list[tuple[bool, str]]) -> None:
        self._give(True, given)
        if self._state is _State.SAYING:
            self._depth = 1
        elif not self._opened:
            self._depth += 1
        self._state, self._opened = _State.THINKING, True

    def _close(self, given: list[tuple[bool, str]]) -> None:
        self._trim = True
        if self._state is _State.SAYING:
            self.stray = self.stray or self._said
            return
        self._give(True, given)
        self._depth -= 1
        self._thought = True
        self._state = _State.UNSURE if self._depth > 0 else _State.SAYING

    def _begin(self) -> None:
        """A header is whole: it names the channel, or who speaks."""
        named = self._header.strip().lower()
        final = named in ("", "assistant", "model") or named.startswith("final")
        self._state = _State.SAYING if final else _State.THINKING
        self._depth, self._trim, self._opened = 0 if final else 1, True, not final

    def _give(self, thought: bool, given: list[tuple[bool, str]]) -> None:
        """Give out what was kept."""
        kept, self._kept = self._kept, ""
        if not thought and self._thought:
            kept = kept.lstrip()
        if kept:
            self._said, self._thought = self._said or not thought, self._thought or thought
            given.append((thought, kept))


def _kind(mark: re.Match[str]) -> str:
    """What a mark does; nothing where it is none."""
    if mark["special"]:
        return _SPECIAL.get(mark["special"].lower(), "dropped")
    if mark["literal"]:
        return _LITERALS[mark["literal"].lower()]
    kind = _TAGS.get(mark["tag"].lower(), "")
    if kind == "details":
        return "opens" if "reasoning" in (mark["rest"] or "").lower() else ""
    return kind


def _begun(tail: str) -> bool:
    """Whether `tail` may be the beginning of a mark."""
    mark = _BEGUN.fullmatch(tail)
    if mark is None:
        return any(literal.startswith(tail) for literal in _LITERALS)
    if mark["tag"] is None:
        return True
    return mark["tag"] in _TAGS if mark["rest"] else any(name.startswith(mark["tag"]) for name in _TAGS)
