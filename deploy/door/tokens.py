"""Which tokens open a server now: one that was given, or those of a file, which is read again whenever it changes.

A line of the file is a token; behind it may stand until when it is good, a date or a time of ISO 8601 (UTC unless it
says otherwise; a date: to its end). What follows a `#` at the beginning of a line or behind a blank is a comment:

    rJ8wXk2vTq0pYhL5   2026-12-31            # the tablet in the hall
    nC4tZs9bQe7uMg1d   2026-07-01T12:00+02:00
    aV6yDf3kRw8xPj5o

So a token is exchanged by adding the new one, handing it out, and taking the old one away, without a restart. A file
that cannot be read any more, or says nonsense, changes nothing: what it said before holds, and the log says so.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hmac import compare_digest
from pathlib import Path

from thalweg.models.store.bounded import read_text_at_most
from thalweg.pipeline.errors import ThalwegError

log = logging.getLogger(__name__)

MOST_BYTES = 64_000
MOST_TOKENS = 100
SHORTEST = 8
_COMMENT = re.compile(r"(^|\s)#.*")


class TokenError(ThalwegError):
    """A file of tokens, or of other secrets, that cannot be used. Never says what stands in it."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """`until_s`: the first moment it opens nothing any more, seconds since 1970; None: it has no end."""

    secret: str
    until_s: float | None = None

    def good(self, now_s: float) -> bool:
        """Whether it opens at `now_s`."""
        return self.until_s is None or now_s < self.until_s


class AccessTokens:
    """`given`: a token without end; `path`: a file with more. Raises TokenError where the file cannot be used now.

    Where neither is given, no token is required. An empty file admits no client.
    """

    def __init__(self, given: str = "", path: Path | None = None, now_s: Callable[[], float] = time.time) -> None:
        self._given = (AccessToken(given),) if given else ()
        self._path = path
        self._now_s = now_s
        self._told = () if path is None else _mark(path)
        self._listed = () if path is None else tokens_of(path)

    @property
    def wanted(self) -> bool:
        """Whether who comes must have one."""
        return bool(self._given) or self._path is not None

    def open(self, given: str) -> bool:
        """Whether a token opens now. How long that takes tells nothing of the tokens but how many there are."""
        self._look()
        now_s = self._now_s()
        good = [token for token in (*self._given, *self._listed) if token.good(now_s)]
        return sum(same_secret(given, token.secret) for token in good) > 0

    def _look(self) -> None:
        """Read the file again if it is another than it was."""
        if self._path is None:
            return
        mark = _mark(self._path)
        if mark == self._told:  # of a file that is no good, too: it is said once, and looked at again when it changes
            return
        self._told = mark
        try:
            self._listed = tokens_of(self._path)
            log.info("the tokens of %s were read again: %d of them", self._path, len(self._listed))
        except TokenError as error:
            log.error("%s; the tokens that it held before go on to be good", error)


def tokens_of(path: Path) -> tuple[AccessToken, ...]:
    """What a file of tokens lists. Raises TokenError."""
    found = tuple(_token(path, number, line.split()) for number, line in _lines(path))
    if len(found) > MOST_TOKENS:
        raise TokenError(f"{path} lists {len(found)} tokens, at most {MOST_TOKENS} are taken")
    return found


def secrets_of(path: Path) -> tuple[str, ...]:
    """The lines of a file that holds one secret in each; comments as above. Raises TokenError."""
    return tuple(line for _, line in _lines(path))


def _lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is more than a comment. Raises TokenError."""
    try:
        text = read_text_at_most(path, MOST_BYTES)
        with_others = os.stat(path).st_mode & (stat.S_IROTH | stat.S_IWOTH)
    except OSError as error:
        raise TokenError(f"cannot read the secrets in {path}: {error.strerror}") from None
    if with_others:
        log.warning("%s holds secrets, and every user of this machine may read it: chmod o= %s", path, path)
    lines = [(number, _COMMENT.sub("", line).strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line]


def same_secret(given: str, secret: str) -> bool:
    """Whether two secrets are the same, and not empty; how long that takes tells nothing of where they differ."""
    return secret != "" and compare_digest(
        given.encode("utf-8", "surrogateescape"), secret.encode("utf-8", "surrogateescape")
    )


def _token(path: Path, number: int, words: list[str]) -> AccessToken:
    secret, *more = words
    if not secret.isascii() or not secret.isprintable() or len(secret) < SHORTEST:
        raise TokenError(
            f"{path}, line {number}: expected a token of at least {SHORTEST} printable ASCII characters, "
            "then perhaps a date; `openssl rand -base64 24` makes a good one"
        )
    if len(more) > 1:
        raise TokenError(f"{path}, line {number}: expected a token and perhaps a date, found {len(words)} words")
    try:
        return AccessToken(secret, _until_s(more[0]) if more else None)
    except ValueError:
        raise TokenError(
            f"{path}, line {number}: behind the token stands no date, expected one such as 2026-12-31 or "
            "2026-12-31T12:00+01:00"
        ) from None


def _until_s(text: str) -> float:
    """Raises ValueError."""
    if len(text) == len("2026-12-31"):
        day = date.fromisoformat(text) + timedelta(days=1)
        return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _mark(path: Path) -> tuple[int, ...]:
    """What is another where a file has changed, or is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)  # ctime: another may read it now
