"""The sentence model gives the published vectors, and cuts words as BERT does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_model
from thalweg.models import ModelError, ModelStore
from thalweg.models.language.minilm import SentenceModel
from thalweg.pipeline.video.intent import DESCRIPTIONS, Kind, by_meaning

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    require_model("all-minilm-l6-v2")
    return SentenceModel(*ModelStore().pull("all-minilm-l6-v2"))


def test_the_vectors_are_those_of_the_published_model(model: SentenceModel) -> None:
    person, dog, day = (
        model.embed(text) for text in ("That is a happy person", "That is a happy dog", "Today is a sunny day")
    )
    assert float(person @ dog) == pytest.approx(0.6945772, abs=1e-4)
    assert float(person @ day) == pytest.approx(0.2568761, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("What does it say?", [101, 2054, 2515, 2009, 2360, 1029, 102]),
        ("don't über-drive", [101, 2123, 1005, 1056, 19169, 1011, 3298, 102]),
        ("", [101, 102]),
    ],
)
def test_words_are_cut_as_bert_cuts_them(model: SentenceModel, text: str, ids: list[int]) -> None:
    assert model.pieces(text) == ids


def test_a_very_long_text_is_cut_and_any_text_has_unit_length(model: SentenceModel) -> None:
    for text in ("word " * 5000, "", "🙂 \x00 漢字"):
        assert float(np.linalg.norm(model.embed(text))) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("what's the dosage on this bottle", Kind.TEXT),
        ("is the guy happy", Kind.FACE),
        ("how many folks stand there", Kind.PERSON),
        ("which way is it rolling", Kind.MOTION),
    ],
)
def test_a_question_is_nearest_to_its_intent(model: SentenceModel, question: str, kind: Kind) -> None:
    described = [(k, model.embed(text)) for k, texts in DESCRIPTIONS.items() for text in texts]
    found = by_meaning(model.embed(question), described)
    assert max(found, key=lambda one: found[one]) is kind


def test_a_file_that_holds_no_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"no tensors")
    (tmp_path / "v").write_text("a")
    with pytest.raises(ModelError, match="is not a safetensors file"):
        SentenceModel(tmp_path / "w", tmp_path / "v")
