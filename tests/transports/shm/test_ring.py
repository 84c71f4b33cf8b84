"""The ring: every record comes out as it went in, in order, whatever is held on to, and memory never grows."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.transports.shm.ring import ALIGN, RingError, RingReader, RingWriter, capacity_for


def ring(capacity: int) -> tuple[RingWriter, RingReader]:
    writer = RingWriter(capacity)
    return writer, RingReader(os.dup(writer.fd))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["write", "read", "let go"]), st.integers(0, 60_000)), max_size=150))
def test_records_come_out_as_they_went_in_while_some_are_held(events: list[tuple[str, int]]) -> None:
    writer, reader = ring(1 << 18)
    waiting: deque[bytes] = deque()
    held: list[tuple[np.ndarray, bytes]] = []
    for n, (what, size) in enumerate(events):
        if what == "write":
            content = bytes([n % 256]) * size
            if writer.write([content], size):
                waiting.append(content)
        elif what == "read" and waiting:
            held.append((reader.read(), waiting.popleft()))
        elif what == "let go" and held:
            held.pop(size % len(held))
        assert all(bytes(record) == content for record, content in held)
    while waiting:
        assert bytes(reader.read()) == waiting.popleft()
    held.clear()
    assert writer.empty
    writer.close()


def test_a_full_ring_refuses_and_takes_again_when_something_was_freed() -> None:
    writer, reader = ring(16 * ALIGN)
    while writer.write([b"x" * 100], 100):
        pass
    reader.read()
    assert writer.write([b"y" * 100], 100)


def test_a_large_record_is_a_view_and_frees_its_memory_when_the_last_array_is_gone() -> None:
    writer, reader = ring(1 << 18)
    writer.write([b"a" * 65_536], 65_536)
    record = reader.read()
    slice_of_it = record[10:20]
    del record
    assert not writer.empty
    del slice_of_it
    assert writer.empty


def test_records_released_out_of_order_are_freed_in_order() -> None:
    writer, reader = ring(1 << 18)
    for _ in range(2):
        writer.write([b"a" * 40_000], 40_000)
    first, second = reader.read(), reader.read()
    del second
    assert not writer.empty
    del first
    assert writer.empty


def test_views_that_several_threads_let_go_of_at_once_are_all_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    size, failed, views = 1 << 14, [], deque[np.ndarray]()
    monkeypatch.setattr(sys, "unraisablehook", failed.append)
    writer, reader = ring(1 << 20)
    over = threading.Event()

    def let_go() -> None:
        while views or not over.is_set():
            try:
                view = views.popleft()
            except IndexError:
                over.wait(0)
            else:
                del view

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=let_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if writer.write([bytes(size)], size):
                views.append(reader.read())
        over.set()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert failed == []
    assert writer.empty and not reader.lent


def test_a_view_that_is_let_go_while_others_are_freed_is_freed_too() -> None:
    writer, reader = ring(1 << 18)
    for _ in range(4):
        writer.write([b"a" * 20_000], 20_000)
    views = [reader.read() for _ in range(4)]
    words = reader._words

    class Words:
        def __setitem__(self, at: int, value: int) -> None:
            words[at] = value
            views.clear()  # as the collector may, in the middle of anything

    reader._words = Words()
    del views[0]
    reader._words = words
    assert writer.empty and not reader.lent


def test_a_writer_that_skips_again_and_again_is_found_out() -> None:
    writer, reader = ring(1 << 18)
    writer._words[0] = 1 << 18
    for at in (0, (1 << 17) // 8):
        writer._words[16 + at] = 2**64 - 1
    with pytest.raises(RingError, match="is not there"):
        reader.read()


def test_a_record_too_large_for_the_ring_says_so() -> None:
    writer, _ = ring(1 << 18)
    with pytest.raises(RingError, match="does not fit a ring of 262144 bytes"):
        writer.write([b"x" * 200_000], 200_000)


def test_a_ring_for_a_record_holds_several_of_them() -> None:
    writer, _ = ring(capacity_for(1_000_000))
    assert [writer.write([b"x" * 1_000_000], 1_000_000) for _ in range(3)] == [True] * 3


def test_memory_that_holds_no_ring_is_refused() -> None:
    fd = os.memfd_create("no ring")
    with pytest.raises(RingError, match="hold no ring"):
        RingReader(fd)


def test_a_writer_that_lies_is_found_out() -> None:
    writer, reader = ring(1 << 18)
    with pytest.raises(RingError, match="is not there"):
        reader.read()
    writer.write([b"x"], 1)
    writer._words[16] = 10_000_000
    with pytest.raises(RingError, match="claims more bytes"):
        reader.read()
