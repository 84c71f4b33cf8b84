"""The bytes of a streamed reply, in any pieces, as deltas. Pure: no socket, no clock.

    what comes first           is read as
    data: event: : …           server-sent events, independent of the header
    {  [                       one JSON object per line, or one over several lines, or the whole reply in one
    <                          a web page of a proxy in front of the server
    anything else              words, which are no answer

Bounds: a line or an event of a megabyte, after which BackendError is raised; nothing else is kept.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from thalweg.models.http.errors import quoted
from thalweg.models.language.backend import BackendError, Delta, ErrorKind, Finish, Progress, Reason, Text
from thalweg.models.language.chunk import deltas, error_in, told

LONGEST_LINE = 1_000_000
_WORDS = 4096
_FIELD = re.compile(rb"(data|event|id|retry|error)?:")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_NOT_JSON = object()


class StreamParser:
    """Reads one reply. `done`: nothing more is to come. `finished`: its end was told, a few figures may follow.

    `feed` and `end` raise BackendError on what is not an answer. A reply is whole that says a reason for its end or
    `[DONE]`, or comes as one object; where the stream just ends, it broke off.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = bytearray()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._event = ""
        self._mode = ""
        self._words = b""
        self._reason: Reason | None = None
        self._begun = self._ended = self._text = False

    @property
    def finished(self) -> bool:
        """Whether the reply is said."""
        return self.done or self._reason is not None

    def feed(self, data: bytes) -> Iterator[Delta]:
        """What these bytes make certain, in order, and then what is wrong with them. To be taken to its end."""
        if self._buffer[-1:] == b"\r":  # half a line end, or a whole one
            data, self._buffer = bytes(self._buffer) + data, bytearray()
        if b"\n" in data or b"\r" in data:
            held = data[-1:] == b"\r"
            lines = _LINE_END.split(bytes(self._buffer) + (data[:-1] if held else data))
            self._buffer = bytearray(lines.pop() + (b"\r" if held else b""))
            for line in lines:
                yield from self._line(line)
        else:
            self._buffer += data
        self._bound(len(self._buffer))

    def end(self) -> Iterator[Delta]:
        """The connection was closed in order."""
        line, self._buffer = bytes(self._buffer).rstrip(b"\r"), bytearray()
        if line:
            yield from self._line(line)
        if self._pending:
            yield from self._joined(b"\n".join(self._pending), cut=self._mode == "events" or self._begun)
        if self._mode == "words" or (not self._begun and self._words):
            raise self._no_answer()
        if self._ended:
            return
        if self._reason is None and not (self._mode == "json" and self._text):
            raise self._broke_off()
        self._ended = True
        yield Finish(self._reason or Reason.STOP)

    def _line(self, line: bytes) -> list[Delta]:
        self._bound(len(line))
        if self.done:
            return []
        if not self._mode:
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                return []
            self._mode = _mode(line)
        if self._mode == "words":
            self._words += line[:_WORDS] + b"\n"
            if len(self._words) > _WORDS:
                raise self._no_answer()
            return []
        return self._json_line(line) if self._mode == "json" else self._field(line)

    def _json_line(self, line: bytes) -> list[Delta]:
        """A line that is an object by itself, or part of one over several lines."""
        if not self._pending and line.strip():
            chunk = _read(line)
            if chunk is not _NOT_JSON:
                return self._chunk(chunk)
        self._keep(line)
        return []

    def _field(self, line: bytes) -> list[Delta]:
        if not line:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            found = self._joined(b"\n".join(pending)) if pending else []
            self._event = ""
            return found
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not name:
            return [Progress("ping")]
        if name == b"event":
            self._event = value.decode("utf-8", "replace").strip().lower()
        elif name == b"error":
            read = _read(value)
            raise told(value.decode("utf-8", "replace") if read is _NOT_JSON else read)
        elif name == b"data":
            return self._data(value)
        elif line.lstrip()[:1] == b"{" or _is_done(line):
            return self._data(line)
        elif name not in (b"id", b"retry"):
            self._words = (self._words + line + b"\n")[:_WORDS]
        return []

    def _data(self, value: bytes) -> list[Delta]:
        """Read at once where it is whole: many servers leave out the empty line."""
        if not self._pending:
            if not value.strip():
                return [Progress("empty")]
            if _is_done(value):
                return self._finish()
            chunk = _read(value)
            if chunk is not _NOT_JSON:
                return self._chunk(chunk)
        self._keep(value)
        return []

    def _joined(self, value: bytes, *, cut: bool = False) -> list[Delta]:
        """An event over several lines, or one that is no JSON."""
        if _is_done(value):
            return self._finish()
        chunk = _read(value)
        if chunk is not _NOT_JSON:
            return self._chunk(chunk)
        if cut and value.lstrip()[:1] in (b"{", b"["):
            raise self._broke_off()
        text = value.decode("utf-8", "replace")
        raise told(text) if self._event == "error" else _not_an_answer(text)

    def _chunk(self, chunk: Any) -> list[Delta]:  # Any: what JSON can say
        if self._event == "error":
            error_in(chunk if isinstance(chunk, dict) else {"message": chunk}, named=True)
        if isinstance(chunk, str):
            raise _not_an_answer(chunk)
        return self._taken(deltas(chunk))

    def _taken(self, found: list[Delta]) -> list[Delta]:
        """Keep the reason back until everything was said."""
        self._begun = True
        kept: list[Delta] = []
        for delta in found:
            self._text = self._text or isinstance(delta, Text)
            if isinstance(delta, Finish):
                self._reason = delta.reason
            else:
                kept.append(delta)
        return kept

    def _finish(self) -> list[Delta]:
        self._begun = self.done = self._ended = True
        return [Finish(self._reason or Reason.STOP)]

    def _keep(self, part: bytes) -> None:
        self._pending.append(part)
        self._pending_bytes += len(part) + 1
        self._bound(self._pending_bytes)

    def _bound(self, length: int) -> None:
        if length > LONGEST_LINE:
            raise _not_an_answer(f"a line of more than {LONGEST_LINE // 1000} kB")

    def _no_answer(self) -> BackendError:
        text = self._words.decode("utf-8", "replace")
        if text.lstrip()[:1] != "<":
            return _not_an_answer(text)
        return BackendError(ErrorKind.NO_ANSWER, f"sent a web page in place of an answer: {quoted(without_tags(text))}")

    def _broke_off(self) -> BackendError:
        words = quoted(self._words.decode("utf-8", "replace"))
        where = "in the middle of its answer" if self._text else "before it answered"
        return BackendError(ErrorKind.BROKE_OFF, f"broke off {where}" + (f": {words}" if words else ""))


def without_tags(page: str) -> str:
    """The words of a web page."""
    return html.unescape(re.sub(r"<(script|style)\b.*?(</\1>|$)|<[^>]*>?", " ", page, flags=re.S | re.I))


def _not_an_answer(found: str) -> BackendError:
    return BackendError(ErrorKind.NO_ANSWER, f"sent something that is not an answer: {quoted(found) or 'nothing'}")


def _mode(line: bytes) -> str:
    if line.lstrip()[:1] in (b"{", b"[") and not _is_done(line):
        return "json"
    return "events" if _FIELD.match(line) or _is_done(line) else "words"


def _is_done(value: bytes) -> bool:
    return value.strip().upper() == b"[DONE]"


def _read(value: bytes) -> Any:  # Any: what JSON can say, or `_NOT_JSON`
    try:
        return json.loads(value.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return _NOT_JSON
