"""The tokenizer, and weights for another run to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from thalweg.models.recipes.asr.plan import Plan
from thalweg.models.recipes.asr.text import Sentences
from thalweg.models.recipes.asr.train import CHECKPOINT, TOKENIZER, Trainer

_TOKENIZER_ENTRY = "tokenizer.model"


def make_tokenizer(folder: Path, words: Path | None, extra: Path | None, vocabulary: int) -> None:
    """A BPE tokenizer over the recipe's own sentences, unless one is there."""
    import sentencepiece

    if (folder / TOKENIZER).exists():
        return
    supply = Sentences(words, extra, seed=1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([supply.next() for _ in range(30_000)]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocabulary,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )


def save_start(trainer: Trainer, path: Path) -> None:
    """Write the averaged weights in half precision, and the tokenizer: what another run can start from."""
    weights = {name: value.cpu().numpy().astype(np.float16) for name, value in trainer.average.items()}
    tokenizer = np.frombuffer((trainer.folder / TOKENIZER).read_bytes(), np.uint8)
    np.savez(path, allow_pickle=False, **{_TOKENIZER_ENTRY: tokenizer}, **weights)


def start_from(path: Path, folder: Path, plan: Plan) -> Plan:
    """Put a checkpoint into `folder` that begins with the weights of `save_start`, unless one is there.

    Returns the plan without what only helps a network that knows nothing. Raises RuntimeError where the network of
    the plan is another one.
    """
    plan = replace(plan, aligned=0.0, lengthening=0.0, ctc_only=0.0)
    if (folder / CHECKPOINT).exists():
        return plan
    with np.load(path, allow_pickle=False) as start:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKENIZER).write_bytes(start[_TOKENIZER_ENTRY].tobytes())
        weights = {n: torch.from_numpy(start[n].astype(np.float32)) for n in start.files if n != _TOKENIZER_ENTRY}
    trainer = Trainer(folder, plan, 1.0)
    trainer.network.load_state_dict(weights)
    trainer.average = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
    trainer.step = 1
    trainer.save()
    return plan
