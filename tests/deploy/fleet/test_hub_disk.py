"""A hub whose disk takes what is written and then does not keep it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.deploy.fleet.hub.records import NodeRecords
from thalweg.deploy.fleet.hub.state import HubState
from thalweg.pipeline.fleet.spool_policy import SpoolClass
from thalweg.transports.fleet.segment import Stored, pack


@pytest.fixture
def state(tmp_path: Path) -> Iterator[HubState]:
    require_package("cryptography", "hub")
    found = HubState(tmp_path / "hub")
    (tmp_path / "hub/nodes/drone-7").mkdir()
    yield found
    found.close()


def frame(number: int) -> bytes:
    return pack(Stored(kind=SpoolClass.EVENTS, boot=1, stream="s", number=number, time_ns=0, payload=b"x"))


def keeps_nothing(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


def open_segments(folder: Path) -> int:
    held = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.readlink(path).startswith(f"{folder}/nodes/") for path in held if os.path.lexists(path))


@pytest.mark.parametrize("before", [0, 3])
def test_what_could_not_be_forced_to_the_disk_is_not_believed_afterwards(
    state: HubState, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    state.records("drone-7").receive(b"".join(map(frame, range(before))))
    for _ in range(3):
        records = state.records("drone-7")
        with monkeypatch.context() as broken:
            broken.setattr("os.fdatasync", keeps_nothing)
            with pytest.raises(OSError, match="Input/output"):
                records.receive(frame(before))
        state.forget_records("drone-7")
    assert open_segments(state.folder) == 0
    assert state.records("drone-7").receive(frame(before)) == [[1, "s", [before + 1, []]]]
    assert state.records("drone-7").counts == {"events": before + 1}


def test_what_a_killed_hub_has_left_is_forced_to_the_disk_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NodeRecords(tmp_path).receive(frame(0))
    monkeypatch.setattr("os.fsync", keeps_nothing)
    with pytest.raises(OSError, match="Input/output"):
        NodeRecords(tmp_path)
