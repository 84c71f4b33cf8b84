"""The comparison of a recogniser with its baselines: what is counted, and that a run may be stopped at any time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models.speech.archives import TINY
from tests.models.speech.deployments import deploy, speechlike
from thalweg.models import ModelError
from thalweg.models.recipes.asr import evaluate, systems
from thalweg.models.recipes.asr.corpus.data import Utterance
from thalweg.models.recipes.asr.evaluate import Case, Row
from thalweg.models.recipes.asr.measure import hear, speech_begins_s, taken_back, word_errors

pytestmark = pytest.mark.real

Floats = NDArray[np.float32]


class Scripted:
    """A recogniser that shows these texts piece by piece and takes as long for each as it is told."""

    def __init__(self, *steps: tuple[str, float]) -> None:
        self._steps = list(steps)
        self._text = ""
        self.now = 0.0

    def feed(self, samples: Floats) -> None:
        self._text, taken_s = self._steps.pop(0)
        self.now += taken_s

    def partial(self) -> str:
        return self._text

    def finish(self) -> str:
        self.feed(np.zeros(0, np.float32))
        return self._text


def test_word_errors_count_all_three_kinds() -> None:
    assert word_errors("a b c d", "a x c d e") == (2, 4)
    assert word_errors("a b", "") == (2, 2)
    assert word_errors("", "a") == (1, 0)


def test_words_are_taken_back_from_the_first_that_changed() -> None:
    assert [taken_back("a b", "a b c"), taken_back("a bee c", "a b c"), taken_back("a b", "a")] == [0, 2, 1]


def test_a_first_partial_counts_from_where_speech_begins() -> None:
    listener = Scripted(("", 0.001), ("", 0.001), ("so", 0.002), ("so", 0.002))
    hearing = hear(listener, np.zeros(960, np.float32), begin_s=0.02, clock=lambda: listener.now)
    assert hearing.first_ms == pytest.approx(60 - 20 + 2)
    assert hearing.final_ms == pytest.approx(2 + 2), "the last piece, and then the end"


def test_who_is_slower_than_speech_falls_behind() -> None:
    listener = Scripted(("a", 0.03), ("a b", 0.03), ("a c", 0.03), ("a c", 0.01))
    hearing = hear(listener, np.zeros(960, np.float32), clock=lambda: listener.now)
    assert hearing.first_ms == pytest.approx(20 + 30)
    assert hearing.final_ms == pytest.approx(20 + 3 * 30 - 60 + 10)
    assert hearing.changed == 1


def test_speech_begins_where_it_is_loud() -> None:
    audio = np.full(8_000, 1e-4, np.float32)
    audio[3_200:] = 0.3
    assert speech_begins_s(audio) == 0.2
    assert speech_begins_s(np.zeros(0, np.float32)) == 0.0


@pytest.fixture
def sets() -> dict[str, list[Case]]:
    said = [Utterance(speechlike(seconds, seed), "a b", "noise") for seed, seconds in enumerate((1.0, 2.3))]
    return {"voices": [Case(utterance, 0.0) for utterance in said], "people": [Case(said[0], 0.0)]}


@pytest.fixture
def without_sphinx(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(systems, "importlib", nothing)  # for this module alone


def test_a_run_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, sets: dict[str, list[Case]], without_sphinx: None
) -> None:
    model, into = deploy(tmp_path / "model"), tmp_path / "rows.jsonl"
    rows = evaluate.measure(model, sets, into)
    lines = into.read_text().splitlines(keepends=True)
    into.write_text("".join(lines[:8]) + lines[8][:40])
    again = evaluate.measure(model, sets, into)
    assert into.read_text().splitlines(keepends=True)[:8] == lines[:8]
    assert [(r.system, r.group, r.number, r.heard) for r in again] == [
        (r.system, r.group, r.number, r.heard) for r in rows
    ]
    assert len(into.read_text().splitlines()) == len(lines)


def test_rows_of_another_model_are_not_mixed_in(
    tmp_path: Path, sets: dict[str, list[Case]], without_sphinx: None
) -> None:
    into = tmp_path / "rows.jsonl"
    into.write_text(json.dumps({"model": "another", "config": "one"}) + "\n")
    with pytest.raises(ModelError, match="rows of another model"):
        evaluate.measure(deploy(tmp_path / "model"), sets, into)


def test_all_at_once_is_the_stream_with_the_longest_look_ahead(
    tmp_path: Path, sets: dict[str, list[Case]], without_sphinx: None
) -> None:
    rows = evaluate.measure(deploy(tmp_path / "model"), sets, tmp_path / "rows.jsonl")
    heard = {system: [r.heard for r in rows if r.system == system] for system in {r.system for r in rows}}
    for head in ("rnnt", "ctc"):
        assert heard[f"{head} offline"] == heard[f"{head} {max(TINY.lookaheads) * 80} ms"]
        assert any(heard[f"{head} offline"]), "the weights say nothing: the test shows nothing"


def test_the_table_has_rates_with_their_intervals_and_latencies() -> None:
    row = Row(
        system="ctc 80 ms", group="people", number=0, voice="", said="a b", heard="a c", errors=1, words=2,
        final_ms=4.0, first_ms=300.0, changed=1,
    )  # fmt: skip
    printed = evaluate.table([row, replace(row, number=1, errors=0, final_ms=6.0, first_ms=None)])
    assert "people (2)" in printed
    assert "| ctc 80 ms | 25.0 (0.0–50.0) | 5 / 6 / 6 | 300 | 0.50 |" in printed
