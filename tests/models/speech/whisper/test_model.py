"""A Whisper model: decoded alone or beside others alike, and refused with a reason where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import require_package
from tests.models.speech.whisper.tiny import make_whisper
from thalweg.models.errors import ModelError
from thalweg.models.speech.whisper.decode import DecodeRequest, check_language, decode
from thalweg.models.speech.whisper.model import WhisperModel, find_whisper

RATE = 16_000
pytestmark = pytest.mark.real  # importing CTranslate2 imports torch where that is installed, which starts a process


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> WhisperModel:
    return WhisperModel(folder)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_a_text_does_not_depend_on_its_neighbours(model: WhisperModel) -> None:
    asks = [DecodeRequest(samples=noise(1 + n % 5, n), language="auto" if n % 3 else "en") for n in range(8)]
    asks = [ask for ask in asks if ask.shape == asks[1].shape]
    assert len(asks) > 3
    assert decode(model, asks) == [decode(model, [ask])[0] for ask in asks]


def test_a_text_begins_with_what_was_settled(model: WhisperModel) -> None:
    prefix = tuple(model.vocabulary.encode(" ga ge gi"))
    (found,) = decode(model, [DecodeRequest(samples=noise(3), prefix=prefix)])
    assert found.text.startswith("ga ge gi")
    tokens = [token for word in found.words for token in word.tokens]
    assert tuple(tokens[:3]) == prefix


def test_words_follow_each_other_within_the_audio(model: WhisperModel) -> None:
    (found,) = decode(model, [DecodeRequest(samples=noise(4))])
    assert len(found.words) > 3
    assert all(0 <= a.start_s < a.end_s <= b.end_s for a, b in zip(found.words, found.words[1:], strict=False))
    assert found.words[-1].end_s <= 4.1
    assert all(0 <= word.confidence <= 1 for word in found.words)


def test_audio_of_no_length_has_no_words_to_crash_on(model: WhisperModel) -> None:
    (found,) = decode(model, [DecodeRequest(samples=np.zeros(0, np.float32))])
    assert isinstance(found.text, str)


def test_a_window_is_as_long_as_the_audio_and_a_second_and_never_longer_than_the_model_takes() -> None:
    assert DecodeRequest(samples=noise(2)).window_s == 8
    assert DecodeRequest(samples=noise(2), at_least_s=5).window_s == 5
    assert DecodeRequest(samples=noise(9.2)).window_s == 11
    assert DecodeRequest(samples=noise(45)).window_s == 30


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "vocabulary.json"])
def test_a_folder_that_is_not_whole_is_refused(folder: Path, tmp_path: Path, missing: str) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    (other / missing).unlink()
    with pytest.raises(ModelError, match=rf"holds no .*{missing}.*whole"):
        WhisperModel(other)


def test_a_truncated_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    content = (other / "model.bin").read_bytes()
    for size in (len(content) // 2, 40, 3, 0):
        (other / "model.bin").write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"model\.bin (cannot be loaded: |is no model of CTranslate2, expected)"):
            WhisperModel(other)


def test_another_architecture_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    content = (other / "model.bin").read_bytes()
    (other / "model.bin").write_bytes(content.replace(b"WhisperSpec", b"MarianSpecs", 1))
    with pytest.raises(ModelError, match=r"is a MarianSpecs, expected a WhisperSpec: this stage takes Whisper only"):
        WhisperModel(other)


def test_damaged_configuration_and_vocabulary_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "vocabulary.json"):
        other = Path(shutil.copytree(folder, tmp_path / name))
        (other / name).write_text("{", encoding="utf-8")
        with pytest.raises(ModelError, match=rf"{name} cannot be read"):
            WhisperModel(other)


def test_what_this_processor_cannot_compute_is_refused_with_what_it_can(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny as float16: this cpu can .*float32.*int8"):
        WhisperModel(folder, compute="float16")
    with pytest.raises(ModelError, match="device 'tpu', expected cpu or cuda"):
        WhisperModel(folder, device="tpu")


def test_a_loaded_model_goes_on_when_its_files_are_removed(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    model = WhisperModel(other)
    before = decode(model, [DecodeRequest(samples=noise(2))])
    shutil.rmtree(other)
    assert decode(model, [DecodeRequest(samples=noise(2))]) == before
    with pytest.raises(ModelError, match="is not here: name one of whisper-base"):
        find_whisper(str(other))


def test_languages_that_a_model_does_not_know_are_refused(model: WhisperModel) -> None:
    for known in ("en", "de", "auto"):
        check_language(model, known)
    with pytest.raises(ModelError, match=r"language 'klingon' is none of tiny: auto, en, zh, de, "):
        check_language(model, "klingon")


def test_an_english_model_says_which_one_knows_more() -> None:
    require_package("ctranslate2", "whisper")
    english = object.__new__(WhisperModel)
    english.multilingual, english.folder = False, Path("whisper-tiny.en")
    check_language(english, "en")
    for other in ("de", "auto"):
        with pytest.raises(
            ModelError, match=rf"knows English only, language '{other}' was asked for: take whisper-base"
        ):
            check_language(english, other)


def test_the_vocabulary_may_be_a_list_of_lines(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "model"))
    listed = json.loads((other / "vocabulary.json").read_text(encoding="utf-8"))
    (other / "vocabulary.json").unlink()
    (other / "vocabulary.txt").write_text("".join(f"{token}\n" for token in listed), encoding="utf-8")
    assert WhisperModel(other).vocabulary.special("notimestamps") == WhisperModel(folder).vocabulary.no_times
