"""Recognisers that come with the package: found without a download, checked once, used by their name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models.deployments import deploy, lively_weights, speechlike
from thalweg.models import ModelError, ModelStore, Registry
from thalweg.models.deployed import convert, keep_weights
from thalweg.models.entry import entry
from thalweg.models.loading import load_deployed, recognisers
from thalweg.models.nemo_archive import Checkpoint
from thalweg.models.recogniser import Recogniser


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store whose registry holds one bundled recogniser, and which may not write anywhere."""
    folder = tmp_path / "package" / "weights" / "tiny-asr"
    deploy(folder)
    (folder / "CARD.md").write_text("a model card is no part of the model")
    (tmp_path / "registry.yaml").write_text("\n".join(entry(folder)))
    registry = Registry.load(tmp_path / "registry.yaml")
    return ModelStore(tmp_path / "not" / "there", registry, tmp_path / "package")


def test_a_bundled_model_is_used_where_it_lies(store: ModelStore) -> None:
    assert load_deployed("tiny-asr", store).folder == store.package / "weights" / "tiny-asr"
    assert not store.root.exists()
    (held,) = store.list()
    assert held.complete and held.model.bundled
    assert store.verify("tiny-asr") == []


def test_a_bundled_file_that_changed_is_refused_whenever_that_happens(store: ModelStore) -> None:
    path = store.path("tiny-asr", "model.json")
    path.write_text(path.read_text().replace("int8", "int4"))
    with pytest.raises(ModelError, match=r"model tiny-asr: .*model.json has changed: install thalweg again"):
        load_deployed("tiny-asr", store)
    assert len(store.verify("tiny-asr")) == 1


def test_a_bundled_file_that_is_missing_is_named(store: ModelStore) -> None:
    store.path("tiny-asr", "joint.onnx").unlink()
    with pytest.raises(ModelError, match=r"joint.onnx is not here: install thalweg again"):
        load_deployed("tiny-asr", store)
    assert not store.list()[0].complete


def test_an_unknown_recogniser_says_which_there_are(store: ModelStore) -> None:
    with pytest.raises(
        ModelError, match=r"recogniser 'tiny-asr-2' is not here: ready to use: tiny-asr; to pull: nvidia/"
    ):
        load_deployed("tiny-asr-2", store)


def test_a_model_that_brings_its_weights_can_be_converted_anew(tmp_path: Path) -> None:
    quick = deploy(tmp_path / "int8", int8=True)
    keep_weights(Checkpoint(quick.config, quick.tokens, lively_weights(quick.config)), quick.folder)
    exact = convert(quick.checkpoint(), tmp_path / "fp32")
    wanted = deploy(tmp_path / "wanted")
    audio = speechlike(12.0)
    found, expected = (Recogniser(model).open(head="ctc") for model in (exact, wanted))
    for stream in (found, expected):
        stream.feed(audio)
    rows = [np.array([e.log_prob for e in stream.decoder.emitted]) for stream in (found, expected)]
    assert len(rows[0]) > 3 and np.abs(rows[0] - rows[1]).max() < 0.02, "float16 rounds to 1e-3"


def test_a_model_without_its_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"graphs only: there is no weights.npz"):
        deploy(tmp_path).checkpoint()


def test_models_that_are_no_recognisers_are_not_offered() -> None:
    assert "silero-vad" not in recognisers()


def test_a_model_is_bundled_whole_or_not_at_all(tmp_path: Path) -> None:
    files = (
        "{a: {size: 1, sha256: a, sources: [bundled: weights/half]}, b: {size: 1, sha256: b, sources: [url: http://x]}}"
    )
    (tmp_path / "half.yaml").write_text(f"half: {{summary: s, licence: l, files: {files}}}")
    with pytest.raises(ModelError, match="only some of them"):
        Registry.load(tmp_path / "half.yaml")
