"""A journal holds what was done, for whoever begins again with the same recording, and for nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.deploy.transcripts.journal import Journal
from thalweg.deploy.transcripts.utterance import Said, Utterance
from thalweg.stages.io.whole import SinkError

ABOUT = {"file": "talk \udce9.wav", "engine": "speech.x", "settings": {}, "bytes": 5}
ONE, TWO = Utterance(0.5, 1.0, "one"), Utterance(2.0, 3.0, "zwei \ud800", (Said("zwei", 2.0, 3.0),))


def begun(path: Path) -> Path:
    journal = Journal(path, ABOUT)
    journal.add(ONE, 16_000)
    journal.add(TWO, 48_000)
    journal.close()
    return path


def test_it_goes_on_after_the_last_utterance(tmp_path: Path) -> None:
    journal = Journal(begun(tmp_path / ".a.journal"), ABOUT)
    assert (journal.samples, journal.count) == (48_000, 2)
    journal.add(Utterance(4.0, 5.0, "three"), 80_000)
    assert [utterance.text for utterance in journal.utterances()] == ["one", "zwei \ud800", "three"]
    journal.close()


@pytest.mark.parametrize("torn", [1, 30])
def test_what_was_torn_off_in_mid_line_is_done_again(tmp_path: Path, torn: int) -> None:
    path = begun(tmp_path / ".a.journal")
    path.write_bytes(path.read_bytes()[:-torn])
    journal = Journal(path, ABOUT)
    assert (journal.samples, journal.count) == (16_000, 1)
    journal.add(TWO, 48_000)
    assert [utterance.text for utterance in journal.utterances()] == ["one", "zwei \ud800"]
    journal.close()


@pytest.mark.parametrize("change", [{"bytes": 6}, {"engine": "speech.y"}, {"settings": {"language": "de"}}])
def test_of_another_recording_or_recogniser_nothing_is_taken(tmp_path: Path, change: dict[str, object]) -> None:
    journal = Journal(begun(tmp_path / ".a.journal"), ABOUT | change)
    assert (journal.samples, journal.count, list(journal.utterances())) == (0, 0, [])
    journal.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 4_096, b"[]\n[]\n", b"{}\n", b"x" * 100_000, "ü\n".encode("latin-1")])
def test_what_is_no_journal_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".a.journal").write_bytes(content)
    journal = Journal(tmp_path / ".a.journal", ABOUT)
    journal.add(ONE, 16_000)
    assert [utterance.text for utterance in journal.utterances()] == ["one"]
    journal.close()


def test_two_at_once_do_not_write_one_transcript(tmp_path: Path) -> None:
    journal = Journal(tmp_path / ".a.journal", ABOUT)
    with pytest.raises(SinkError, match="is being written by another `thalweg transcribe`"):
        Journal(tmp_path / ".a.journal", ABOUT)
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot write beside .*a: No such file"):
        Journal(tmp_path / "missing" / ".a", ABOUT)
