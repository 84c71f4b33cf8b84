"""Hybrid training for many look-aheads: loss = RNN-T + 0.3 CTC, another look-ahead for every batch (arXiv 2312.17279).

Everything that decides what comes next lies in one checkpoint that is replaced as a whole: weights, their running
average, optimiser, step, random states. A run that was killed, or that ended by `hours`, goes on where it was.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.models.fastconformer import FastConformer
from thalweg.models.fastconformer_config import SMALL, FastConformerConfig
from thalweg.models.mel import log_mel
from thalweg.models.nemo_archive import Checkpoint
from thalweg.models.recipes.asr.augment import augmented, masked
from thalweg.models.recipes.asr.data import Utterance, endless
from thalweg.models.recipes.asr.losses import rnnt_loss
from thalweg.models.recipes.asr.text import Sentences
from thalweg.models.tokens import sentencepiece_tokens

CHECKPOINT = "state.pt"
TOKENIZER = "tokenizer.model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. `ctc_steps`: the first steps use the CTC loss alone, which learns to listen much sooner."""

    vocabulary: int = 256
    batch_s: float = 240.0
    peak: float = 1.5e-3
    warmup: int = 2_000
    steps: int = 100_000
    ctc_steps: int = 5_000
    ctc_weight: float = 0.3
    dropout: float = 0.1
    average: float = 0.999
    save_every_s: float = 300.0
    seed: int = 0


def make_tokenizer(folder: Path, words: Path | None, vocabulary: int) -> None:
    """A BPE tokenizer over the recipe's own sentences, unless one is there."""
    import sentencepiece

    if (folder / TOKENIZER).exists():
        return
    supply = Sentences(words, None, seed=1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([supply.next() for _ in range(30_000)]),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocabulary,
        model_type="bpe",
        character_coverage=1.0,
        minloglevel=2,
    )


def batches(data: Path, plan: Plan, rng: random.Random) -> Iterator[list[Utterance]]:
    """Utterances of about the same length, `batch_s` seconds together."""
    pool: list[Utterance] = []
    for utterance in endless(data, rng):
        pool.append(utterance)
        if len(pool) < 400:
            continue
        pool.sort(key=lambda u: len(u.audio))
        while len(pool) > 200:
            start = rng.randrange(len(pool))
            longest = len(pool[start].audio) / 16_000 * 1.3
            count = max(1, int(plan.batch_s / longest))
            low = max(0, start - count + 1)
            yield pool[low : start + 1]
            del pool[low : start + 1]


class Trainer:
    """A network, its optimiser and where it stands."""

    def __init__(self, folder: Path, plan: Plan, config: FastConformerConfig = SMALL) -> None:
        import sentencepiece

        self.folder, self.plan = folder, plan
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / TOKENIZER))
        self.config = replace(config, vocabulary=self.tokenizer.vocab_size())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(plan.seed)
        self.network = FastConformer(self.config, plan.dropout).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=plan.peak, betas=(0.9, 0.98), weight_decay=1e-3
        )
        self.step = 0
        self.rng = random.Random(plan.seed)
        self.noise = np.random.default_rng(plan.seed)
        self.heard_s = 0.0
        if (folder / CHECKPOINT).exists():
            self._restore()

    def train(self, data: Path, *, hours: float, steps: int | None = None) -> None:
        """Go on until `hours` have passed or `steps` are done, saving now and then and at the end."""
        started = saved = time.monotonic()
        last = self.plan.steps if steps is None else self.step + steps
        losses: list[tuple[float, float]] = []
        self.network.train()
        for batch in batches(data, self.plan, self.rng):
            if self.step >= last or time.monotonic() - started > hours * 3600:
                break
            losses.append(self.learn(batch))
            if self.step % 50 == 0:
                ctc, rnnt = (float(np.mean(column)) for column in zip(*losses, strict=True))
                heard = f"heard {self.heard_s / 3600:.1f} h  {time.monotonic() - started:.0f} s"
                print(f"step {self.step}  ctc {ctc:.3f}  rnnt {rnnt:.3f}  {heard}", flush=True)
                losses = []
            if time.monotonic() - saved > self.plan.save_every_s:
                self.save()
                saved = time.monotonic()
        self.save()

    def learn(self, batch: list[Utterance]) -> tuple[float, float]:
        """One step; returns the two losses per token."""
        mel, frames, targets, lengths = self._prepare(batch)
        lookahead = self.rng.choice(self.config.lookaheads)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            encoded, encoded_frames = self.network.encode(mel, frames, [lookahead + 1])
            ctc_log_probs = self.network.ctc_log_probs(encoded)
            with_rnnt = self.step >= self.plan.ctc_steps
            logits = self.network.joint_logits(encoded, targets) if with_rnnt else None
        ctc = torch.nn.functional.ctc_loss(
            ctc_log_probs.float().transpose(0, 1),
            targets,
            encoded_frames,
            lengths,
            blank=self.config.vocabulary,
            zero_infinity=True,
        )
        loss = ctc
        if logits is not None:
            transducer = rnnt_loss(logits, targets, encoded_frames, lengths, self.config.vocabulary)
            loss = transducer + self.plan.ctc_weight * ctc
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.step += 1
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        if torch.isfinite(norm):
            self.optimiser.step()
        self._follow()
        self.heard_s += sum(len(utterance.audio) for utterance in batch) / 16_000
        return ctc.item(), transducer.item() if logits is not None else float("nan")

    def checkpoint(self) -> Checkpoint:
        """The averaged weights, as `convert` takes them."""
        weights = {name: value.float().cpu().numpy() for name, value in self.average.items()}
        return Checkpoint(self.config, sentencepiece_tokens((self.folder / TOKENIZER).read_bytes()), weights)

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "heard_s": self.heard_s,
            "rng": self.rng.getstate(),
            "noise": self.noise.bit_generator.state,
            "torch": torch.get_rng_state(),
        }
        part = self.folder / f"{CHECKPOINT}.part"
        torch.save(state, part)
        part.rename(self.folder / CHECKPOINT)

    def _restore(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.heard_s = state["step"], state["heard_s"]
        self.rng.setstate(state["rng"])
        self.noise.bit_generator.state = state["noise"]
        torch.set_rng_state(state["torch"].cpu())

    def _prepare(self, batch: list[Utterance]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mels = [masked(log_mel(augmented(u.audio, self.noise), self.config.mel), self.noise) for u in batch]
        tokens = [self.tokenizer.encode(u.text) for u in batch]
        frames, lengths = torch.tensor([len(m) for m in mels]), torch.tensor([len(t) for t in tokens])
        mel = torch.zeros(len(batch), int(frames.max()), self.config.mel.n_mels)
        targets = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        for i, (m, t) in enumerate(zip(mels, tokens, strict=True)):
            mel[i, : len(m)] = torch.from_numpy(m)
            targets[i, : len(t)] = torch.tensor(t)
        mel, frames, targets, lengths = (x.to(self.device) for x in (mel, frames, targets, lengths))
        return mel, frames, targets, lengths

    def _rate(self) -> float:
        """Up in a line, down in half a cosine."""
        if self.step < self.plan.warmup:
            return self.plan.peak * self.step / self.plan.warmup
        left = min(1.0, (self.step - self.plan.warmup) / max(1, self.plan.steps - self.plan.warmup))
        return self.plan.peak * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * left))))

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)
