"""How likely a model answers a question rightly, told from the question alone, before a turn begins.

Logistic regression on two kinds of features: the question's sentence embedding (what it is about), and which of
`CATEGORIES` it is (what is asked of it: to count, to reckon, to translate). Learned for one model from questions whose
answers were looked through; of another model it says nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = (
    r"\b(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|hundred|thousand|half|third|dozen|\d+)\b"
)
CATEGORIES = {
    "number": _NUMBER,
    "two numbers": rf"{_NUMBER}.*{_NUMBER}",
    "reckoning": r"\b(?:plus|minus|times|divided|squared|half of|third of|twice|larger|smaller|more than|less than"
    r"|between)\b",
    "how many": r"^how (?:many|much)",
    "when": r"^(?:when|in which year|what year)|\byear did\b",
    "who": r"^who\b",
    "where": r"^(?:where|in which country|on which|which country)|\b(?:country|continent|river|capital|city)\b",
    "language": r"\b(?:French|Spanish|German|Italian|Portuguese|Latin|Dutch|Swedish|Japanese)\b",
    "word": r"\b(?:plural|past tense|opposite|synonym|spell|letter|rhyme)\b",
    "name of": r"\b(?:do you call|is the name for|called)\b",
    "symbol": r"\b(?:symbol|formula|currency)\b",
    "which": r"^which\b",
    "what is": r"^what is\b",
    "how do": r"^how do\b",
    "colour": r"\bcolou?r\b",
    "why": r"^why\b",
    "use": r"\b(?:use|made of)\b",
}
"""By name, the pattern of a question that is one; a question may be several, or none."""
_PATTERNS = tuple(re.compile(pattern, re.IGNORECASE) for pattern in CATEGORIES.values())


def categories(question: str) -> list[float]:
    """Of each category, in order, whether a question is one: 0 or 1."""
    return [float(pattern.search(question.strip()) is not None) for pattern in _PATTERNS]


@dataclass(frozen=True, slots=True)
class QuestionQuality:
    """Of one model. `embedding` [384] and `category` [17]: weights; `bias`: the log odds where all of these are 0."""

    embedding: Sequence[float]
    category: Sequence[float]
    bias: float

    def of(self, question: str, embedding: Sequence[float]) -> float:
        """The share of such questions that it answers rightly, 0…1. `embedding`: the question's, MiniLM's."""
        odds = self.bias
        odds += sum(weight * value for weight, value in zip(self.embedding, embedding, strict=True))
        odds += sum(weight * value for weight, value in zip(self.category, categories(question), strict=True))
        return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, odds))))
