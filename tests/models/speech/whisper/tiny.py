"""A Whisper of random weights, small enough to be made in a moment: what it says is nonsense, and always the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import require_package

BINS = 80
_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la "
    "mi ml cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be "
    "tg sd gu am yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su "
)
CODES = _CODES.split()
WORDS = "ba be bi bo bu da de di do du ga ge gi go gu ka ke ki ko ku la le li lo lu ma me mi mo mu".split()  # noqa: SIM905
_SIZE = 51_865  # as the real one, whose last text token is empty: CTranslate2 knows multilingual models by it
_WIDTH, _HEADS, _POSITIONS = 32, 2, 1500


def tokens() -> list[str]:
    """Bytes, a few merges, special tokens, times: in the order that Whisper has them."""
    from thalweg.models.speech.whisper.vocabulary import _STAND_IN

    letters = [_STAND_IN[byte] for byte in range(256)]
    merges = ["Ġt", "he", "Ġthe", "Ġa", *(f"Ġ{word}" for word in WORDS), *(f"Ġ{c}" for c in "bdgklm")]
    special = ["endoftext", "startoftranscript", *CODES, "translate", "transcribe", "startoflm"]
    special += ["startofprev", "nospeech", "notimestamps"]
    times = [f"<|{n * 0.02:.2f}|>" for n in range(1501)]
    count = _SIZE - len(letters) - len(merges) - len(special) - len(times)
    unused = [*(f"unused{n}" for n in range(count - 1)), ""]
    return [*letters, *merges, *unused, *(f"<|{name}|>" for name in special), *times]


def make_whisper(folder: Path, seed: int = 7, layers: int = 1) -> Path:
    """Write the model's folder, as CTranslate2's converter does."""
    require_package("ctranslate2", "whisper")
    from ctranslate2.specs import whisper_spec

    rng = np.random.default_rng(seed)
    vocabulary = tokens()
    spec = whisper_spec.WhisperSpec(layers, _HEADS, layers, _HEADS)
    _fill(spec, rng, len(vocabulary))
    spec.register_vocabulary(vocabulary)
    number = {token: i for i, token in enumerate(vocabulary)}
    spec.config.lang_ids = [number[f"<|{code}|>"] for code in CODES]
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], [number["<|endoftext|>"]]
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    return folder


def _fill(spec: object, rng: np.random.Generator, size: int) -> None:
    width, wide = _WIDTH, 4 * _WIDTH

    def drawn(*shape: int, scale: float = 0.3) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def norm(layer: object) -> None:
        layer.gamma, layer.beta = np.ones(width, np.float32), drawn(width, scale=0.05)

    def linear(layer: object, out: int, into: int) -> None:
        layer.weight, layer.bias = drawn(out, into), drawn(out, scale=0.05)

    def attention(layer: object, itself: bool) -> None:
        norm(layer.layer_norm)
        sizes = [3 * width, width] if itself else [width, 2 * width, width]
        for part, out in zip(layer.linear, sizes, strict=True):
            linear(part, out, width)

    def feed_forward(layer: object) -> None:
        norm(layer.layer_norm)
        linear(layer.linear_0, wide, width)
        linear(layer.linear_1, width, wide)

    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = drawn(width, BINS, 3, scale=0.1), drawn(width)
    encoder.conv2.weight, encoder.conv2.bias = drawn(width, width, 3, scale=0.1), drawn(width)
    encoder.position_encodings.encodings = drawn(_POSITIONS, width, scale=0.1)
    norm(encoder.layer_norm)
    for layer in encoder.layer:
        attention(layer.self_attention, itself=True)
        feed_forward(layer.ffn)
    decoder.embeddings.weight = drawn(size, width)
    decoder.position_encodings.encodings = drawn(448, width, scale=0.5)
    norm(decoder.layer_norm)
    decoder.projection.weight = drawn(size, width, scale=1.5)
    decoder.projection.bias = np.zeros(size, np.float32)
    decoder.projection.bias[:-1501] = -30  # words rather than bytes and what is unused
    decoder.projection.bias[256 : 256 + 4 + len(WORDS)] = 0
    decoder.projection.bias[-1501 - 6 - len(CODES) - 2] = 0
    decoder.projection.bias[-1501:] = -12  # or there are so many times that nothing else is ever said
    for layer in decoder.layer:
        attention(layer.self_attention, itself=True)
        attention(layer.attention, itself=False)
        feed_forward(layer.ffn)
