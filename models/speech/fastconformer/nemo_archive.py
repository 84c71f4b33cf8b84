"""Reads `.nemo` archives without NeMo: configuration, tokenizer and weights of a streaming FastConformer.

An archive is a tar file with `model_config.yaml`, `model_weights.ckpt` and the tokenizer's files. It comes from
strangers: nothing is unpacked to where its names say, sizes are bounded, the weights are read by `torch_file`, which
runs nothing, and `open_nemo` has it all done by a child with limits.
What the network here cannot represent is refused by the name of the first setting that does not fit.
"""

from __future__ import annotations

import io
import itertools
import json
import lzma
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from thalweg.models.errors import ModelError
from thalweg.models.speech.decoding.tokens import Tokens, sentencepiece_tokens
from thalweg.models.speech.fastconformer.config import SUBSAMPLING, FastConformerConfig
from thalweg.models.speech.fastconformer.torch_file import Weights, read_weights
from thalweg.models.speech.mel import MelConfig
from thalweg.models.store.confined import confined, limits_for
from thalweg.models.store.damaged import damaged

_MAX_CONFIG = 1 << 20
_MAX_VALUES = 1_000_000
_MAX_TOKENIZER = 64 << 20
_MAX_MEMBERS = 1_000
_MAX_COUNT = 1_000_000
_MAX_LAYERS = 1_000
_MAX_WEIGHTS = 16 << 30
_CTC, _RNNT, _HYBRID = "CTC", "RNN-T", "hybrid"


@dataclass(frozen=True, slots=True)
class NemoCheckpoint:
    """What an archive holds. `weights` go by the names of `FastConformer`, `filters` are its mel filters [mel, bin]."""

    config: FastConformerConfig
    tokens: Tokens
    weights: Weights


