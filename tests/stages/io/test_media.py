"""Opening media: heads that lie, pipes, names, and what is no recording at all."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from tests.stages.io.recordings import encoded, heard, piped, tone, wav
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import Collect, run_stage
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.payload import AudioChunk
from thalweg.pipeline.stage import Port
from thalweg.stages.io.audio import AudioFile

SECOND = tone(1.0)
SURROGATE = os.fsdecode(b"caf\xe9 no UTF-8.wav")


@pytest.fixture(autouse=True)
def needs_av() -> None:
    require_package("av", "audio")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36])
@pytest.mark.parametrize("by_pipe", [False, True])
def test_a_wav_whose_length_was_not_known_when_it_began_is_read_to_its_end(
    tmp_path: Path, size: int, by_pipe: bool
) -> None:
    (tmp_path / "a.wav").write_bytes(wav(SECOND, size=size))
    if by_pipe:
        with piped((tmp_path / "a.wav").read_bytes()) as path:
            samples, notes, error = heard(path)
    else:
        samples, notes, error = heard(tmp_path / "a.wav")
    assert (len(samples), notes, error) == (16_000, [], "")


def test_a_wav_of_which_more_is_there_than_its_head_says_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(SECOND, size=8_000))
    samples, notes, error = heard(tmp_path / "a.wav")
    assert (len(samples), error) == (16_000, "")
    assert "holds more than its head says" in notes[0]


@pytest.mark.parametrize("behind", [b"LIST\x04\0\0\0INFO", b"id3 \x06\0\0\0junk!!", b"\0LIST\x04\0\0\0INFO", b""])
def test_chunks_behind_the_sound_are_no_sound(tmp_path: Path, behind: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(wav(SECOND) + behind + bytes(8_000 if behind else 0))
    samples, notes, error = heard(tmp_path / "a.wav")
    assert (len(samples), notes, error) == (16_000, [], "")


@pytest.mark.parametrize(
    ("codec", "name", "expected"),
    [
        ("pcm_s16le", "a.wav", "it says 4.0 s and holds 2.0 s"),
        ("flac", "a.flac", "it says 4."),
        ("pcm_s16be", "a.aiff", "it says 4.0 s and holds 2.0 s"),
        ("pcm_s16le", "a.caf", "it says 4."),
        ("mp2", "a.mka", "it says 4."),
        ("libmp3lame", "a.mp3", "it says 4."),
        ("libopus", "a.opus", "it breaks off after "),
    ],
)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_a_recording_that_is_cut_short_says_so(
    tmp_path: Path, codec: str, name: str, expected: str, by_pipe: bool
) -> None:
    rate = 48_000 if codec == "libopus" else 16_000
    noise = np.random.default_rng(1).normal(0, 0.1, 4 * rate).astype(np.float32)
    content = encoded(tmp_path / name, codec, noise, rate)
    content = content[: len(content) // 2]
    if by_pipe and name != "a.caf":
        with piped(content) as path:
            _, _, error = heard(path)
    else:
        (tmp_path / name).write_bytes(content)
        _, _, error = heard(tmp_path / name)
    assert "is cut short: " in error
    assert expected in error


def test_the_length_that_is_guessed_from_the_first_frames_is_not_believed(tmp_path: Path) -> None:
    quiet_first = np.concatenate([np.zeros(160_000, np.float32), tone(4.0)])
    encoded(tmp_path / "a.aac", "aac", quiet_first, 16_000, container="adts")
    samples, _, error = heard(tmp_path / "a.aac")
    assert error == ""
    assert len(samples) == pytest.approx(14 * 16_000, abs=2_000)


@pytest.mark.parametrize("piece", [1_000, 4_096, 100_000])
def test_a_pipe_gives_every_sample_of_the_file(tmp_path: Path, piece: int) -> None:
    content = wav(tone(3.0))
    (tmp_path / "a.wav").write_bytes(content)
    with piped(content, piece) as path:
        by_pipe, _, error = heard(path)
    by_file, _, _ = heard(tmp_path / "a.wav")
    assert error == ""
    np.testing.assert_array_equal(by_pipe, by_file)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_a_movie_comes_by_pipe_wherever_its_index_lies(tmp_path: Path, options: dict[str, str]) -> None:
    import av

    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1.0, 48_000)[None], "fltp", "mono")
        frame.sample_rate = 48_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with piped(path.read_bytes()) as pipe:
        samples, _, error = heard(pipe)
    assert error == ""
    assert len(samples) == pytest.approx(16_000, abs=1_100)


def test_a_named_pipe_is_waited_for_and_read_once(tmp_path: Path) -> None:
    fifo = tmp_path / "sound"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(wav(SECOND)))
    writer.start()
    outcome = run_stage(AudioFile(fifo, pace="full"), {})
    writer.join()
    assert outcome.problems == []
    assert sum(len(chunk.samples) for chunk in outcome.payloads()) == 16_000


def test_a_pipe_that_nobody_writes_to_does_not_hold_up_the_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sound")
    graph = Graph(name="test")
    graph.add("file", AudioFile(tmp_path / "sound"))
    graph.add("sink", type("Sink", (Collect,), {"inputs": {"audio": Port(AudioChunk)}})())
    graph.connect("file", "sink")
    worker = Worker(graph)

    async def run() -> None:
        asyncio.get_running_loop().call_later(0.2, worker.stop)
        async with asyncio.timeout(5):
            await worker.run()

    asyncio.run(run())
    assert worker.problems == []


@pytest.mark.parametrize(
    "name",
    [
        "2024-05-01T12:30:00.wav",
        "Interview: part 1.wav",
        "concat:a|b.wav",
        "http:notes.wav",
        "Track #3 [final].wav",
        "50%d.wav",
        "-.wav",
        "pipe:0",
        "日本語 \u202e.wav",
        "line\nend.wav",
        SURROGATE,
    ],
)
def test_a_name_is_only_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(wav(SECOND))
    samples, _, error = heard(Path(name))
    assert (len(samples), error) == (16_000, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/passwd\n", "is a playlist: it names recordings"),
        (b"ffconcat version 1.0\nfile other.wav\n", "is a playlist"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n", "is a playlist"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "it is a page of the web"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "it is a PDF document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"", "it is empty"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\0\x08free\0\0\1\0mdat" + bytes(300), "its index is missing"),
        (np.random.default_rng(3).bytes(9_000), "no format that FFmpeg knows begins with"),
        (wav(SECOND)[:44], "holds no audio samples"),
    ],
)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_what_is_no_recording_is_called_what_it_is(tmp_path: Path, content: bytes, message: str, by_pipe: bool) -> None:
    if by_pipe:
        with piped(content) as path:
            _, _, error = heard(path)
    else:
        (tmp_path / "a.wav").write_bytes(content)
        _, _, error = heard(tmp_path / "a.wav")
    assert message in error


def test_nothing_that_a_file_names_is_opened(tmp_path: Path) -> None:
    (tmp_path / "other.wav").write_bytes(wav(SECOND))
    (tmp_path / "list.wav").write_text(f"# a comment\nffconcat version 1.0\nfile {tmp_path / 'other.wav'}\n")
    samples, _, error = heard(tmp_path / "list.wav")
    assert len(samples) == 0
    assert error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is a folder, expected a file"),
        ("/dev/null", "it is empty"),
        ("/dev/zero", "no format that FFmpeg knows"),
        ("gone.wav", "gone.wav does not exist"),
        ("link.wav", "is a link to nowhere.wav, which does not exist"),
        ("socket", "cannot be opened: No such device or address"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("https://example.com/a.wav", "is an address, not a file: fetch it first"),
        ("a\0b", "there is a zero byte in it"),
    ],
)
def test_what_is_no_file_is_called_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    import socket

    monkeypatch.chdir(tmp_path)
    Path("link.wav").symlink_to("nowhere.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        _, _, error = heard(Path(name))
    assert message in error


def test_tags_in_old_encodings_do_not_matter(tmp_path: Path) -> None:
    artist = b"INFOIART" + struct.pack("<I", 6) + b"Caf\xe9\xff\0"
    (tmp_path / "a.wav").write_bytes(wav(SECOND, extra=b"LIST" + struct.pack("<I", len(artist)) + artist))
    samples, _, error = heard(tmp_path / "a.wav")
    assert (len(samples), error) == (16_000, "")


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", b"TAG" + b"Title".ljust(125, b"\0")),
        (b"ID3\x03\0\0\0\0\0\x14" + b"TIT2\0\0\0\x05\0\0\0Caf\xe9".ljust(20, b"\0"), b""),
        (
            b"ID3\x03\0\0\0\0\0\x14" + b"TIT2\0\0\0\x05\0\0\0Caf\xe9".ljust(20, b"\0"),
            b"ID3\x04\0\0\0\0\0\x0aTIT2" + bytes(6),
        ),
    ],
)
def test_tags_before_and_behind_an_mp3_are_no_damage(tmp_path: Path, before: bytes, behind: bytes) -> None:
    content = encoded(tmp_path / "a.mp3", "libmp3lame", SECOND, 16_000)
    (tmp_path / "a.mp3").write_bytes(before + content + behind)
    samples, _, error = heard(tmp_path / "a.mp3")
    assert error == ""
    assert len(samples) == pytest.approx(16_000, abs=1_500)


def test_a_restored_stage_goes_on_with_what_a_pipe_gives_next() -> None:
    stage = AudioFile(Path("/dev/null"), pace="full")
    stage.restore({"start_ns": 0, "done": 32_000})
    with piped(wav(SECOND)) as path:
        stage._path = path
        outcome = run_stage(stage, {})
    assert outcome.emitted[0].packet.time == 2_000_000_000
    assert sum(len(chunk.samples) for chunk in outcome.payloads()) == 16_000
