"""Files that somebody names: a device, a pipe, a giant and what is no text are refused at once, in a sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from thalweg.models.store.bounded import read_at_most, read_json_at_most, read_text_at_most


def refusal(path: Path, limit: int = 100) -> str:
    with pytest.raises(OSError, match=r".") as caught:
        read_text_at_most(path, limit)
    return str(caught.value.strerror)


def test_a_file_is_read_up_to_its_last_byte(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert read_at_most(tmp_path / "f", 100) == b"x" * 100
    assert refusal(tmp_path / "f", 99) == "it has 100 bytes, at most 99 are read"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_a_device_is_refused(device: str) -> None:
    assert refusal(Path(device)) == "it is a device, expected a file"


def test_a_pipe_that_nobody_writes_to_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "it is a pipe, expected a file"


def test_a_folder_a_socket_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        assert refusal(tmp_path) == "it is a folder, expected a file"
        assert "No such" in refusal(tmp_path / "s")
    assert refusal(tmp_path / "none") == "No such file or directory"


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(tmp_path / "f") == "it has 1,099,511,627,776 bytes, at most 100 are read"


def test_a_file_that_says_it_is_empty_and_is_not_is_bounded_too() -> None:
    assert refusal(Path("/proc/self/maps"), 10) == "it has more than 10 bytes, at most 10 are read"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("ä".encode("utf-16"), "UTF-16"),
        ("ä".encode("utf-32-be"), "byte 0xe4 in line 1 is not UTF-8"),
        (b"a: 1\nb: caf\xe9\n", "byte 0xe9 in line 2 is not UTF-8"),
        (b"\x1f\x8b\x08\x00", "gzip"),
    ],
)
def test_what_is_not_utf_8_says_what_it_is_and_what_to_do(tmp_path: Path, held: bytes, said: str) -> None:
    (tmp_path / "f").write_bytes(held)
    assert refusal(tmp_path / "f") == f"it is not text in UTF-8 ({said}): save it as UTF-8"


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("name: x", encoding="utf-8-sig")
    assert read_text_at_most(tmp_path / "f") == "name: x"


def test_json_that_is_nested_without_end_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(ValueError, match=r"nested too deeply|Expecting value"):
        read_json_at_most(tmp_path / "f")
