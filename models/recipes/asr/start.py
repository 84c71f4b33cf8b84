"""The tokenizer, and weights for another run to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from thalweg.models.recipes.asr.corpus.text import Sentences
from thalweg.models.recipes.asr.plan import Plan
from thalweg.models.recipes.asr.train import CHECKPOINT, TOKENIZER, Trainer
from thalweg.models.speech.fastconformer.deployed import convert, keep_weights
from thalweg.models.speech.loading import load_deployed


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


def write_model(trainer: Trainer, out: Path, *, int8: bool) -> None:
    """The deployed form, and beside it what training can start from again: float16 weights and the tokenizer."""
    convert(trainer.checkpoint(), out, int8=int8)
    keep_weights(trainer.checkpoint(), out)
    (out / TOKENIZER).write_bytes((trainer.folder / TOKENIZER).read_bytes())


def start_from(model: str, folder: Path, plan: Plan) -> Plan:
    """Put a checkpoint into `folder` that begins with the weights of a model, unless one is there.

    model: what `write_model` wrote, a folder or a name in the registry. Returns the plan without what only helps a
    network that knows nothing. Raises ModelError where it holds no weights, RuntimeError where the network of the plan
    is another one.
    """
    plan = replace(plan, aligned=0.0, lengthening=0.0, ctc_only=0.0)
    if (folder / CHECKPOINT).exists():
        return plan
    deployed = load_deployed(model)
    weights = {name: torch.from_numpy(value) for name, value in deployed.checkpoint().weights.items()}
    weights.pop("mel_filters", None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_bytes((deployed.folder / TOKENIZER).read_bytes())
    trainer = Trainer(folder, plan, 1.0)
    trainer.network.load_state_dict(weights)
    trainer.average = {name: value.detach().clone() for name, value in trainer.network.state_dict().items()}
    trainer.step = 1
    trainer.save()
    return plan
