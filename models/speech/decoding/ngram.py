"""An n-gram language model of words, read from an ARPA file, with back-off (Katz)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thalweg.models.errors import ModelError
from thalweg.models.store.bounded import read_text_at_most

LARGEST = 1_000_000_000
"""Bytes of a file."""


class NGram:
    """Log probabilities to base 10. `order`: the longest n-gram. Unknown words count as `<unk>`, or 10⁻⁷."""

    def __init__(self, grams: dict[tuple[str, ...], tuple[float, float]], order: int) -> None:
        self._grams = grams
        self.order = order

    @classmethod
    def load(cls, path: Path) -> NGram:
        """Read an ARPA file. Raises ModelError where it is none."""
        grams: dict[tuple[str, ...], tuple[float, float]] = {}
        order = 0
        try:
            for number, line in enumerate(read_text_at_most(path, LARGEST).splitlines(), 1):
                text = line.strip()
                if text.startswith("\\") and text.endswith("-grams:"):
                    order = int(text[1:].removesuffix("-grams:"))
                elif order and text and not text.startswith("\\"):
                    parts = text.split()
                    words = tuple(parts[1 : order + 1])
                    if len(words) != order:
                        raise ModelError(f"{path}:{number}: {len(words)} words in a {order}-gram")
                    grams[words] = (float(parts[0]), float(parts[order + 1]) if len(parts) > order + 1 else 0.0)
        except FileNotFoundError:
            raise ModelError(f"{path} does not exist") from None
        except (OSError, ValueError, IndexError) as error:
            raise ModelError(f"{path} is no ARPA file: {error}") from None
        if not grams:
            raise ModelError(f"{path} is no ARPA file: it holds no n-grams")
        return cls(grams, order)

    def score(self, history: Sequence[str], word: str) -> float:
        """log₁₀ of the probability of `word` after `history`."""
        context = tuple(history)[len(history) - self.order + 1 :] if self.order > 1 else ()
        if len(history) < self.order - 1:
            context = tuple(history)
        if (word,) not in self._grams:
            word = "<unk>"
        penalty = 0.0
        while True:
            found = self._grams.get((*context, word))
            if found is not None:
                return penalty + found[0]
            if not context:
                return penalty - 7.0
            penalty += self._grams.get(context, (0.0, 0.0))[1]
            context = context[1:]
