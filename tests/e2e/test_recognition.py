"""Streaming recognition from the command line: an archive becomes a recogniser, a recogniser writes down a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import QUESTION, require_model, require_package
from tests.e2e.test_cli import thalweg
from tests.models.speech.archives import TINY, settings, torch_file, write_nemo
from tests.models.speech.deployments import lively_weights


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module, extra in (("torch", "train"), ("onnx", "convert"), ("onnxruntime", "asr"), ("av", "audio")):
        require_package(module, extra)
    folder = tmp_path_factory.mktemp("archive")
    return write_nemo(folder / "lively.nemo", settings(), torch_file(lively_weights(TINY)))


def test_an_archive_is_converted_and_transcribes_a_file(archive: Path, tmp_path: Path) -> None:
    require_model("silero-vad")
    folder = tmp_path / "asr"
    done = thalweg("models", "convert", str(archive), "--lookahead", "80ms", "--int8", "--out", str(folder))
    assert done.returncode == 0, done.stderr
    assert "RNN-T and CTC, 2 layers, 28 tokens" in done.stdout
    settings = ["--set", f"model={folder}", "--set", "head=ctc"]
    done = thalweg("transcribe", str(QUESTION), "--engine", "fastconformer", "--json", *settings)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(record["final"] for record in records) == 2, "two questions are asked in the file"


def test_what_cannot_be_converted_is_one_line(archive: Path, tmp_path: Path) -> None:
    done = thalweg("models", "convert", str(QUESTION), "--out", str(tmp_path / "x"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    done = thalweg("models", "convert", str(archive), "--lookahead", "100ms", "--out", str(tmp_path / "x"))
    assert "look-ahead 100 ms, this model was trained for 0, 80, 480, 1040 ms" in done.stderr
    done = thalweg("transcribe", str(QUESTION), "--engine", "fastconformer")
    assert "speech.fastconformer needs model, as in --set model=fastconformer-en-4m" in done.stderr
