"""Which recordings are meant and where their transcripts go is settled before anything is begun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thalweg.deploy.transcripts.targets import TargetError, Task, tasks
from thalweg.stages.io.whole import SinkError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "talk.mp3",
        "b.wav",
        "lectures/1.MP4",
        "lectures/old/2.wav",
        "lectures/notes.txt",
        "lectures/.x/3.wav",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("out").mkdir()
    return tmp_path


def pairs(given: list[str], to: list[str]) -> dict[str, list[str]]:
    found = tasks([Path(name) for name in given], [Path(name) for name in to])
    return {str(task.recording): [str(target) for target in task.targets] for task in found}


def test_one_recording_goes_to_the_files_that_are_named(here: Path) -> None:
    assert pairs(["talk.mp3"], ["a.srt", "out/b.JSON"]) == {"talk.mp3": ["a.srt", "out/b.JSON"]}


def test_an_ending_alone_goes_beside_each_recording(here: Path) -> None:
    assert pairs(["talk.mp3", "lectures/1.MP4"], [".srt", ".txt"]) == {
        "talk.mp3": ["talk.srt", "talk.txt"],
        "lectures/1.MP4": ["lectures/1.srt", "lectures/1.txt"],
    }


def test_a_folder_with_an_ending_takes_them_all(here: Path) -> None:
    assert pairs(["lectures"], ["out/.vtt"]) == {
        "lectures/1.MP4": ["out/1.vtt"],
        "lectures/old/2.wav": ["out/2.vtt"],
    }


def test_recordings_that_differ_in_their_ending_keep_it(here: Path) -> None:
    Path("talk.wav").touch()
    assert pairs(["talk.mp3", "talk.wav"], [".srt"]) == {"talk.mp3": ["talk.mp3.srt"], "talk.wav": ["talk.wav.srt"]}


def test_each_recording_is_taken_once(here: Path) -> None:
    assert pairs(["lectures/1.MP4", "lectures", "lectures/1.MP4"], []) == {
        "lectures/1.MP4": [],
        "lectures/old/2.wav": [],
    }


@pytest.mark.parametrize(
    ("given", "to", "message"),
    [
        (["talk.mp3"], ["a.doc"], "expected a name that ends in .srt, .vtt, .txt, .json, .tsv"),
        (["talk.mp3"], ["out"], "expected a name that ends in"),
        (
            ["talk.mp3", "b.wav"],
            ["a.srt"],
            "is one file, and there are 2 recordings: --to .srt writes one for each",
        ),
        (["talk.mp3", "lectures/talk.mp3"], ["out/.srt"], "2 transcripts would be written to out/talk.srt"),
        (["talk.mp3"], ["a.srt", "a.srt"], "2 transcripts would be written to a.srt"),
        (["out"], [], "out holds no recordings"),
        (["-"], [".srt"], "what comes by pipe has no name; give one, as in --to NAME.srt"),
    ],
)
def test_what_cannot_be_meant_is_refused(here: Path, given: list[str], to: list[str], message: str) -> None:
    with pytest.raises(TargetError) as error:
        pairs(given, to)
    assert message in str(error.value)


def test_a_target_that_cannot_be_written_is_refused(here: Path) -> None:
    with pytest.raises(SinkError, match="there is no folder missing"):
        pairs(["talk.mp3"], ["missing/a.srt"])
    Path("a.srt").mkdir()
    with pytest.raises(SinkError, match="it is a folder or a device"):
        pairs(["talk.mp3"], ["a.srt"])


def test_a_recording_is_done_when_every_target_is_there_and_no_older(here: Path) -> None:
    task = Task(Path("talk.mp3"), (Path("a.srt"), Path("a.txt")))
    Path("a.srt").touch()
    assert not task.is_done
    Path("a.txt").touch()
    assert task.is_done
    os.utime("talk.mp3", (4e9, 4e9))
    assert not task.is_done
    assert not Task(Path("talk.mp3"), ()).is_done
