"""Recordings: what was written is read, a crash costs the last packet at most, and damage is told with its place."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token, VideoFrame
from thalweg.transports.codec import decode
from thalweg.transports.recording import MAGIC, Recording, RecordingError, RecordingWriter


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
