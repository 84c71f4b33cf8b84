"""Half a model, and what is none: the message names the file, what it is and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.models.errors import ModelError
from thalweg.models.store.damaged import damaged
from thalweg.models.store.onnx import open_session

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 459000000\n"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"", "it is empty"),
        (LFS, "it is a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>sign in</html>", "it is a web page"),
        (b"\n<html>", "it is a web page"),
        (b'{"error": "gated"}', "it is an answer of a server"),
        (b"\x08\x07onnx", r"it holds 6 bytes \(it ends too early\)"),
    ],
)
def test_a_file_that_is_no_model_says_what_it_is(tmp_path: Path, held: bytes, said: str) -> None:
    (tmp_path / "m.onnx").write_bytes(held)
    assert "Fetch it again" in str(damaged(tmp_path / "m.onnx"))
    with pytest.raises(ModelError, match=rf"m\.onnx is damaged or no model: {said}"):
        raise damaged(tmp_path / "m.onnx", "it ends\ntoo early")


def test_a_file_of_the_store_says_which_model_to_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    (tmp_path / "nvidia--stt").mkdir()
    file = tmp_path / "nvidia--stt" / "stt it.nemo"
    file.write_bytes(b"")
    assert str(damaged(file)).endswith(f"Delete it (rm '{file}') and run `thalweg models pull nvidia/stt`")


@pytest.mark.parametrize("held", [b"", b"\x08\x07half", LFS])
def test_a_network_that_is_cut_short_is_a_model_error(tmp_path: Path, held: bytes) -> None:
    require_package("onnxruntime", "vad")
    import onnxruntime

    (tmp_path / "m.onnx").write_bytes(held)
    with pytest.raises(ModelError, match=r"m\.onnx is damaged or no model"):
        open_session(tmp_path / "m.onnx", onnxruntime.SessionOptions())


@pytest.mark.parametrize("held", [b"", LFS, b"GGUF\x03\x00\x00\x00cut"])
def test_a_language_model_that_is_cut_short_names_its_file(tmp_path: Path, held: bytes) -> None:
    require_package("xllamacpp", "llama")
    from thalweg.models.language.llama import LlamaServer

    (tmp_path / "m.gguf").write_bytes(held)
    with pytest.raises(ModelError, match=r"m\.gguf"):
        LlamaServer(tmp_path / "m.gguf")


@pytest.mark.real
@pytest.mark.parametrize("held", ["", "[]", "{", '{"audio": 3}', "[" * 100_000])
def test_a_voice_with_a_damaged_description_names_its_file(tmp_path: Path, held: str) -> None:
    require_package("piper", "piper")
    from thalweg.models.speech.piper import PiperVoice
    from thalweg.models.store.store import ModelStore

    (tmp_path / "v.onnx.json").write_text(held, encoding="utf-8")
    model = next(file for file in ModelStore().pull("silero-vad") if file.suffix == ".onnx")
    with pytest.raises(ModelError, match=r"v\.onnx\.json is damaged or no model"):
        PiperVoice(model, tmp_path / "v.onnx.json")
