"""The recognition benchmark: its search, its clock, and that it runs where no peer is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import require_model, require_package
from tests.models.speech.archives import TINY
from tests.models.speech.deployments import deploy
from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.result import Result
from thalweg.deploy.bench.speech import asr, asr_flow, asr_streams
from thalweg.models import ModelError
from thalweg.models.speech.fastconformer.deployed import keep_weights
from thalweg.models.speech.recogniser import Recogniser


@pytest.fixture(autouse=True)
def needs() -> None:
    for package, extra in (("onnx", "convert"), ("onnxruntime", "asr"), ("av", "audio")):
        require_package(package, extra)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No peer, and few streams."""
    nothing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr(asr, "importlib", nothing)  # for this module alone
    monkeypatch.setattr(asr_streams, "MOST", 4)


@pytest.mark.parametrize(
    ("each", "limit", "low", "high"), [(0.01, 0.16, 14, 15), (0.2, 0.16, 0, 0), (0.0, 1.0, 512, 512)]
)
def test_the_search_finds_how_many_fit(each: float, limit: float, low: int, high: int) -> None:
    assert low <= asr_streams.largest(lambda n: n * each, limit) <= high


def test_without_peers_it_measures_ours(tmp_path: Path, alone: None) -> None:
    result = Result(bench="asr")
    subject = asr.made("tiny", asr.silent(TINY), None, tmp_path)
    asr.measure_parts(result, subject, True, ("steps", "streams", "flow"))
    found = {(row.case, row.system, row.metric) for row in result.rows}
    for system in ("thalweg", "thalweg-int8"):
        for metric in (
            "step_p50",
            "step_p95",
            "cpu_p50",
            "rtf",
            "streams",
            "stream_mb",
            "core",
            "lag_end",
            "final_p99",
        ):
            assert ("tiny 80ms", system, metric) in found
    assert ("tiny 80ms", "buffered", "rtf") in found
    assert all(row.value >= 0 for row in result.rows)


def test_a_given_model_is_measured_in_float32_too_where_it_brings_its_weights(tmp_path: Path, alone: None) -> None:
    model = deploy(tmp_path / "mine", int8=True)
    keep_weights(asr.silent(TINY), model.folder)
    result = Result(bench="asr")
    asr.measure(result, quick=True, part="steps", model=str(model.folder))
    assert {row.case for row in result.rows} == {"mine 80ms"}
    assert {row.system for row in result.rows} == {"thalweg", "thalweg-int8", "buffered"}
    assert any(note.startswith("nemo, nemo-onnx: left out") for note in result.notes)


def test_unknown_parts_and_models_are_refused() -> None:
    with pytest.raises(BenchError, match="it has steps, streams, flow, pipeline"):
        asr.measure(Result(bench="asr"), quick=True, part="speed")
    with pytest.raises(ModelError, match="recogniser 'nobody' is not here"):
        asr.measure(Result(bench="asr"), quick=True, model="nobody")


def test_who_needs_longer_than_a_piece_lasts_lags_more_and_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(np.arange(0.0, 1e4, 0.05))  # 50 ms for every piece of 32
    engine = Recogniser(deploy(tmp_path))
    monkeypatch.setattr(asr_flow.time, "perf_counter", lambda: next(ticks))
    lags, _ = asr_flow.lags_ms(engine, np.zeros(10 * asr_flow.PIECE, np.float32), 1)
    assert lags == pytest.approx([50 + 18 * n for n in range(10)])


def test_speech_without_pauses_has_none() -> None:
    audio = asr_flow.speech(20.0, 16_000)
    assert len(audio) == 320_000
    assert np.abs(audio[: len(audio) // 160 * 160].reshape(-1, 160)).max(axis=1).min() > 0.005


def test_speech_through_a_pipeline_takes_a_share_of_a_core(tmp_path: Path) -> None:
    """Turns end in the pauses between the questions, and each has a final transcript."""
    require_model("silero-vad")
    result = Result(bench="asr")
    model = deploy(tmp_path)
    asr_flow.measure_pipeline(result, "tiny 80ms", "thalweg", model, 1, quick=True)
    (share,) = [row for row in result.rows if row.metric == "pipeline_core"]
    assert 0 < share.value < 4 and share.n >= 1
    assert not result.notes