def read_nemo(path: Path) -> NemoCheckpoint:
    """Read an archive. Raises ModelError where it is damaged, unsafe, or holds another kind of model."""
    try:
        with tarfile.open(path, "r:*") as archive:
            members = _members(path, archive)
            settings = _settings(_read(archive, members, "model_config.yaml", _MAX_CONFIG))
            kind = _kind(settings)
            tokens = _tokens(settings, archive, members)
            weights = read_weights(io.BytesIO(_read(archive, members, "model_weights.ckpt", _MAX_WEIGHTS)))
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist") from None
    except (AttributeError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: a setting in model_config.yaml is of the wrong kind: {str(error)[:200]}") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise damaged(path, f"it is truncated or no .nemo archive: {reason}") from None
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    try:
        config = _config(settings, kind, len(tokens))
        return NemoCheckpoint(config, tokens, _renamed(weights, config, kind))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (AttributeError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: a setting in model_config.yaml is of the wrong kind: {str(error)[:200]}") from None


def unpack(path: Path, folder: Path) -> None:
    """As `read_nemo`, into a folder: what `open_nemo` reads in the parent. Raises ModelError."""
    read = read_nemo(path)
    np.savez(folder / "weights.npz", **read.weights)  # type: ignore[arg-type]  # its stub takes no arrays by name
    said = {"config": read.config.as_dict(), "pieces": read.tokens.pieces, "characters": read.tokens.characters}
    (folder / "read.json").write_text(json.dumps(said), encoding="utf-8")


def open_nemo(path: Path) -> NemoCheckpoint:
    """As `read_nemo`, in a process with limits in proportion to the archive's size: for archives of strangers."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    memory, seconds = limits_for(path)
    with tempfile.TemporaryDirectory(prefix="thalweg-nemo-") as name:
        folder = Path(name)
        confined(
            "thalweg.models.speech.fastconformer.nemo_archive:unpack", path, folder, memory=memory, seconds=seconds
        )
        said = json.loads((folder / "read.json").read_text(encoding="utf-8"))
        with np.load(folder / "weights.npz", allow_pickle=False) as kept:
            weights = {key: kept[key] for key in kept.files}
    config = FastConformerConfig.from_dict(said["config"])
    return NemoCheckpoint(config, Tokens(tuple(said["pieces"]), said["characters"]), weights)


def _members(path: Path, archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        name = PurePosixPath(member.name)
        if len(members) >= _MAX_MEMBERS:
            raise ModelError(f"there are more than {_MAX_MEMBERS} members in it: not a .nemo archive")
        sparse = member.issparse()  # says to be larger than what lies on the disk
        if name.is_absolute() or ".." in name.parts or sparse or not (member.isreg() or member.isdir()):
            raise ModelError(f"member {member.name!r} points outside the archive or is no plain file: refused")
        members[name.name] = member
    return members


def _read(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str, limit: int) -> bytes:
    member = members.get(name)
    file = archive.extractfile(member) if member else None
    if member is None or file is None:
        raise ModelError(f"there is no {name} in it: not a .nemo archive")
    if member.size > limit:
        raise ModelError(f"{name} has {member.size} bytes, more than the {limit} allowed")
    content = file.read()
    if len(content) != member.size:
        raise ModelError(f"{name} is truncated: {len(content)} of {member.size} bytes")
    return content


def _settings(text: bytes) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ModelError(f"model_config.yaml is not YAML: {reason}") from None
    if not isinstance(settings, dict):
        raise ModelError("model_config.yaml is not a table")
    resolved: dict[str, Any] = _resolve(settings, settings, 0, itertools.count())
    return resolved


def _resolve(value: Any, root: dict[str, Any], depth: int, values: Iterator[int]) -> Any:
    """Put values in place of OmegaConf's `${a.b}`; `values` counts them."""
    if depth > 32:
        raise ModelError("model_config.yaml refers to itself")
    if next(values) > _MAX_VALUES:
        raise ModelError(f"model_config.yaml stands for more than {_MAX_VALUES} values")
    if isinstance(value, dict):
        return {k: _resolve(v, root, depth + 1, values) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, root, depth + 1, values) for v in value]
    reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    if not reference:
        return value
    found: Any = root
    for part in reference[1].split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return _resolve(found, root, depth + 1, values)


def _kind(settings: dict[str, Any]) -> str:
    target = str(settings.get("target", "")).rpartition(".")[2]
    kinds = {
        "EncDecCTCModel": _CTC,
        "EncDecCTCModelBPE": _CTC,
        "EncDecRNNTModel": _RNNT,
        "EncDecRNNTBPEModel": _RNNT,
        "EncDecHybridRNNTCTCModel": _HYBRID,
        "EncDecHybridRNNTCTCBPEModel": _HYBRID,
    }
    if target not in kinds:
        raise ModelError(f"target is {target!r}, expected one of {', '.join(kinds)}")
    return kinds[target]


def _tokens(settings: dict[str, Any], archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Tokens:
    tokenizer = settings.get("tokenizer")
    if not tokenizer:
        labels = settings.get("labels") or (settings.get("decoder") or {}).get("vocabulary")
        if not isinstance(labels, list):
            raise ModelError("there is neither a tokenizer nor a list of labels in model_config.yaml")
        return Tokens(tuple(map(str, labels)), characters=True)
    if tokenizer.get("type") != "bpe":
        raise ModelError(f"tokenizer.type is {tokenizer.get('type')!r}, expected 'bpe' (SentencePiece)")
    name = str(tokenizer.get("model_path", "")).removeprefix("nemo:")
    return sentencepiece_tokens(_read(archive, members, PurePosixPath(name).name, _MAX_TOKENIZER))


class _Section:
    """Part of the settings; remembers its name for the refusals."""

    def __init__(self, settings: dict[str, Any], name: str) -> None:
        found: Any = settings
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise ModelError(f"model_config.yaml has no section {name}")
        self.values, self.name = found, name

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    def must_be(self, key: str, *expected: Any, default: Any = None) -> Any:
        value = self.get(key, default)
        if value not in expected:
            wanted = " or ".join(map(repr, expected))
            raise ModelError(f"{self.name}.{key} is {value!r}, this network can only be {wanted}")
        return value

    def count(self, key: str, default: int | None = None, most: int = _MAX_COUNT) -> int:
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{self.name}.{key} is {str(repr(value))[:80]}, expected a positive number")
        if value > most:
            raise ModelError(f"{self.name}.{key} is {str(value)[:80]}, expected at most {most}")
        return value


def _config(settings: dict[str, Any], kind: str, vocabulary: int) -> FastConformerConfig:
    encoder = _Section(settings, "encoder")
    encoder.must_be("_target_", "nemo.collections.asr.modules.ConformerEncoder")
    encoder.must_be("self_attention_model", "rel_pos", default="rel_pos")
    encoder.must_be("subsampling", "dw_striding", default="striding")
    encoder.must_be("subsampling_factor", SUBSAMPLING, default=4)
    encoder.must_be("causal_downsampling", True, default=False)
    encoder.must_be("att_context_style", "chunked_limited", default="regular")
    encoder.must_be("reduction", None)
    encoder.must_be("untie_biases", True, default=True)
    encoder.must_be("feat_out", -1, default=-1)
    encoder.must_be("conv_context_style", "regular", default="regular")
    kernel = encoder.count("conv_kernel_size", 31)
    encoder.must_be("conv_context_size", "causal", [kernel - 1, 0])
    left, lookaheads = _contexts(encoder)
    width = encoder.count("d_model")
    channels = encoder.get("subsampling_conv_channels", -1)
    mel = _mel(_Section(settings, "preprocessor"))
    encoder.must_be("feat_in", mel.n_mels)
    common: dict[str, Any] = {
        "mel": mel,
        "layers": encoder.count("n_layers", most=_MAX_LAYERS),
        "width": width,
        "heads": encoder.count("n_heads", 4),
        "ff_factor": encoder.count("ff_expansion_factor", 4),
        "kernel": kernel,
        "subsampling_width": width if channels == -1 else channels,
        "left": left,
        "lookaheads": lookaheads,
        "scale_input": bool(encoder.get("xscaling", True)),
        "bias": bool(encoder.get("use_bias", True)),
        "conv_norm": encoder.must_be("conv_norm_type", "layer_norm", "batch_norm", default="batch_norm"),
        "vocabulary": vocabulary,
        "ctc": kind != _RNNT,
        "rnnt": kind != _CTC,
    }
    if kind != _CTC:
        common |= _transducer(settings)
    return FastConformerConfig(**common)


def _contexts(encoder: _Section) -> tuple[int, tuple[int, ...]]:
    contexts = encoder.get("att_context_size") or [-1, -1]
    if isinstance(contexts, list) and all(isinstance(each, int) for each in contexts):
        contexts = [contexts]
    if not isinstance(contexts, list) or not all(_is_pair(each) for each in contexts):
        raise ModelError(f"{encoder.name}.att_context_size is {contexts!r}, expected [left, right] or a list of such")
    lefts = sorted({left for left, _ in contexts})
    if lefts[0] < 1 or any(right < 0 for _, right in contexts):
        raise ModelError(f"{encoder.name}.att_context_size is {contexts}: unlimited context cannot be streamed")
    if len(lefts) > 1:
        raise ModelError(f"{encoder.name}.att_context_size is {contexts}: one left context for all is expected")
    return lefts[0], tuple(right for _, right in contexts)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, int) for each in value)


