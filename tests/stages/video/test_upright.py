"""Pictures and videos come the way up that their camera says, and video keeps its place beside its sound."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.stages.io.recordings import piped
from thalweg.deploy.errors import StartError
from thalweg.deploy.testing import run_stage
from thalweg.stages.video.file import VideoFile
from thalweg.stages.video.upright import of_picture, upright

UPRIGHT = np.zeros((32, 48, 3), np.uint8)
UPRIGHT[:16, :24] = (250, 0, 0)
UPRIGHT[:16, 24:] = (0, 250, 0)
UPRIGHT[16:, :24] = (0, 0, 250)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: np.rot90(UPRIGHT, 2),
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT, 2).transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}
MATRICES = {1: (1, 0, 0, 1), 3: (-1, 0, 0, -1), 6: (0, 1, -1, 0), 8: (0, -1, 1, 0), 2: (-1, 0, 0, 1)}


@pytest.fixture(autouse=True)
def needs_av() -> None:
    require_package("av", "video")


def exif(orientation: int, order: str = ">") -> bytes:
    """An IFD of two entries, the second of which is the orientation."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    return mark + struct.pack(f"{order}IHHHIHHHHIHHI", 8, 2, 0x10F, 2, 1, 0, 0, 0x112, 3, 1, orientation, 0, 0)


def jpeg(path: Path, pixels: NDArray[np.uint8], orientation: int, order: str = ">") -> Path:
    """A photograph with EXIF, as telephones make them."""
    import av

    coder = av.CodecContext.create("mjpeg", "w")
    coder.height, coder.width = pixels.shape[:2]
    coder.pix_fmt = "yuvj444p"
    coder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format="yuvj444p")
    (packet,) = [*coder.encode(frame), *coder.encode(None)]
    content = bytes(packet)
    about = b"Exif\0\0" + exif(orientation, order)
    path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(about) + 2) + about + content[2:])
    return path


def movie(path: Path, pixels: NDArray[np.uint8], matrix: tuple[int, ...] | None, rolled: int = 0) -> Path:
    """A second of one picture, with a matrix that says how it is to be shown, put into the track's head."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.height, stream.width = pixels.shape[:2]
        stream.bit_rate = 2_000_000
        for i in range(10):
            moved = np.roll(pixels, i * rolled, axis=0)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), "rgb24")))
        out.mux(stream.encode(None))
    if matrix is not None:
        content = bytearray(path.read_bytes())
        at = content.index(b"tkhd") + 44
        a, b, c, d = (value << 16 for value in matrix)
        content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        path.write_bytes(bytes(content))
    return path


def like(pixels: NDArray[np.uint8]) -> bool:
    return pixels.shape == UPRIGHT.shape and float(np.abs(pixels.astype(int) - UPRIGHT).mean()) < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_stored_picture_is_turned_and_mirrored_as_its_number_says(orientation: int) -> None:
    np.testing.assert_array_equal(upright(np.ascontiguousarray(STORED[orientation]), orientation), UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_photograph_comes_upright(tmp_path: Path, orientation: int, order: str) -> None:
    path = jpeg(tmp_path / "a.jpg", STORED[orientation], orientation, order)
    (picture,) = run_stage(VideoFile(path), []).payloads()
    assert like(picture.pixels)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_by_pipe_comes_upright(tmp_path: Path, orientation: int) -> None:
    with piped(jpeg(tmp_path / "a.jpg", STORED[orientation], orientation).read_bytes()) as path:
        (picture,) = run_stage(VideoFile(path), []).payloads()
    assert like(picture.pixels)


@pytest.mark.parametrize("orientation", MATRICES)
def test_a_video_comes_upright(tmp_path: Path, orientation: int) -> None:
    path = movie(tmp_path / "a.mp4", STORED[orientation], MATRICES[orientation])
    shown = run_stage(VideoFile(path, pace="full"), []).payloads()
    assert len(shown) == 10
    assert all(like(frame.pixels) for frame in shown)


def test_lines_are_counted_as_they_are_shown(tmp_path: Path) -> None:
    path = movie(tmp_path / "a.mp4", STORED[6], MATRICES[6])
    shown = run_stage(VideoFile(path, pace="full", height=16), []).payloads()
    assert shown[0].pixels.shape == (16, 24, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff",
        b"\xff\xd8\xff\xe1\x00\x00" * 3,
        b"\xff\xd8\xff\xe1\x00\x20Exif\0\0" + exif(99),
        b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffeXIf",
        b"RIFF\0\0\0\0WEBPEXIF\x02\0\0\0MM",
        b"II*\0\x08\0\0\0\xff\xff",
    ],
)
def test_an_orientation_that_is_damaged_is_none(content: bytes) -> None:
    assert of_picture(lambda offset, size: content[offset : offset + size]) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 3, b"abcd") + bytes(7) + struct.pack(">I4s", 38, b"eXIf") + exif(8),
        b"RIFF\0\0\0\0WEBP"
        + struct.pack("<4sI", b"VP8X", 3)
        + bytes(4)
        + struct.pack("<4sI", b"EXIF", 38)
        + exif(8, "<"),
        b"RIFF\0\0\0\0WEBP" + struct.pack("<4sI", b"EXIF", 44) + b"Exif\0\0" + exif(8),
        exif(8, "<"),
        exif(8, ">"),
    ],
)
def test_other_kinds_of_pictures_say_their_orientation_too(content: bytes) -> None:
    assert of_picture(lambda offset, size: content[offset : offset + size]) == 8


@pytest.mark.parametrize("name", ["cam-12:30.mp4", "frame%03d.mp4", "shot #2 [a].mp4", "concat:a|b.mp4"])
def test_a_name_of_a_video_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    movie(tmp_path / "a.mp4", UPRIGHT, None).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(run_stage(VideoFile(Path(name), pace="full"), []).emitted) == 10


def test_joined_videos_are_shown_one_after_the_other(tmp_path: Path) -> None:
    parts = [movie(tmp_path / f"{i}.mkv", pixels, None).read_bytes() for i, pixels in enumerate((UPRIGHT, STORED[6]))]
    (tmp_path / "a.mkv").write_bytes(b"".join(parts))
    emitted = run_stage(VideoFile(tmp_path / "a.mkv", pace="full"), []).emitted
    assert [e.packet.time for e in emitted] == [i * 100_000_000 for i in range(20)]
    assert emitted[15].payload.pixels.shape == (48, 32, 3)


def test_a_video_that_is_cut_short_says_so_and_gives_what_it_has(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    content = movie(tmp_path / "a.mkv", noise, None, rolled=13).read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    outcome = run_stage(VideoFile(tmp_path / "a.mkv", pace="full"), [])
    assert 0 < len(outcome.emitted) < 10
    assert "is cut short: it says 1.0 s and holds 0." in outcome.problems[0]


def test_a_movie_without_its_index_is_refused(tmp_path: Path) -> None:
    content = movie(tmp_path / "a.mp4", UPRIGHT, None).read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: content.index(b"moov") - 4])
    with pytest.raises(StartError, match="is not video: its index is missing"):
        run_stage(VideoFile(tmp_path / "a.mp4", pace="full"), [])


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="holds no pictures: expected files that end in"):
        run_stage(VideoFile(tmp_path), [])
