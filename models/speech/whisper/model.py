"""A Whisper model on CTranslate2: found by name or folder, looked at before it is loaded; features in, tokens out."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.models.errors import ModelError
from thalweg.models.speech.whisper.mel import Floats
from thalweg.models.speech.whisper.vocabulary import Vocabulary
from thalweg.models.store.bounded import read_json_at_most
from thalweg.models.store.store import ModelStore

WEIGHTS = "model.bin"
_SPECIFICATION = "WhisperSpec"


def whisper_models(store: ModelStore | None = None) -> tuple[str, ...]:
    """The names of the registry that `find_whisper` takes."""
    models = (store or ModelStore()).registry.models
    return tuple(name for name, model in models.items() if any(file.name == WEIGHTS for file in model.files))


def find_whisper(model: str, store: ModelStore | None = None) -> Path:
    """The folder of a model: by a name of the registry (fetched where it is not here), or by its own path.

    Raises ModelError.
    """
    store = store or ModelStore()
    if model in whisper_models(store):
        return store.folder(model)
    folder = Path(model).expanduser()
    if not folder.is_dir():
        names = ", ".join(whisper_models(store))
        what = "is a file" if folder.exists() else "is not here"
        raise ModelError(f"Whisper model {model!r} {what}: name one of {names}, or a folder that CTranslate2 converted")
    return folder


class WhisperModel:
    """One loaded model. Its methods may be called from any thread; `workers` of them compute at the same time.

    `compute`: `auto` is int8 where the processor can, float16 on a GPU. Raises ModelError where the folder is not that
    of a whole Whisper model, or this machine cannot compute so.
    """

    def __init__(
        self, folder: Path, *, device: str = "cpu", compute: str = "auto", threads: int = 1, workers: int = 1
    ) -> None:
        try:
            import ctranslate2
        except ImportError:
            raise ModelError("Whisper needs CTranslate2: pip install 'thalweg[whisper]'") from None
        self._check(folder)
        self.vocabulary = Vocabulary.load(folder)
        self.compute = self._compute(ctranslate2, folder, device, compute)
        self._storage = ctranslate2.StorageView
        try:
            self._model: Any = ctranslate2.models.Whisper(  # Any: it has no types
                str(folder), device=device, compute_type=self.compute, intra_threads=threads, inter_threads=workers
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{folder / WEIGHTS} cannot be loaded: {error}") from None
        self.folder = folder
        self.bins = int(self._model.n_mels)
        self.multilingual = bool(self._model.is_multilingual)

    @staticmethod
    def _check(folder: Path) -> None:
        for name in (WEIGHTS, "config.json"):
            if not (folder / name).is_file():
                raise ModelError(f"{folder} holds no {name}: it is not a whole model that CTranslate2 converted")
        try:
            read_json_at_most(folder / "config.json")
        except (OSError, ValueError) as error:
            raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
        found = _specification(folder / WEIGHTS)
        if found != _SPECIFICATION:
            what = f"a {found}" if found else "no model of CTranslate2"
            raise ModelError(
                f"{folder / WEIGHTS} is {what}, expected a {_SPECIFICATION}: this stage takes Whisper only"
            )

    @staticmethod
    def _compute(ctranslate2: Any, folder: Path, device: str, wanted: str) -> str:
        if device not in ("cpu", "cuda"):
            raise ModelError(f"device {device!r}, expected cpu or cuda")
        try:
            able = ctranslate2.get_supported_compute_types(device)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"this machine has no {device} that CTranslate2 can use: {error}") from None
        if wanted == "auto":
            first = ("float16", "int8_float16", "float32") if device == "cuda" else ("int8", "int8_float32", "float32")
            return next((each for each in first if each in able), "default")
        if wanted not in able:
            raise ModelError(f"{folder.name} as {wanted}: this {device} can {', '.join(sorted(able))}")
        return wanted

    def encode(self, features: Sequence[Floats]) -> Any:
        """The encoder's output of [bins, frames] each, all of one length."""
        return self._model.encode(self._storage.from_array(np.ascontiguousarray(np.stack(features))))

    def generate(
        self, encoded: Any, prompts: Sequence[Sequence[int]], most: int, beam: int, no_repeat: int = 0
    ) -> list[tuple[list[int], float, float]]:
        """Of each: its tokens with those of the prompt behind its task, their mean log-probability, and the probability
        of no speech. `most`: tokens of prompt and text. All prompts have as many tokens of earlier text.
        """
        results = self._model.generate(
            encoded,
            [list(prompt) for prompt in prompts],
            beam_size=beam,
            max_length=most,
            no_repeat_ngram_size=no_repeat,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [(each.sequences_ids[0], float(each.scores[0]), float(each.no_speech_prob)) for each in results]

    def align(
        self, encoded: Any, start: Sequence[int], tokens: Sequence[Sequence[int]], frames: Sequence[int]
    ) -> list[tuple[list[tuple[int, int]], list[float]]]:
        """When each text token is heard, from cross-attention: (token, encoder frame of 20 ms) pairs; and how probable
        each is. `frames`: mel frames of each that are not padding.
        """
        given = [list(each) for each in tokens]
        results = self._model.align(encoded, list(start), given, list(frames))
        return [(each.alignments, each.text_token_probs) for each in results]

    def languages(self, encoded: Any) -> list[dict[str, float]]:
        """How probable each language is, of each."""
        found = self._model.detect_language(encoded)
        return [{token[2:-2]: float(probability) for token, probability in each} for each in found]


def _specification(weights: Path) -> str:
    """What the head of a CTranslate2 file says it is; empty where it is none."""
    with weights.open("rb") as file:
        head = file.read(6)
        if len(head) < 6:
            return ""
        version, length = struct.unpack("<IH", head)
        if not 1 <= version <= 100 or not 1 < length < 64:
            return ""
        return file.read(length).rstrip(b"\0").decode("ascii", "replace")
