"""What two transcripts are compared by: words without case, punctuation and ways to write numbers.

Numbers become their digits, one by one, however they were written: `205`, `2-0-5`, `two hundred and five` and `two oh
five` are all `2 0 5`. So no recogniser is better for writing numbers as its judge does. A digit counts as a word.
"""

from __future__ import annotations

import re
import unicodedata

_ONES = {word: n for n, word in enumerate("zero one two three four five six seven eight nine".split())}  # noqa: SIM905
_TEENS = {
    word: n
    for n, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(),  # noqa: SIM905
        10,
    )
}
_TENS = {
    word: 10 * n
    for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)  # noqa: SIM905
}
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_SAME = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "ok": "okay",
    "o'clock": "o clock",
    "oclock": "o clock",
    "colour": "color",
    "grey": "gray",
    "centre": "center",
    "neighbour": "neighbor",
    "honour": "honor",
    "favour": "favor",
    "behaviour": "behavior",
}
_SIGNS = {"%": " percent ", "&": " and ", "+": " plus ", "=": " equals ", "°": " degrees "}
_TOKEN = re.compile(r"\d+|[^\W\d_]+(?:'[^\W\d_]+)*")


def words(text: str) -> list[str]:
    """The words of a transcript as they are compared."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)
    plain = re.sub(r"\$\s?(\d+)(?:\.(\d\d))?", _dollars, plain)
    plain = re.sub(r"(?<=\d):00\b", " o clock ", plain)
    for sign, word in _SIGNS.items():
        plain = plain.replace(sign, word)
    return _numbers([word for token in _TOKEN.findall(plain) for word in _spelt(token).split()])


def _spelt(token: str) -> str:
    """As one of several ways to write it; a possessive as what it belongs to."""
    if token in _SAME:
        return _SAME[token]
    stem, mark, end = token.partition("'")
    return _SAME.get(stem, stem) + mark + end


def _dollars(found: re.Match[str]) -> str:
    cents = f" and {int(found[2])} cents" if found[2] and int(found[2]) else ""
    return f"{found[1]} dollar{'s' * (found[1] != '1')}{cents}"


def _numbers(spelt: list[str]) -> list[str]:
    """The same with each number as its digits."""
    out: list[str] = []
    at = 0
    while at < len(spelt):
        value, after = _number(spelt, at)
        if value is not None:
            out += list(value)
        elif spelt[at].isdigit():
            out += list(spelt[at])
            after = at + 1
        elif spelt[at] == "oh" and out and out[-1].isdigit():
            out.append("0")
            after = at + 1
        else:
            out.append(spelt[at])
            after = at + 1
        at = after
    return out


def _number(spelt: list[str], at: int) -> tuple[str | None, int]:
    """The number that begins at a word, as digits, and where it ends; None where none does."""
    below, after = _below_hundred(spelt, at)
    if below is None:
        return None, at
    total, value = 0, below
    while after < len(spelt) and spelt[after] in _LARGE:
        scale = _LARGE[spelt[after]]
        after += 1
        if scale == 100:
            value *= 100
            behind = after + (after < len(spelt) and spelt[after] == "and")
            more, end = _below_hundred(spelt, behind)
            if more is not None:
                value, after = value + more, end
        else:
            total += value * scale
            behind = after + (after < len(spelt) and spelt[after] == "and")
            more, end = _below_hundred(spelt, behind)
            value = 0
            if more is not None:
                value, after = more, end
    return str(total + value), after


def _below_hundred(spelt: list[str], at: int) -> tuple[int | None, int]:
    word = spelt[at] if at < len(spelt) else ""
    if word in _TENS:
        one = _ONES.get(spelt[at + 1], 0) if at + 1 < len(spelt) else 0
        return _TENS[word] + one, at + 1 + (one > 0)
    if word.isdigit() and len(word) <= 2 and str(int(word)) == word:
        return int(word), at + 1
    found = _TEENS.get(word, _ONES.get(word))
    return found, at + 1
