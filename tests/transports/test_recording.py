"""Recordings: what was written is read, a crash costs the last packet at most, and damage is told with its place."""

from __future__ import annotations

import errno
import gc
import os
import resource
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload, Token, VideoFrame
from thalweg.transports.codec import decode
from thalweg.transports.recording import MAGIC, Recording, RecordingError, RecordingWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Album(Payload):
    """Any number of arrays."""

    pictures: tuple[np.ndarray, ...]


def packet(number: int) -> Packet:
    payload = VideoFrame(pixels=np.full((4, 5), number, np.uint8)) if number % 2 else Token(text=f"word {number}")
    return Packet(stream="a.b", seq=number, time=1000 * number, payload=payload)


def record(path: Path, packets: int = 6, *, close: bool = True) -> Path:
    writer = RecordingWriter(path, ["a -> b", "c -> d"], {"pipeline": "p"})
    for number in range(packets):
        writer.write(number % 2, 500 + number, packet(number))
    if close:
        writer.close()
    return path


def read(path: Path) -> list[tuple[str, int, int]]:
    return [(one.channel, one.time_ns, decode(one.record).seq) for one in Recording(path)]


EXPECTED = [("a -> b" if n % 2 == 0 else "c -> d", 500 + n, n) for n in range(6)]


def test_what_was_recorded_is_read_again(tmp_path: Path) -> None:
    recording = Recording(record(tmp_path / "r.twr"))
    assert recording.channels == ("a -> b", "c -> d") and recording.about["pipeline"] == "p"
    assert read(recording.path) == EXPECTED
    assert recording.check() == 6 and recording.complete
    assert recording.check() == 6


def test_a_recording_never_replaces_a_file(tmp_path: Path) -> None:
    record(tmp_path / "r.twr")
    with pytest.raises(RecordingError, match="exists already"):
        RecordingWriter(tmp_path / "r.twr", [], {})


@pytest.mark.real
def test_what_was_recorded_before_a_kill_is_there(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from tests.transports.test_recording import record
record(Path({str(tmp_path / "r.twr")!r}), close=False)
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    recording = Recording(tmp_path / "r.twr")
    assert recording.check() == 6 and not recording.complete


def test_a_file_cut_anywhere_gives_the_whole_packets_before_the_cut(tmp_path: Path) -> None:
    whole = record(tmp_path / "r.twr").read_bytes()
    cut = tmp_path / "cut.twr"
    found = []
    for length in range(len(MAGIC) + 16 + 60, len(whole)):
        cut.write_bytes(whole[:length])
        found.append(len(read(cut)))
    assert found == sorted(found) and set(found) == set(range(7))


@pytest.mark.parametrize("length", [0, 5, len(MAGIC), len(MAGIC) + 10, len(MAGIC) + 30])
def test_a_file_cut_before_its_first_packet_is_told_to_hold_nothing(tmp_path: Path, length: int) -> None:
    (tmp_path / "cut.twr").write_bytes(record(tmp_path / "r.twr").read_bytes()[:length])
    with pytest.raises(RecordingError, match="breaks off within its first bytes"):
        Recording(tmp_path / "cut.twr")


def test_zeros_where_the_machine_lost_its_power_are_a_cut_too(tmp_path: Path) -> None:
    path = record(tmp_path / "r.twr", close=False)
    with path.open("ab") as file:
        file.write(bytes(10_000))
    assert read(path) == EXPECTED


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_told_and_never_read_over(tmp_path: Path, place: float, bit: int) -> None:
    original = tmp_path / "r.twr"
    if not original.exists():
        record(original)
    damaged = bytearray(original.read_bytes())
    damaged[int(place * len(damaged))] ^= 1 << bit
    (tmp_path / "d.twr").write_bytes(damaged)
    with pytest.raises(RecordingError, match=r"damaged: the frame at byte|is no recording"):
        read(tmp_path / "d.twr")


@pytest.mark.parametrize("content", [b"RIFF" + bytes(100), b"\x89PNG\r\n\x1a\n" + bytes(50), b"x"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(RecordingError, match="is no recording: it begins with"):
        Recording(tmp_path / "f")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot read .*No such file"):
        Recording(tmp_path / "nothing")


@pytest.mark.real
def test_a_full_disk_leaves_whole_packets_and_one_message(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from tests.transports.test_recording import fill
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
fill(Path({str(tmp_path / "r.twr")!r}))
"""
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    packets = Recording(tmp_path / "r.twr").check()
    assert f"cannot write {tmp_path / 'r.twr'}: File too large; it holds the {packets} packets before" in done.stdout
    assert 2 < packets < 40


def fill(path: Path) -> None:
    """Record until it fails, under a limit on the size of files, which stands in for a full disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 2000
    writer = RecordingWriter(path, ["a -> b"], {})
    try:
        for number in range(200):
            writer.write(0, number, packet(number))
    except RecordingError as error:
        print(error)
    writer.close()


def test_nobody_but_its_owner_may_read_a_recording(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = record(tmp_path / "r.twr")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_recording_that_cannot_be_begun_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    gc.collect()  # what earlier tests left in cycles would otherwise let go of its descriptors while we count ours
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(RecordingError, match="No space left"):
        RecordingWriter(tmp_path / "r.twr", ["a -> b"], {})
    assert not (tmp_path / "r.twr").exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_packet_of_thousands_of_arrays_is_recorded(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r.twr", ["a -> b"], {})
    boxes = Album(pictures=tuple(np.full(1, i % 256, np.uint8) for i in range(3000)))
    writer.write(0, 1, Packet(stream="a.b", seq=0, time=0, payload=boxes))
    writer.close()
    (one,) = Recording(tmp_path / "r.twr")
    assert [int(p[0]) for p in decode(one.record).payload.pictures] == [i % 256 for i in range(3000)]


def frame(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<c3xII", kind, len(body) if length is None else length, zlib.crc32(body))
    return head + struct.pack("<I", zlib.crc32(head)) + body


def about(**changed: object) -> bytes:
    return frame(b"H", msgpack.packb({"version": 1, "codec": 2, "channels": ["a -> b"]} | changed))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (about(version=True), "recording version True"),
        (about(codec=2.0), r"version 2\.0"),
        (about(version=[[1]]), "is of recording version"),
        (about(channels="a -> b"), "does not begin with the description"),
        (about(channels=[["a"]]), "does not begin with the description"),
        (about(channels=None), "does not begin with the description"),
        (frame(b"H", b"\x91" * 3000), "the description of the recording cannot be read"),
        (frame(b"H", msgpack.packb("x" * 2_000_000)), "at most 1048576 are read"),
        (frame(b"P", msgpack.packb({})), "does not begin with the description"),
    ],
)
def test_a_description_that_is_none_is_told(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "r.twr").write_bytes(MAGIC + content)
    with pytest.raises(RecordingError, match=says):
        Recording(tmp_path / "r.twr")


def test_a_packet_that_claims_four_gigabytes_is_damage_and_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "r.twr").write_bytes(MAGIC + about() + frame(b"P", b"x", 2**32 - 1) + bytes(5000))
    with pytest.raises(RecordingError, match="is damaged"):
        Recording(tmp_path / "r.twr").check()


def test_what_is_no_regular_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(RecordingError, match="it is no regular file"):
            Recording(path)