def _mel(section: _Section) -> MelConfig:
    section.must_be("_target_", "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor")
    section.must_be("log", True, default=True)
    section.must_be("frame_splicing", 1, default=1)
    section.must_be("exact_pad", False, default=False)
    section.must_be("mel_norm", "slaney", default="slaney")
    normalize = section.must_be("normalize", "NA", None, "None", "", default="per_feature")
    rate = section.count("sample_rate", 16_000)
    window = section.get("n_window_size") or int(section.get("window_size", 0.02) * rate)
    guard = section.get("log_zero_guard_value", 2**-24)
    return MelConfig(
        sample_rate=rate,
        window_samples=window,
        hop_samples=section.get("n_window_stride") or int(section.get("window_stride", 0.01) * rate),
        n_fft=section.get("n_fft") or 1 << (window - 1).bit_length(),
        n_mels=section.count("features", 64),
        window=section.must_be("window", "hann", "hamming", "blackman", "bartlett", default="hann"),
        preemphasis=section.get("preemph", 0.97) or 0.0,
        low_hz=float(section.get("lowfreq", 0) or 0),
        high_hz=section.get("highfreq"),
        log_guard={"tiny": 1.1754943508222875e-38, "eps": 1.1920928955078125e-07}.get(guard, guard),
        log_guard_clamps=section.must_be("log_zero_guard_type", "add", "clamp", default="add") == "clamp",
        mag_power=section.get("mag_power", 2.0),
        normalize="NA" if normalize in (None, "None", "") else normalize,
    )


def _transducer(settings: dict[str, Any]) -> dict[str, Any]:
    decoder, joint = _Section(settings, "decoder"), _Section(settings, "joint")
    decoder.must_be("_target_", "nemo.collections.asr.modules.RNNTDecoder")
    decoder.must_be("normalization_mode", None)
    decoder.must_be("blank_as_pad", True, default=True)
    joint.must_be("_target_", "nemo.collections.asr.modules.RNNTJoint")
    joint.must_be("num_extra_outputs", 0, default=0)  # duration outputs of a token-and-duration transducer
    prednet, jointnet = _Section(settings, "decoder.prednet"), _Section(settings, "joint.jointnet")
    prednet.must_be("rnn_hidden_size", -1, prednet.get("pred_hidden"), default=-1)
    return {
        "prediction_width": prednet.count("pred_hidden"),
        "prediction_layers": prednet.count("pred_rnn_layers", most=_MAX_LAYERS),
        "joint_width": jointnet.count("joint_hidden"),
        "joint_activation": jointnet.must_be("activation", "relu", "tanh", "sigmoid"),
    }


