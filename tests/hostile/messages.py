"""Bytes that a stranger, a broken link or a bad disk sends, by what reads them."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import msgpack

DEEP = b"\x91" * 5_000 + b"\x01"


def packed(value: Any) -> bytes:
    """MessagePack, half characters included."""
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


def said(**fields: Any) -> bytes:
    """A control or an event."""
    return json.dumps({"v": 1, **fields}).encode()


_ANYWHERE: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(4096),
    "all bits": b"\xff" * 4096,
    "nested without end": DEEP,
    "maps nested without end": b"\x81\xa1a" * 5_000 + b"\x01",
    "an array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "a text of four gigabytes": b"\xdb\xff\xff\xff\xff",
    "bytes of four gigabytes": b"\xc6\xff\xff\xff\xff",
    "an extension of four gigabytes": b"\xc9\xff\xff\xff\xff\x01",
    "half a character": packed(["\ud800"]),
    "a key that cannot be one": b"\x81\x91\x01\x02",
    "the same key a thousand times": b"\xde\x03\xe8" + b"\xa1a\x01" * 1000,
    "a name of a module": packed(["os:system", ["id"]]),
    "the name of what is inside": packed(["__class__", []]),
    "a name of terminal commands": packed(["\x1b]52;c;ZXZpbA==\x07", []]),
    "a pickle": b"cos\nsystem\n(S'id'\ntR.",
    "a YAML object": b"!!python/object/apply:os.system [id]",
}
BINARY: dict[str, dict[str, bytes]] = dict.fromkeys(("codec", "signals", "greetings", "state", "wire"), _ANYWHERE)
"""For each target of `tests.fuzz.targets` that reads MessagePack."""


def _frame(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    head = kind + bytes(3) + struct.pack("<II", len(body) if length is None else length, zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body


_MAGIC = b"\x89TWR\r\n\x1a\n"
_HEAD = packed({"version": 1, "codec": 1, "channels": ["a"]})
RECORDINGS: dict[str, bytes] = {
    "another format": b"RIFF" + bytes(100),
    "a head and no more": _MAGIC,
    "a header of a gigabyte": _MAGIC + _frame(b"H", b"", 1 << 30),
    "a header that is a list": _MAGIC + _frame(b"H", packed([1])),
    "a header nested without end": _MAGIC + _frame(b"H", DEEP),
    "a version from the future": _MAGIC + _frame(b"H", packed({"version": 10**9, "codec": 1, "channels": []})),
    "a version that is a text": _MAGIC + _frame(b"H", packed({"version": "1", "codec": 1, "channels": []})),
    "channels that are numbers": _MAGIC + _frame(b"H", packed({"version": 1, "codec": 1, "channels": [1, 2]})),
    "channels with terminal commands": _MAGIC
    + _frame(b"H", packed({"version": 1, "codec": 1, "channels": ["\x1b[2J"]})),
    "a packet of a channel that there is not": _MAGIC + _frame(b"H", _HEAD) + _frame(b"P", b"\xff" * 16),
    "a packet without a body": _MAGIC + _frame(b"H", _HEAD) + _frame(b"P", b""),
    "a kind that there is not": _MAGIC + _frame(b"H", _HEAD) + _frame(b"X", b"x"),
    "a wrong checksum": _MAGIC + _frame(b"H", _HEAD)[:-1] + b"\x00",
    "two headers": _MAGIC + _frame(b"H", _HEAD) * 2,
    "an end that counts otherwise": _MAGIC + _frame(b"H", _HEAD) + _frame(b"E", b"\xff" * 8),
    "more behind the end": _MAGIC + _frame(b"H", _HEAD) + _frame(b"E", bytes(8)) + b"x" * 100,
}

CONTROLS: dict[str, bytes] = {
    "no JSON": b"{",
    "no object": b"[]",
    "a number": b"1",
    "null": b"null",
    "no text": b"\xff\xfe\x00",
    "without a version": b'{"type": "stop"}',
    "a version that is a text": b'{"v": "1", "type": "stop"}',
    "a version that is true": b'{"v": true, "type": "stop"}',
    "a type that is a list": said(type=["stop"]),
    "a type that is inside": said(type="__init__"),
    "no type": said(),
    "a time that is no number": b'{"v": 1, "type": "ping", "t": NaN}',
    "a time without end": b'{"v": 1, "type": "ping", "t": Infinity}',
    "a time of 400 digits": b'{"v": 1, "type": "ping", "t": ' + b"9" * 400 + b"}",
    "a number of 5,000 digits": b'{"v": 1, "type": "ping", "t": ' + b"9" * 3_900 + b"}",
    "a time of 1e999": b'{"v": 1, "type": "ping", "t": 1e999}',
    "brackets without end": b"[" * 4_000,
    "braces without end": b'{"a":' * 800,
    "text that is a number": said(type="say", text=5),
    "text of a megabyte": said(type="say", text="x" * 1_000_000),
    "half a character": b'{"v": 1, "type": "say", "text": "\\ud800"}',
    "terminal commands": said(type="say", text="\x1b]0;evil\x07\x1b[2J"),
    "directions turned round": said(type="say", text="\u202egnp.exe"),
    "a null character": b'{"v": 1, "type": "say", "text": "\\u0000"}',
    "fields that there are not": said(type="stop", __class__="x", constructor={"prototype": {}}),
    "the same field twice": b'{"v": 1, "type": "say", "text": "a", "type": "stop"}',
    "watch that is a text": said(type="watch", on="yes"),
    "echo that is a number": said(type="echo", cancelled=2),
    "a byte order mark": b"\xef\xbb\xbf" + said(type="stop"),
    "UTF-16": said(type="stop").decode().encode("utf-16"),
}
