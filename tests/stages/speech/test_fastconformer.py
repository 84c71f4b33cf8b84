"""The streaming recogniser as a stage: partials, one final, nothing lost at the end, state that moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models.speech.deployments import deploy, speechlike
from thalweg import AudioChunk, Packet, Speech, SpeechEvent, Transcript
from thalweg.deploy.testing import Outcome, packet, run_stage
from thalweg.models.speech.loading import shared_recogniser
from thalweg.models.speech.recogniser import Recogniser
from thalweg.pipeline.duration import MS
from thalweg.stages.speech.fastconformer import FastConformer

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    deploy(path)
    return str(path)


def turn(audio: NDArray[np.float32], epoch: int = 1, start: int = 0, rate: int = RATE, step: int = 512) -> list[Packet]:
    packets = []
    for at in range(0, len(audio), step):
        event = SpeechEvent.START if at == 0 else SpeechEvent.CONTINUE
        chunk = AudioChunk(samples=audio[at : at + step], rate=rate)
        packets.append(packet(Speech(audio=chunk, event=event), time=start + at * 10**9 // RATE, epoch=epoch))
    end = start + len(audio) * 10**9 // RATE
    nothing = AudioChunk(samples=np.zeros(0, np.float32), rate=rate)
    last = Speech(audio=nothing, event=SpeechEvent.END, speech_end_ns=end)
    return [*packets, packet(last, time=end, epoch=epoch)]


def transcripts(outcome: Outcome) -> list[Transcript]:
    return [payload for payload in outcome.payloads() if isinstance(payload, Transcript)]


def expected(folder: str, audio: NDArray[np.float32]) -> str:
    stream = shared_recogniser(folder).open()
    stream.feed(audio)
    return stream.finish().text


def test_a_turn_gives_partials_and_one_final_that_is_the_whole(folder: str) -> None:
    audio = speechlike(4)
    found = transcripts(run_stage(FastConformer(folder), turn(audio)))
    finals = [t for t in found if t.final]
    assert [t.text for t in finals] == [expected(folder, audio)]
    assert found[-1].final and len(found) > 3
    assert all(finals[0].text.startswith(t.text[: t.stable_chars]) for t in found)
    assert finals[0].speech_end_ns == 4 * 10**9


def test_words_carry_capture_times(folder: str) -> None:
    start = 7 * 10**9
    final = transcripts(run_stage(FastConformer(folder), turn(speechlike(4), start=start)))[-1]
    assert final.words
    assert all(start <= word.start_ns < word.end_ns <= start + 41 * 10**8 for word in final.words)
    assert [word.text for word in final.words] == final.text.split()


def test_turns_do_not_see_each_other(folder: str) -> None:
    first, second = speechlike(2, 1), speechlike(3, 2)
    packets = turn(first, epoch=1)[:20] + turn(second, epoch=2, start=10**10)  # the first is broken off
    finals = [t.text for t in transcripts(run_stage(FastConformer(folder), packets)) if t.final]
    assert finals == [expected(folder, second)]
    assert shared_recogniser(folder).open_streams == 0


def test_another_rate_is_one_clear_error_and_the_next_turn_is_served(folder: str) -> None:
    audio = speechlike(1)
    outcome = run_stage(FastConformer(folder), turn(audio, rate=8_000)[:1] + turn(audio, epoch=2, start=10**10))
    assert any("takes mono audio at 16000 Hz, got 8000 Hz" in problem for problem in outcome.problems)
    assert transcripts(outcome)[-1].text == expected(folder, audio)


@pytest.mark.parametrize("settings", [{}, {"beam": 3}, {"adaptive": 480 * MS}])
def test_a_stage_restored_from_a_snapshot_goes_on_as_if_it_had_not_moved(folder: str, settings: dict[str, Any]) -> None:
    class Moving(FastConformer):
        """Snapshots and restores itself before every packet."""

        def process(self, packet: Packet, ctx: Any) -> None:
            self.restore(self.snapshot())
            super().process(packet, ctx)

    packets = turn(speechlike(3))
    stayed = transcripts(run_stage(FastConformer(folder, **settings), packets))
    assert transcripts(run_stage(Moving(folder, **settings), packets)) == stayed


def test_lookahead_head_and_beam_are_checked_when_it_opens(folder: str) -> None:
    audio = turn(speechlike(1))
    for settings, message in (
        ({"lookahead": 100 * MS}, "look-ahead 100 ms, this model was trained for 0, 80, 480, 1040 ms"),
        ({"phrases": ("x",)}, "phrases and ngram need"),
        ({"model": "/nowhere"}, "recogniser '/nowhere' is not here"),
    ):
        with pytest.raises(Exception, match=message):
            run_stage(FastConformer(**({"model": folder} | settings)), audio)  # type: ignore[arg-type]


def test_every_way_of_decoding_gives_a_final(folder: str) -> None:
    audio = turn(speechlike(3))
    for settings in (
        {"head": "ctc"},
        {"head": "rnnt", "lookahead": 1040 * MS},
        {"beam": 4, "phrases": ("hello",)},
        {"adaptive": 480 * MS},
    ):
        found = transcripts(run_stage(FastConformer(folder, **settings), audio))  # type: ignore[arg-type]
        assert [t.final for t in found].count(True) == 1


def test_stages_of_a_process_share_one_engine(folder: str) -> None:
    assert shared_recogniser(folder) is shared_recogniser(folder)
    assert isinstance(shared_recogniser(folder), Recogniser)


@pytest.mark.real
def test_a_nemo_file_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.models.speech.archives import random_weights, settings, torch_file, write_nemo
    from thalweg.models.speech.loading import load_deployed

    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path / "cache"))
    path = write_nemo(tmp_path / "a.nemo", settings(), torch_file(random_weights()))
    folder = load_deployed(str(path)).folder
    written = (folder / "model.json").stat().st_mtime_ns
    assert load_deployed(str(path)).folder == folder
    assert (folder / "model.json").stat().st_mtime_ns == written
