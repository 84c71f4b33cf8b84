"""Sentences as vectors: all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) in numpy, weights as they are published.

A BERT of six layers, 384 wide, 12 heads; the mean over the words, at unit length. A short question takes about 8 ms on
one core, and no other library is needed for it. Read from top to bottom: word pieces, layers, mean.

The matrices of the layers are copied, 42 MB, as numpy multiplies them fastest: [in, out] in one piece, and the three of
attention side by side. With so few words that takes half of the time that the published layout does.
"""

from __future__ import annotations

import json
import math
import struct
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thalweg.models.errors import ModelError
from thalweg.models.store.sharing import Share
from thalweg.models.store.store import ModelStore

NAME = "all-minilm-l6-v2"
WIDTH = 384
HEADS = 12
LAYERS = 6
LONGEST = 128

Array = NDArray[np.float32]


def shared() -> Share[SentenceModel]:
    """The model of the store, fetched if it is not here, once for all of this process. Raises ModelError."""
    files = ModelStore().pull(NAME)
    return Share((NAME, *files), lambda: SentenceModel(*files))


class SentenceModel:
    """Embeds short English texts. Holds no state between calls."""

    def __init__(self, weights: Path, vocabulary: Path) -> None:
        self._w = _laid_out(_safetensors(weights))
        self._words = {word: i for i, word in enumerate(vocabulary.read_text(encoding="utf-8").split("\n"))}

    def embed(self, text: str) -> Array:
        """[384] float32 of unit length; nearness is the dot product."""
        w = self._w
        ids = self.pieces(text)
        x = w["embeddings.word_embeddings.weight"][ids]  # [words, 384]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            x = self._norm(x + self._attend(x, f"{name}.attention"), f"{name}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))  # [words, 1536]
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean = x.mean(0)  # [384]
        return np.asarray(mean / max(1e-9, float(np.linalg.norm(mean))), np.float32)

    def pieces(self, text: str) -> list[int]:
        """Word pieces by greedy longest match, between [CLS] and [SEP]; long texts are cut."""
        found: list[int] = []
        for word in _words(text):
            start, parts = 0, []
            while start < len(word):
                end = len(word)
                while end > start and ("##" if start else "") + word[start:end] not in self._words:
                    end -= 1
                if end == start:
                    parts = [self._words["[UNK]"]]
                    break
                parts.append(self._words[("##" if start else "") + word[start:end]])
                start = end
            found += parts
        return [self._words["[CLS]"], *found[: LONGEST - 2], self._words["[SEP]"]]

    def _attend(self, x: Array, name: str) -> Array:
        words = len(x)
        split = (words, 3, HEADS, WIDTH // HEADS)
        q, k, v = self._linear(x, f"{name}.self").reshape(split).transpose(1, 2, 0, 3)  # [heads, words, 32] each
        scores = q @ k.transpose(0, 2, 1) / np.float32(math.sqrt(WIDTH // HEADS))  # [heads, words, words]
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        return self._linear(mixed.transpose(1, 0, 2).reshape(words, WIDTH), f"{name}.output.dense")

    def _linear(self, x: Array, name: str) -> Array:
        return np.asarray(x @ self._w[f"{name}.weight"] + self._w[f"{name}.bias"], np.float32)

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scale = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(1e-12))
        return np.asarray(centred * scale * self._w[f"{name}.weight"] + self._w[f"{name}.bias"], np.float32)


def _laid_out(w: dict[str, Array]) -> dict[str, Array]:
    """The layers' matrices as [in, out], query, key and value in one; tables and norms as they are."""
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        heads = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        for part in ("weight", "bias"):
            w[f"{name}.attention.self.{part}"] = np.concatenate([w.pop(f"{head}.{part}") for head in heads])
        for part in ("attention.self", "attention.output.dense", "intermediate.dense", "output.dense"):
            w[f"{name}.{part}.weight"] = np.ascontiguousarray(w[f"{name}.{part}.weight"].T)
    return w


def _gelu(x: Array) -> Array:
    """x · Φ(x), with Φ by the polynomial 26.2.17 of Abramowitz and Stegun, which errs by less than 1e-7."""
    t = 1 / (1 + 0.2316419 * np.abs(x))
    tail = np.float32(1 / math.sqrt(2 * math.pi)) * np.exp(-(x * x) / 2)
    tail *= t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    return np.asarray(x * np.where(x >= 0, 1 - tail, tail), np.float32)


def _words(text: str) -> list[str]:
    """Lower case without accents, cut at blanks and around every mark, as BERT's uncased tokeniser does."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced = []
    for character in plain:
        kind = unicodedata.category(character)
        if kind == "Mn" or (kind.startswith("C") and character not in "\t\n\r"):
            continue
        marked = kind.startswith(("P", "S")) or "\u4e00" <= character <= "\u9fff"
        spaced.append(f" {character} " if marked and (not kind.startswith("S") or ord(character) < 128) else character)
    return "".join(spaced).split()


def _safetensors(path: Path) -> dict[str, Array]:
    """The float32 tensors of a safetensors file, mapped from disk. Raises ModelError where it is not one."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        body = np.memmap(path, np.uint8, "r", 8 + length)
        return {
            name: body[entry["data_offsets"][0] : entry["data_offsets"][1]].view("<f4").reshape(entry["shape"])
            for name, entry in header.items()
            if isinstance(entry, dict) and entry.get("dtype") == "F32"
        }
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ModelError(f"{path} is not a safetensors file: {error!r}") from None
