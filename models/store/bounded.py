"""Reads small files of untrusted names: pipeline files and what they include, tables, descriptions of models.

A name may lead to `/dev/zero`, which has no end, to a pipe without a writer, or to a file of gigabytes. So a file is
examined before it is read, no read waits for the first byte, and the number of bytes read is bounded.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST = 64_000_000
"""The default limit, bytes."""
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
_MARKS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\x00\x00\xfe\xff", "UTF-32"), (b"\x1f\x8b", "gzip"))


def read_at_most(path: Path, limit: int = MOST) -> bytes:
    """What a regular file of at most `limit` bytes holds.

    Raises OSError whose `strerror` says what there is instead. Never waits, and holds no more than `limit` bytes.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):
        os.close(opened)
        kind = next((name for fits, name in _KINDS if fits(found.st_mode)), "a device")
        raise OSError(errno.EINVAL, f"it is {kind}, expected a file", str(path))
    with os.fdopen(opened, "rb") as file:
        held = file.read(limit + 1) if found.st_size <= limit else b""
        if found.st_size > limit or len(held) > limit:
            size = f"{found.st_size:,}" if found.st_size > limit else f"more than {limit:,}"
            raise OSError(errno.EFBIG, f"it has {size} bytes, at most {limit:,} are read", str(path))
        return held


def read_text_at_most(path: Path, limit: int = MOST) -> str:
    """As `read_at_most`, as text in UTF-8; a byte order mark is left out. Raises OSError where it is no such text."""
    held = read_at_most(path, limit)
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = next((name for mark, name in _MARKS if held.startswith(mark)), "")
        line = held.count(b"\n", 0, error.start) + 1
        found = mark or f"byte 0x{held[error.start]:02x} in line {line} is not UTF-8"
        raise OSError(errno.EILSEQ, f"it is not text in UTF-8 ({found}): save it as UTF-8", str(path)) from None


def read_json_at_most(path: Path, limit: int = MOST) -> Any:  # Any: JSON
    """As `read_text_at_most`, parsed. Raises ValueError, too, where it is no JSON or is nested too deeply."""
    try:
        return json.loads(read_text_at_most(path, limit))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
