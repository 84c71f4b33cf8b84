"""Inputs that are nearly right: bytes damaged as links, disks and strangers damage them."""

from __future__ import annotations

import random
from collections.abc import Sequence

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (
    b"\xc0",
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",  # MessagePack: a map, an array, texts and numbers of the largest sizes
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + b"\0" * 7,
    b"\xcb\x7f\xf0" + b"\0" * 6,
    b"\xcb\x7f\xf8" + b"\0" * 6,
    b"\x91" * 600,
    b"\x81\xa0" * 300,
    b"\x80",
    b"\x90",
    b"\xc7\xff\x01",
    b"\xd6\xff\0\0\0\0",
    b"\xa3\xed\xa0\x80",  # half of a surrogate pair
    b"\xff" * 10,  # a protobuf number without end
    b"\x1a\xff\xff\xff\xff\x0f",
    b'"\\ud800"',
    b"NaN",
    b"1e999",
    b"9" * 400,
    b"[" * 400,
    b'{"":' * 200,
    b"\x1b[2J\x1b]0;x\x07",
    "\u202e\u2066".encode(),
)


def mutate(data: bytes, rng: random.Random, pool: Sequence[bytes]) -> bytes:
    """One to eight changes; `pool`: others to take pieces from."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if not found:
            found = bytearray(rng.randbytes(8))
        at = rng.randrange(len(found))
        match rng.randrange(9):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.randrange(256)
            case 2:
                del found[at : at + rng.randrange(1, 9)]
            case 3:
                found[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                size = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) & ((1 << 8 * size) - 1)
                found[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
            case 5:
                del found[at:]
            case 6:
                other = rng.choice(pool)
                start = rng.randrange(len(other) + 1)
                found[at:at] = other[start : start + rng.randrange(1, 32)]
            case 7:
                found[at:at] = rng.choice(TOKENS)
            case _:
                token = rng.choice(TOKENS)
                found[at : at + len(token)] = token
    return bytes(found)


def value(rng: random.Random, depth: int = 0) -> object:
    """Any value that MessagePack and JSON can hold, the more unusual the better."""
    simple = (
        None, True, False, 0, 1, -1, rng.choice(NUMBERS), -rng.choice(NUMBERS[:10]), 0.5, float("nan"), float("inf"),
        1e308, "", "x", "é\u202e", "\x1b[2J", "\ud800", "A" * 300, b"", b"\xff\x00", rng.randrange(2**16),
    )  # fmt: skip
    if depth < 5:
        match rng.randrange(6):
            case 0:
                return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
            case 1:
                return {
                    rng.choice(("", "a", "v", "type", "use")): value(rng, depth + 1) for _ in range(rng.randrange(3))
                }
            case 2 if depth == 0:
                deep: object = 1
                for _ in range(rng.choice((5, 100, 400))):
                    deep = [deep]
                return deep
    return rng.choice(simple)
