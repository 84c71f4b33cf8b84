"""How complete the words of a turn are: whether their speaker seems to be done, or in the middle of something.

Words are English ones; of other languages only marks and figures tell. A recogniser may write no punctuation at all,
and in a pause it puts full stops and question marks behind halves of sentences, too: no mark outweighs a last word that
ends no sentence. Rules are tried in the order of `completeness`; the first that holds decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum


class Completeness(Enum):
    """What the words indicate."""

    GOES_ON = "goes on"
    """An unfinished sentence."""
    DICTATED = "dictated"
    """A number that lacks digits."""
    LISTED = "listed"
    """Things one after another, without an “and” before the last."""
    NUMBER = "number"
    """A number that may be whole, or longer."""
    OPEN = "open"
    """Nothing."""
    WHOLE = "whole"
    """A whole sentence, or a number with all of its digits."""


def completeness(text: str, language: str = "") -> Completeness:
    """The completeness of the words recognised so far. `language`: code; empty: not known, taken for English."""
    text = text.translate(_MARKS).strip()
    words = [word.casefold() for word in _WORD.findall(text)]
    if not words:
        return Completeness.OPEN
    digits, before = _number(words)
    if digits and text[-1] != "?":
        return _by_length(digits, before)
    if text.endswith(_BROKEN_OFF):
        return Completeness.GOES_ON
    if language in ("", "en") and (found := _by_words(words, text)) is not None:
        return found
    whole = text[-1] in "?!" or (text[-1] == "." and len(words) >= 3)
    return Completeness.WHOLE if whole else Completeness.OPEN


def _by_words(words: Sequence[str], text: str) -> Completeness | None:
    """By English words; None where they do not tell. How a sentence begins counts of the last one only."""
    last = _SENTENCE_END.split(text)[-1]
    sentence = [word.casefold() for word in _WORD.findall(last)] or words
    if _goes_on(sentence, last):
        return Completeness.GOES_ON
    if text[-1] != "?" and _lists(text):
        return Completeness.LISTED
    if words[-1] in _RARELY_LAST:
        return Completeness.OPEN
    asks = sentence[0] in _ASKS and len(sentence) >= 3
    return Completeness.WHOLE if asks or (len(words) == 1 and words[0] in _SHORT) else None


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(f" {phrase}" for phrase in text.split(", "))


_WORD = re.compile(r"\d+|[^\W\d_]+(?:['’-][^\W\d_]+)*")
_MARKS = str.maketrans("。？！，、；؟", ".?!,,;?")
_SENTENCE_END = re.compile(r"[.?!]\s+")
_BROKEN_OFF = ("...", "…", ",", "-", "–")

_NEVER_LAST = _set("a an the my your his our their every and or but nor because although unless if than whose very of")
"""Words that end no English sentence, or hardly one."""
_RARELY_LAST = _set(
    "though her its this these those some any each while until when whenever where which who whom as "
    "to in on at by for with from into onto about between through during without within towards like "
    "is are was were am be been being will would can could should shall may might must do does did has have had "
    "i we they he she i'm we're they're you're it's there's i'd i'll we'll let's "
    "um uh er erm hmm mm well actually basically maybe perhaps then also plus really too more most not"
)
"""Words that rarely end one, but some end questions (“Where are you from?”)."""
_SHORT = _set("yes no okay ok thanks please stop right sure now today tomorrow it that")
_MODALS = _set("can could would should will shall may might must do does did")
_PRONOUNS = _set("i you we they he she")
_WANTING = _phrases(
    "tell me, show me, give me, remind me, let me, let me see, let me think, want to know, wanted to know, "
    "like to know, i want, i need, would like, looking for, what kind, what about, i think that, to say that"
)
"""What wants an object or a clause: the last words of a text that goes on."""
_CONDITIONS = _set("if although unless while whenever")
"""A clause that begins with one wants a main clause, which a comma begins (or “then”)."""
_ASKS = _set(
    "what what's who who's whose when when's where where's which why how how's is are was were do does did can could "
    "will would should has have may"
)


def _goes_on(words: Sequence[str], text: str) -> bool:
    last = words[-1]
    if last in _NEVER_LAST or f" {' '.join(words)}".endswith(_WANTING):
        return True
    if words[0] in _CONDITIONS and not ("," in text or "then" in words):
        return True
    if last in _PRONOUNS and len(words) <= 3 and words[-2:-1] and words[-2] in _MODALS:
        return True
    return last in _RARELY_LAST and not (text[-1] in "?!" and len(words) > 2)


_ADDED = _set(
    "please thanks thank then too though okay ok yes no right really either sir madam again now today tomorrow hello "
    "hi hey well so sorry oh um uh maybe bye goodbye good morning evening night"
)
"""Words set off by a comma that are no item of a list."""
_TITLE = re.compile(r"\b(mr|mrs|ms|dr|st|prof)\.", re.IGNORECASE)


def _lists(text: str) -> bool:
    """Whether the last of two things is there, short and without an “and”; a full stop may stand for the comma."""
    *_, before, last = ["", *re.split(r"[,.;]\s+", _TITLE.sub(r"\1", text).rstrip("., "))]
    item = [word.casefold() for word in _WORD.findall(last)]
    first = [word.casefold() for word in _WORD.findall(before)]
    if not first or not 1 <= len(item) <= 2 or set(item) & (_ADDED | {"and", "or"}):
        return False
    return not set(first) <= _ADDED and first[0] not in _CONDITIONS


_UNITS = _set("zero oh one two three four five six seven eight nine double")
_TENS = _set("twenty thirty forty fifty sixty seventy eighty ninety")
_TEENS = _set("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen triple")
_NO_DIGITS = _set("hundred dot dash")
_LENGTHS: Sequence[tuple[frozenset[str], int, int]] = (
    (_set("card credit visa mastercard"), 15, 16),  # ISO/IEC 7812; American Express has 15
    (_set("code pin password passcode combination"), 4, 6),  # PINs of banks; one-time passwords (RFC 6238)
    (_set("phone number call dial reach text mobile cell"), 7, 10),  # ITU-T E.164: local, and with an area code
    (_set("zip postcode year born since in at until around costs"), 3, 4),  # years, times, prices
    (frozenset(), 4, 10),
)
"""By a word before a number: the fewest digits, and the number of them that is surely all."""


def _number(words: Sequence[str]) -> tuple[int, Sequence[str]]:
    """Digits of the number that is being dictated at the end, 0 if none is, and the words before it."""
    digits, said, after = 0, 0, ""
    for word in reversed(words):
        of_word = _digits(word, after)
        if of_word is None:
            break
        digits, said, after = digits + of_word, said + 1, word
    return digits if said > 1 or digits > 2 else 0, words[: len(words) - said]


def _digits(word: str, after: str) -> int | None:
    """Digits of a word before the word `after`: “twenty” has one before “three”, else two. None for other words."""
    if word.isdecimal():
        return len(word)
    if word in _TENS:
        return 1 if after in _UNITS else 2
    return 1 if word in _UNITS else 2 if word in _TEENS else 0 if word in _NO_DIGITS else None


def _by_length(digits: int, before: Sequence[str]) -> Completeness:
    least, most = next((low, high) for named, low, high in _LENGTHS if not named or named & set(before))
    if digits < least:
        return Completeness.DICTATED
    return Completeness.WHOLE if digits >= most else Completeness.NUMBER
