"""Reads untrusted MessagePack with bounded memory.

Some releases of msgpack allocate as many elements as an array claims to have, at every level of nesting: a megabyte
became three gigabytes. Skipping a message allocates nothing and fails on a false length, at hundreds of megabytes per
second; so large messages are skipped once before they are parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

_HARMLESS = 1024


def unpack(packed: bytes | bytearray | memoryview) -> Any:  # Any: MessagePack
    """The unpacked value: arrays as tuples, maps with text or bytes as keys, no extensions.

    May raise many types of errors on other input: call it in a `decoder`.
    """
    if len(packed) > _HARMLESS:
        _check_claims(packed)
    return msgpack.unpackb(packed, use_list=False, max_ext_len=0, unicode_errors="surrogatepass")


def unpack_tree(packed: bytes, extension: Callable[[int, bytes], Any]) -> Any:  # Any: MessagePack
    """As `unpack`, with arrays as lists and any keys; `extension` reads extensions."""
    _check_claims(packed)
    return msgpack.unpackb(packed, strict_map_key=False, ext_hook=extension, unicode_errors="surrogatepass")


def _check_claims(packed: bytes | bytearray | memoryview) -> None:
    skipper = msgpack.Unpacker(max_buffer_size=len(packed), unicode_errors="surrogatepass")
    skipper.feed(packed)
    skipper.skip()