def _renamed(weights: Weights, config: FastConformerConfig, kind: str) -> Weights:
    """By our names, every one that the network has and no other. Raises ModelError on the first that does not fit."""
    renamed = {}
    for name, value in weights.items():
        new = name
        if kind == _CTC:
            new = re.sub(r"^decoder\.", "ctc_decoder.", new)
        new = re.sub(r"^joint\.joint_net\.\d+\.", "joint.joint_net.2.", new)
        if new == "preprocessor.featurizer.fb":
            renamed["mel_filters"] = value[0]
        elif not new.startswith("preprocessor."):
            renamed[new] = value
    for name, shape in weight_shapes(config).items():
        if name not in renamed:
            raise ModelError(f"weight {name} is missing")
        if renamed[name].shape != shape:
            raise ModelError(f"weight {name} has shape {renamed[name].shape}, expected {shape}")
    known = weight_shapes(config).keys() | {"mel_filters"}
    strange = [name for name in renamed if name not in known and not name.endswith("num_batches_tracked")]
    if strange:
        raise ModelError(f"weight {strange[0]} has no place in this network")
    return {name: value for name, value in renamed.items() if name in known}


def weight_shapes(config: FastConformerConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of `FastConformer`, without needing torch."""
    d, c, ff, k, v = config.width, config.subsampling_width, config.width * config.ff_factor, config.kernel, 0
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int, *kernel: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, *kernel)
        if bias:
            shapes[f"{name}.bias"] = (outputs,)

    linear("encoder.pre_encode.conv.0", c, 1, 3, 3)
    for depthwise, pointwise in ((2, 3), (5, 6)):
        linear(f"encoder.pre_encode.conv.{depthwise}", c, 1, 3, 3)
        linear(f"encoder.pre_encode.conv.{pointwise}", c, c, 1, 1)
    linear("encoder.pre_encode.out", d, c * config.subsampled_bands[2])
    for i in range(config.layers):
        layer = f"encoder.layers.{i}"
        for norm in ("feed_forward1", "self_att", "conv", "feed_forward2", "out"):
            shapes[f"{layer}.norm_{norm}.weight"] = shapes[f"{layer}.norm_{norm}.bias"] = (d,)
        for forward in ("feed_forward1", "feed_forward2"):
            linear(f"{layer}.{forward}.linear1", ff, d, bias=config.bias)
            linear(f"{layer}.{forward}.linear2", d, ff, bias=config.bias)
        for projection in "qkv":
            linear(f"{layer}.self_attn.linear_{projection}", d, d, bias=config.bias)
        linear(f"{layer}.self_attn.linear_out", d, d, bias=config.bias)
        linear(f"{layer}.self_attn.linear_pos", d, d, bias=False)
        for name in ("pos_bias_u", "pos_bias_v"):
            shapes[f"{layer}.self_attn.{name}"] = (config.heads, config.head_width)
        linear(f"{layer}.conv.pointwise_conv1", 2 * d, d, 1, bias=config.bias)
        linear(f"{layer}.conv.depthwise_conv", d, 1, k, bias=config.bias)
        linear(f"{layer}.conv.pointwise_conv2", d, d, 1, bias=config.bias)
        statistics = ("weight", "bias", "running_mean", "running_var")
        for name in statistics if config.conv_norm == "batch_norm" else statistics[:2]:
            shapes[f"{layer}.conv.batch_norm.{name}"] = (d,)
    v, h, j = config.vocabulary + 1, config.prediction_width, config.joint_width
    if config.ctc:
        linear("ctc_decoder.decoder_layers.0", v, d, 1)
    if config.rnnt:
        shapes["decoder.prediction.embed.weight"] = (v, h)
        for i in range(config.prediction_layers):
            for side in ("ih", "hh"):
                shapes[f"decoder.prediction.dec_rnn.lstm.weight_{side}_l{i}"] = (4 * h, h)
                shapes[f"decoder.prediction.dec_rnn.lstm.bias_{side}_l{i}"] = (4 * h,)
        linear("joint.enc", j, d)
        linear("joint.pred", j, h)
        linear("joint.joint_net.2", v, j)
    return shapes
