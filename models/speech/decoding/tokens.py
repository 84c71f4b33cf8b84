"""From token ids to text: the plain list of pieces that a tokenizer boils down to when it only has to be read.

A SentencePiece model is a protobuf message whose first field repeats `{1: piece, 2: score, 3: type}`; that much is
read here, so that neither converting nor running a model needs the library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thalweg.models.errors import ModelError

WORD = "▁"
_UNKNOWN_TYPE, _CONTROL_TYPE = 2, 3
_BYTE = re.compile(r"<0x([0-9A-F]{2})>$")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The vocabulary: `pieces[id]`. `characters`: pieces are letters and the space stands for itself."""

    pieces: tuple[str, ...]
    characters: bool = False

    def __len__(self) -> int:
        return len(self.pieces)

    def text(self, ids: Sequence[int]) -> str:
        """What a sequence of tokens says."""
        joined = "".join(self._printed(ids))
        return joined.strip() if self.characters else joined.replace(WORD, " ").removeprefix(" ")

    def begins_word(self, token: int) -> bool:
        """Whether a word begins with this token (of a character model: whether it is the space before it)."""
        return self.pieces[token].startswith(" " if self.characters else WORD)

    def _printed(self, ids: Sequence[int]) -> Iterator[str]:
        held = b""
        for token in ids:
            piece = self.pieces[token]
            byte = _BYTE.match(piece)
            if byte:
                held += bytes.fromhex(byte[1])
                continue
            if held:
                yield held.decode(errors="replace")
                held = b""
            yield piece
        if held:
            yield held.decode(errors="replace")


def sentencepiece_tokens(model: bytes) -> Tokens:
    """The pieces of a SentencePiece model file. Raises ModelError where it is none."""
    try:
        pieces = [_piece(body) for number, body in _fields(model) if number == 1 and isinstance(body, bytes)]
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        raise ModelError(f"the tokenizer is not a SentencePiece model: {error}") from None
    if not pieces:
        raise ModelError("the tokenizer is not a SentencePiece model: it holds no pieces")
    return Tokens(tuple(pieces))


def _piece(message: bytes) -> str:
    fields = dict(_fields(message))
    text, kind = fields.get(1, b""), fields.get(3, 1)
    if kind == _CONTROL_TYPE or not isinstance(text, bytes):
        return ""
    return " ⁇ " if kind == _UNKNOWN_TYPE else text.decode()


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            yield number, message[at : at + size]
            at += size
        elif kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("it is truncated")
            yield number, message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
