"""Archives from strangers: read without NeMo, without torch, and without doing what they say."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require_package
from tests.models.speech.archives import (
    TINY,
    executing_pickle,
    random_weights,
    settings,
    torch_file,
    write_nemo,
    zipped_pickle,
)
from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.tokens import Tokens, sentencepiece_tokens
from thalweg.models.speech.fastconformer.nemo_archive import read_nemo

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def weights_file() -> bytes:
    require_package("torch", "train")
    return torch_file(random_weights())


def test_an_archive_gives_configuration_tokens_and_weights(tmp_path: Path, weights_file: bytes) -> None:
    checkpoint = read_nemo(write_nemo(tmp_path / "a.nemo", settings(), weights_file))
    assert checkpoint.config == TINY
    assert checkpoint.tokens.text([8, 5, 0, 9, 0]) == "he i"
    expected = random_weights()
    assert checkpoint.weights.keys() == expected.keys()
    assert all(np.array_equal(checkpoint.weights[name], value) for name, value in expected.items())


def test_half_precision_and_bfloat_weights_are_read(tmp_path: Path) -> None:
    require_package("torch", "train")
    import torch

    out = io.BytesIO()
    kinds = [torch.float16, torch.bfloat16, torch.float64]
    tensors = {n: torch.from_numpy(v).to(kinds[i % 3]) for i, (n, v) in enumerate(random_weights().items())}
    torch.save(tensors, out)
    checkpoint = read_nemo(write_nemo(tmp_path / "a.nemo", settings(), out.getvalue()))
    assert all(np.array_equal(v, tensors[n].float().numpy()) for n, v in checkpoint.weights.items())


@pytest.mark.parametrize("kept", [0, 100, 5_000, 100_000])
def test_a_truncated_archive_is_said_to_be_truncated(tmp_path: Path, weights_file: bytes, kept: int) -> None:
    whole = write_nemo(tmp_path / "a.nemo", settings(), weights_file)
    whole.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"a\.nemo.*(truncated|not a \.nemo archive)"):
        read_nemo(whole)


def test_truncated_weights_are_said_to_be_truncated(tmp_path: Path, weights_file: bytes) -> None:
    path = write_nemo(tmp_path / "a.nemo", settings(), weights_file[:100_000])
    with pytest.raises(ModelError, match="weights cannot be read, the file is truncated"):
        read_nemo(path)


def test_a_pickle_that_executes_code_does_not(tmp_path: Path) -> None:
    flag = tmp_path / "executed"
    path = write_nemo(tmp_path / "a.nemo", settings(), zipped_pickle(executing_pickle(flag)))
    with pytest.raises(ModelError, match=r"the weights name .*open, which is no tensor: not loaded"):
        read_nemo(path)
    assert not flag.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_path_traversal_is_refused(tmp_path: Path, weights_file: bytes, name: str) -> None:
    path = write_nemo(tmp_path / "a.nemo", settings(), weights_file, {name: b"x"})
    with pytest.raises(ModelError, match="points outside the archive"):
        read_nemo(path)


def test_links_in_the_archive_are_refused(tmp_path: Path, weights_file: bytes) -> None:
    path = write_nemo(tmp_path / "a.nemo", settings(), weights_file)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("model_weights.ckpt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ModelError, match="is no plain file: refused"):
        read_nemo(path)


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        (
            "encoder",
            {"_target_": "nemo.collections.asr.modules.SqueezeformerEncoder"},
            r"encoder\._target_ is .*Squeeze",
        ),
        ("encoder", {"att_context_size": [-1, -1]}, "unlimited context cannot be streamed"),
        ("encoder", {"att_context_size": 5}, r"att_context_size is 5, expected \[left, right\]"),
        ("encoder", {"att_context_size": [[70]]}, r"att_context_size is \[\[70\]\], expected \[left, right\]"),
        ("encoder", {"att_context_style": "regular"}, r"encoder\.att_context_style is 'regular'"),
        ("encoder", {"causal_downsampling": False}, r"encoder\.causal_downsampling is False"),
        ("encoder", {"conv_context_size": None}, r"encoder\.conv_context_size is None"),
        ("encoder", {"subsampling": "striding"}, r"encoder\.subsampling is 'striding'"),
        ("encoder", {"self_attention_model": "abs_pos"}, r"encoder\.self_attention_model is 'abs_pos'"),
        ("encoder", {"n_layers": "many"}, r"encoder\.n_layers is 'many', expected a positive number"),
        ("encoder", {"d_model": 72}, r"weight encoder\.\S+ has shape .* expected"),
        ("encoder", {"n_layers": 1}, r"weight encoder\.layers\.1\.\S+ has no place"),
        ("encoder", {"n_layers": 3}, r"weight encoder\.layers\.2\.\S+ is missing"),
        ("preprocessor", {"normalize": "per_feature"}, r"preprocessor\.normalize is 'per_feature'"),
        ("decoder", {"_target_": "nemo.collections.asr.modules.StatelessTransducerDecoder"}, r"decoder\._target_"),
        ("joint", {"num_extra_outputs": 5}, r"joint\.num_extra_outputs is 5"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    tmp_path: Path, weights_file: bytes, section: str, changes: dict[str, Any], said: str
) -> None:
    config = settings()
    config[section] = config[section] | changes
    with pytest.raises(ModelError, match=said):
        read_nemo(write_nemo(tmp_path / "a.nemo", config, weights_file))


def test_a_model_that_is_no_recogniser_is_refused_by_its_name(tmp_path: Path, weights_file: bytes) -> None:
    config = settings() | {"target": "nemo.collections.tts.models.FastPitchModel"}
    with pytest.raises(ModelError, match="target is 'FastPitchModel', expected one of EncDecCTCModel"):
        read_nemo(write_nemo(tmp_path / "a.nemo", config, weights_file))


def test_references_within_the_configuration_are_followed(tmp_path: Path, weights_file: bytes) -> None:
    config = settings()
    config["encoder"]["d_model"] = "${model_defaults.enc_hidden}"
    assert read_nemo(write_nemo(tmp_path / "a.nemo", config, weights_file)).config.width == 64


def test_a_configuration_that_refers_to_itself_is_refused(tmp_path: Path, weights_file: bytes) -> None:
    config = settings() | {"a": "${b}", "b": "${a}"}
    with pytest.raises(ModelError, match="refers to itself"):
        read_nemo(write_nemo(tmp_path / "a.nemo", config, weights_file))


def test_a_short_configuration_that_stands_for_a_huge_one_is_refused(tmp_path: Path, weights_file: bytes) -> None:
    config = settings() | {"a0": [1] * 10} | {f"a{n}": [f"${{a{n - 1}}}"] * 10 for n in range(1, 9)}
    with pytest.raises(ModelError, match="stands for more than"):
        read_nemo(write_nemo(tmp_path / "a.nemo", config, weights_file))


def test_a_tensor_that_repeats_its_storage_for_ever_is_refused(tmp_path: Path) -> None:
    require_package("torch", "train")
    import torch

    out = io.BytesIO()
    torch.save({"encoder.huge": torch.zeros(1).expand(1 << 18, 1 << 18)}, out)
    with pytest.raises(ModelError, match="larger than its storage"):
        read_nemo(write_nemo(tmp_path / "a.nemo", settings(), out.getvalue()))


def test_a_sentencepiece_model_is_read_without_the_library(tmp_path: Path) -> None:
    require_package("sentencepiece", "train")
    import sentencepiece

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog\nwhat is the capital of france\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "t"), vocab_size=60, model_type="bpe", minloglevel=2
    )
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "t.model"))
    ours = sentencepiece_tokens((tmp_path / "t.model").read_bytes())
    for sentence in ("what is the quick fox", "the capital", "over dogs"):
        ids = theirs.encode(sentence)
        assert ours.text(ids) == theirs.decode(ids) == sentence
    assert len(ours) == theirs.vocab_size()


def test_byte_pieces_make_characters() -> None:
    assert Tokens(("▁a", "<0xC3>", "<0xA9>", "<0xFF>")).text([0, 1, 2, 0, 3]) == "aé a\ufffd"


@pytest.mark.parametrize("damaged", [b"", b"\x0a\xff", b"\x07" * 40, b"\x0a\x04ab"])
def test_a_damaged_tokenizer_is_refused(damaged: bytes) -> None:
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        sentencepiece_tokens(damaged)
