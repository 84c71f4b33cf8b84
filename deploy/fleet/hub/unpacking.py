"""Reading what a node has put into a record, in memory that is bounded by what is asked for, not by what it says.

A byte of MessagePack can be an empty list, which takes sixty in Python: a record of eight megabytes, half a gigabyte.
"""

from __future__ import annotations

from typing import Any

import msgpack

from thalweg.deploy.fleet.errors import FleetError

MOST_VALUES, DEEPEST = 100_000, 32


class _Reader:
    def __init__(self, payload: bytes | memoryview, most: int) -> None:
        self._bytes = memoryview(payload)
        self._left = most
        self._reader = msgpack.Unpacker(strict_map_key=False, max_buffer_size=max(1, len(payload)))
        self._reader.feed(payload)

    def value(self, depth: int) -> Any:
        self._left -= 1
        head = self._bytes[self._reader.tell()]
        is_map, is_list = head >> 4 == 0x8 or head in (0xDE, 0xDF), head >> 4 == 0x9 or head in (0xDC, 0xDD)
        if self._left < 0 or (depth == 0 and (is_map or is_list)):
            raise FleetError("it holds too many values, or too deep ones")
        if is_map:
            return dict(self._pair(depth) for _ in range(self._reader.read_map_header()))
        if is_list:
            return [self.value(depth - 1) for _ in range(self._reader.read_array_header())]
        return self._reader.unpack()

    def _pair(self, depth: int) -> tuple[Any, Any]:
        return self.value(0), self.value(depth - 1)


def unpacked(payload: bytes | memoryview, most: int = MOST_VALUES) -> Any:
    """What a record holds. Raises FleetError where that is more than `most` values, keys of maps among them, or deeper
    than `DEEPEST`; any of msgpack's errors on garbage.
    """
    return _Reader(payload, most).value(DEEPEST)
