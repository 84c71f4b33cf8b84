"""A disk that takes nothing is spoken of once, and what cannot wait for it lies in memory."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest

from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.node.disk import Disk, in_memory


def read_only(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_disk_that_takes_nothing_is_spoken_of_once_and_once_when_it_does_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("thalweg.deploy.fleet.node.disk.PROBE_S", 0.0)
    disk = Disk(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("thalweg.deploy.fleet.node.disk.replace_file", read_only)
        assert [disk.keep(tmp_path / "boot", b"1") for _ in range(3)] == [False] * 3
        disk.look()
    assert disk.problem == "Read-only file system"
    disk.look()
    assert disk.problem == "" and disk.keep(tmp_path / "boot", b"1")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert list(tmp_path.iterdir()) == [tmp_path / "boot"]


def test_what_cannot_wait_for_the_disk_lies_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    disk = Disk(tmp_path)
    assert disk.place() == tmp_path
    monkeypatch.setattr("thalweg.deploy.fleet.node.disk.replace_file", read_only)
    assert disk.place() == in_memory(tmp_path) != in_memory(tmp_path / "run")
    assert disk.place().parent == tmp_path / "run"


def test_a_folder_in_memory_that_others_can_look_into_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    in_memory(tmp_path).chmod(0o755)
    with pytest.raises(FleetError, match="open to other users"):
        in_memory(tmp_path)
