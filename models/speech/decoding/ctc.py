"""CTC decoding in a stream: the best token of each frame, or a beam of prefixes with boosted phrases and an n-gram.

Greedy never takes anything back. The prefix beam (arXiv 1408.2873) keeps, for each prefix, the probability of having
ended in blank and in its last token; what all prefixes of the beam share is stable. Boosts and the language model
change which prefix wins, and are kept apart from the acoustic score, from which confidence comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.models.speech.decoding.hypothesis import Emitted
from thalweg.models.speech.decoding.ngram import NGram
from thalweg.models.speech.decoding.tokens import WORD, Tokens

_NONE = -1e30
_LN10 = float(np.log(10))


class CtcGreedy:
    """The best token of each frame, repetitions once, blanks not at all."""

    def __init__(self, blank: int) -> None:
        self._blank = blank
        self._last = blank
        self.emitted: list[Emitted] = []

    def feed(self, log_probs: NDArray[np.float32], frame: int) -> None:
        """Take [n, vocabulary + 1]; `frame` is the number of the first one."""
        best = log_probs.argmax(axis=1)
        for i, token in enumerate(best.tolist()):
            if token not in (self._blank, self._last):
                self.emitted.append(Emitted(token, frame + i, float(log_probs[i, token])))
            self._last = token

    @property
    def stable_tokens(self) -> int:
        """How many leading tokens can no longer change: all."""
        return len(self.emitted)

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls."""
        return {"last": self._last, "emitted": [(e.token, e.frame, e.log_prob) for e in self.emitted]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._last = state["last"]
        self.emitted = [Emitted(*each) for each in state["emitted"]]


class Phrases:
    """Phrases that are expected: each character that goes along one adds `bonus`, taken back if it breaks off."""

    def __init__(self, phrases: Sequence[str], bonus: float = 1.5) -> None:
        self.bonus = bonus
        self.root: dict[str, Any] = {}
        for phrase in phrases:
            node = self.root
            for letter in f" {phrase.strip()}":
                node = node.setdefault(letter, {})
            node[""] = True

    def follow(self, state: tuple[dict[str, Any] | None, int], text: str) -> tuple[tuple[Any, int], float]:
        """From a state (node, characters not yet earned) along `text`: the new state and what the score changes by."""
        node, owed = state
        gain = 0.0
        for letter in text:
            after = (node or {}).get(letter)
            if after is None:
                gain -= owed * self.bonus
                owed = 0
                after = self.root.get(letter) if letter == " " else None
            if after is not None:
                gain += self.bonus
                owed = 0 if "" in after else owed + 1
            node = after
        return (node, owed), gain


@dataclass(slots=True, eq=False)
class _Prefix:
    """A node of the tree of prefixes; the path to the root is what was said.

    A prefix that fell out of the beam may come back as another node, below which older descendants still live: so
    prefixes are told apart by `key`, a hash of the tokens, and not by which node they are.
    """

    parent: _Prefix | None
    key: int
    token: int
    frame: int
    log_prob: float
    depth: int
    bias: float = 0.0  # boosts and language model, of the whole path
    boost: tuple[Any, int] = (None, 0)
    words: tuple[str, ...] = ()
    spelled: str = ""
    blank: float = _NONE
    token_end: float = _NONE
    next_blank: float = field(default=_NONE)
    next_token: float = field(default=_NONE)

    @property
    def score(self) -> float:
        return float(np.logaddexp(self.blank, self.token_end)) + self.bias


class CtcBeam:
    """Prefix beam search: `width` prefixes within `prune` nats of the best, `per_frame` tokens tried at each frame."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        width: int = 8,
        per_frame: int = 12,
        prune: float = 10.0,
        phrases: Phrases | None = None,
        ngram: NGram | None = None,
        ngram_weight: float = 0.5,
        word_bonus: float = 0.5,
    ) -> None:
        self._tokens, self._blank = tokens, len(tokens)
        self._width, self._per_frame, self._prune = width, per_frame, prune
        self._phrases, self._ngram, self._weight, self._word_bonus = phrases, ngram, ngram_weight, word_bonus
        root = _Prefix(None, 0, -1, -1, 0.0, 0, boost=(phrases.root if phrases else None, 0), blank=0.0)
        root.words = ("<s>",)
        self._beam = [root]

    def feed(self, log_probs: NDArray[np.float32], frame: int) -> None:
        """Take [n, vocabulary + 1]; `frame` is the number of the first one."""
        for i, row in enumerate(log_probs):
            self._step(row, frame + i)

    def _step(self, row: NDArray[np.float32], frame: int) -> None:
        count = min(self._per_frame, len(row))
        candidates = np.argpartition(row, -count)[-count:].tolist()
        known = {prefix.key: prefix for prefix in self._beam}
        touched: dict[int, _Prefix] = {}
        for prefix in self._beam:
            total = float(np.logaddexp(prefix.blank, prefix.token_end))
            self._add(touched, prefix, blank=total + float(row[self._blank]))
            if prefix.token >= 0:
                self._add(touched, prefix, token=prefix.token_end + float(row[prefix.token]))
            for token in candidates:
                if token == self._blank:
                    continue
                before = prefix.blank if token == prefix.token else total
                if before <= _NONE / 2:
                    continue
                key = hash((prefix.key, token))
                if key not in known:
                    known[key] = self._extend(prefix, token, frame, float(row[token]))
                child = known[key]
                self._add(touched, child, token=before + float(row[token]))
        for prefix in touched.values():
            prefix.blank, prefix.token_end = prefix.next_blank, prefix.next_token
            prefix.next_blank = prefix.next_token = _NONE
        ranked = sorted(touched.values(), key=lambda p: -p.score)[: self._width]
        self._beam = [prefix for prefix in ranked if prefix.score >= ranked[0].score - self._prune]

    def _add(self, touched: dict[int, _Prefix], p: _Prefix, blank: float = _NONE, token: float = _NONE) -> None:
        touched[p.key] = p
        p.next_blank = float(np.logaddexp(p.next_blank, blank))
        p.next_token = float(np.logaddexp(p.next_token, token))

    def _extend(self, parent: _Prefix, token: int, frame: int, log_prob: float) -> _Prefix:
        key = hash((parent.key, token))
        child = _Prefix(parent, key, token, frame, log_prob, parent.depth + 1, parent.bias, parent.boost, parent.words)
        text = self._tokens.pieces[token].replace(WORD, " ")
        if self._phrases:
            spoken = text if parent.depth else f" {text.lstrip()}"
            child.boost, gain = self._phrases.follow(parent.boost, spoken)
            child.bias += gain
        child.spelled = parent.spelled + text
        if " " in child.spelled.lstrip(" "):
            word, _, rest = child.spelled.lstrip(" ").rpartition(" ")
            child.bias += self._word_bonus if self._ngram else 0.0
            if self._ngram:
                child.bias += self._weight * _LN10 * self._ngram.score(parent.words, word)
                child.words = (*parent.words, word)[-self._ngram.order + 1 :]
            child.spelled = f" {rest}"
        return child

    @property
    def emitted(self) -> list[Emitted]:
        """The best prefix."""
        return _path(self._beam[0])

    @property
    def stable_tokens(self) -> int:
        """How many leading tokens all prefixes of the beam share."""
        nodes = list(self._beam)
        while len({node.key for node in nodes}) > 1:
            deepest = max(node.depth for node in nodes)
            nodes = [node.parent if node.depth == deepest and node.parent else node for node in nodes]
        return nodes[0].depth

    def snapshot(self) -> dict[str, Any]:
        """The state between two calls; boosts and the language model are found again along the path."""
        paths = [[(e.token, e.frame, e.log_prob) for e in _path(p)] for p in self._beam]
        return {"paths": paths, "ends": [(p.blank, p.token_end) for p in self._beam]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        root = self._beam[0]
        while root.parent is not None:
            root = root.parent
        root.blank = root.token_end = _NONE
        self._beam = []
        for path, (blank, token_end) in zip(state["paths"], state["ends"], strict=True):
            node = root
            for token, frame, log_prob in path:
                node = self._extend(node, token, frame, log_prob)
            node.blank, node.token_end = blank, token_end
            self._beam.append(node)


def _path(prefix: _Prefix | None) -> list[Emitted]:
    path = []
    while prefix is not None and prefix.parent is not None:
        path.append(Emitted(prefix.token, prefix.frame, prefix.log_prob))
        prefix = prefix.parent
    return path[::-1]
