"""From tokens to pieces that can be spoken, the first one as early as it sounds natural.

Speech synthesis works on a whole piece before its first sound comes out, so the length of the first piece is
a good part of what a person waits: on two cores 40 ms a word, of which small models put up to twenty before the first
comma. A first piece that ends before `because`, a comma or a phrase is spoken with falling pitch where a reader would
keep it level; that is the price.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field

from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Draft, Sentence, Token
from thalweg.pipeline.signal import Failure, Signal
from thalweg.pipeline.stage import Context, Port
from thalweg.stages.speech.sentence_ends import end_of_sentence
from thalweg.stages.speech.spoken import KEPT, LONGEST_KEPT, Aloud

_CLAUSE_END = re.compile(
    r"[,;:–—،؛](?=\s)|[，、；：](?=\S)|(?<=\S)(?= (?:and|because|but|if|that|when|where|which|who|while|with) )"
    r"|(?<=\S)(?= \d{1,3}[.,]\d{3}| \d{5})"  # a long number: a token a digit, and a second or two of sound
)
_PHRASE_END = re.compile(
    r"(?<=\S)(?= (?:of|in|on|at|by|for|from|to|into|over|about|around|between|through|than|as|or|so|is|are|was|were|has"
    r"|have|had|can|could|may|might|will|would|should|must|do|does|the|a|an|this|these|their|its|your|our|it|they|you"
    r"|we) )"
)
_WORD_END = re.compile(r"(?<=\S)(?=\s)")
_LONGER = 3
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]")


class Sentences:
    """Splits a reply into sentences; the first piece may end with a clause already.

    A first piece without a clause is cut before a word like `of`, `is` or `the` once it has `first_longest` words, and
    three words later at any word. A number of thousands (`10,000`) counts as a clause.

    A piece longer than `longest` characters is cut at a space, so that speech never waits for a model that writes no
    full stop. The first piece of a draft is emitted as a draft.
    """

    inputs = {"token": Token, "draft": Port(Draft, required=False)}
    outputs = {"sentence": Sentence, "draft": Port(Draft, required=False)}

    def __init__(
        self,
        first_words: Annotated[
            int, Field(ge=1, description="fewest words of a first piece that ends with a clause")
        ] = 3,
        first_longest: Annotated[
            int, Field(ge=1, description="words after which a first piece is cut where a phrase may begin")
        ] = 6,
        longest: Annotated[int, Field(ge=20, description="longest piece, characters")] = 200,
    ) -> None:
        self._first_words = first_words
        self._first_longest = first_longest
        self._longest = longest
        self._epoch = AMBIENT
        self._text = ""
        self._first = True
        self._aloud = Aloud()
        self._drafted = Draft(text="")

    def on_signal(self, signal: Signal, ctx: Context) -> None:
        """Let go of a reply that will not end."""
        if isinstance(signal, Failure) and signal.epoch == self._epoch:
            self._text = ""

    def snapshot(self) -> dict[str, Any]:
        """What has come of the piece under way."""
        return {"epoch": self._epoch, "text": self._text, "first": self._first, "aloud": self._aloud.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._epoch, self._text, self._first = state["epoch"], state["text"], state["first"]
        self._aloud = Aloud(tuple(state["aloud"]))

    def process(self, packet: Packet, ctx: Context) -> None:
        """Add a token; emit what it completes."""
        token = packet.payload
        if isinstance(token, Draft):
            self._draft(token, ctx)
            return
        assert isinstance(token, Token)
        if packet.epoch != self._epoch:
            self._epoch = packet.epoch
            self._begin()
        self._text += token.text
        while (cut := self._cut(self._text, self._first, self._aloud)) > 0:
            self._emit(self._text[:cut], ctx)
            self._text = self._text[cut:]
        if token.last:
            self._emit(self._text, ctx, last=True)
            self._begin()

    def _begin(self) -> None:
        self._text, self._first, self._aloud = "", True, Aloud()

    def _draft(self, draft: Draft, ctx: Context) -> None:
        """Emit the first piece of a draft, once: the piece that the same tokens would make."""
        known = self._drafted.text
        if known and draft.text.startswith(known):
            return
        self._drafted = Draft(text="")
        cut = self._cut(draft.text, True, Aloud()) or (len(draft.text) if draft.whole else 0)
        if piece := " ".join(draft.text[:cut].split()):
            self._drafted = draft
            ctx.emit(Draft(text=piece, whole=True), port="draft")

    def _cut(self, text: str, first: bool, aloud: Aloud) -> int:
        """How many leading characters make a piece, of a reply's `first` or a later one; 0 if none yet."""
        text, full = aloud.whole(text), text
        if (end := end_of_sentence(text)) > 0:
            return end
        if first:
            for match in _CLAUSE_END.finditer(text):
                if _words(full[: match.end()]) >= self._first_words:
                    return match.end()
            for match in _PHRASE_END.finditer(text):
                if len(text[: match.end()].split()) >= self._first_longest:
                    return match.end()
            ends = list(_WORD_END.finditer(text))
            if len(ends) >= self._first_longest + _LONGER:
                return ends[self._first_longest + _LONGER - 1].end()
        if len(text) > self._longest:
            cut = max(text.rfind(" ", 0, self._longest), 0) or self._longest
            kept = re.compile(f"{KEPT}*").match(text, cut) if text[cut - 1] == KEPT else None
            if kept is not None and kept.end() - cut <= LONGEST_KEPT:
                return kept.end() if kept.end() < len(text) else 0
            return cut
        return 0

    def _emit(self, text: str, ctx: Context, last: bool = False) -> None:
        said, text = self._aloud.say(text), " ".join(text.split())
        if text or last:
            ctx.emit(Sentence(text=text, last=last, first=self._first, said=said), port="sentence")
            self._first = False


def _words(text: str) -> int:
    """Words, and two characters as one of them in scripts that put no spaces between words."""
    return len(text.split()) + len(_WITHOUT_SPACES.findall(text)) // 2
