"""Hybrid training for many look-aheads: loss = RNN-T + 0.3 CTC, another look-ahead for every batch (arXiv 2312.17279).

Everything that decides what comes next lies in one checkpoint that is replaced as a whole: weights, their running
average, optimiser, time worked, random states. A run that was killed goes on where it was. The schedule is laid over
the hours of work it is given, not over steps, and counts only what this process really worked: on a machine that is
shared, or stopped now and then, it still ends where it should.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from thalweg.models.recipes.asr.beginning import even_out
from thalweg.models.recipes.asr.corpus.augment import augmented, masked
from thalweg.models.recipes.asr.corpus.batches import Features, UtteranceFeatures, batches
from thalweg.models.recipes.asr.corpus.text import pronunciations
from thalweg.models.recipes.asr.losses import aligned_labels, rnnt_loss
from thalweg.models.recipes.asr.optimiser import Optimiser
from thalweg.models.recipes.asr.plan import Plan
from thalweg.models.recipes.asr.together import mean_gradients, summed
from thalweg.models.speech.decoding.tokens import sentencepiece_tokens
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.nemo_archive import NemoCheckpoint
from thalweg.models.speech.fastconformer.network import FastConformer

CHECKPOINT = "state.pt"
TOKENIZER = "tokenizer.model"
_REPORT_EVERY = 100


class Trainer:
    """A network, its optimiser and where it stands.

    hours: processor or graphics time the whole run shall take. words: a pronouncing dictionary for the beginning.
    In a group of processes (`run`) each learns from batches of its own and all take the mean of their gradients.
    """

    def __init__(self, folder: Path, plan: Plan, hours: float, words: Path | None = None) -> None:
        import sentencepiece

        self.folder, self.plan, self.hours = folder, plan, hours
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(folder / TOKENIZER))
        self.config = replace(plan.network, vocabulary=self.tokenizer.vocab_size())
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(plan.seed)
        self.network = FastConformer(self.config, plan.dropout).to(self.device)
        self.network.encoder.pre_encode.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.phones = pronunciations(words) if words else {}
        self.numbers = {phone: n for n, phone in enumerate(sorted({p for of in self.phones.values() for p in of}), 1)}
        self.hears_phones = torch.nn.Linear(self.config.width, len(self.numbers) + 1).to(self.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = Optimiser(self.network, self.hears_phones, plan.peak)
        self.step, self.heard_s, self.worked_s = 0, 0.0, 0.0
        self.bfloat16 = self.device.type != "cpu" or _has_bfloat16()
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.rng = random.Random(plan.seed)
        self.noise = np.random.default_rng(plan.seed)
        if (folder / CHECKPOINT).exists():
            self._restore()
        if self.rank:
            self.noise = np.random.default_rng((self.rank, self.step))

    @property
    def done(self) -> float:
        """The share of the run that lies behind, 0…1."""
        return min(1.0, self.worked_s / (self.hours * 3600))

    def train(self, data: Path, *, steps: int | None = None) -> None:
        """Go on to the end of the run, or for so many steps, saving now and then and at the end."""
        last = None if steps is None else self.step + steps
        saved, seen = time.monotonic(), self._clock()
        losses: list[tuple[float, float]] = []
        self.network.train()
        features = Features(data, self.config.mel)
        if self.step == 0:
            self._begin(features.read())
        processes = dist.get_world_size() if dist.is_initialized() else 1

        def longest_s() -> float:
            return self.plan.longest_s(self.done)

        for batch in batches(features, self.plan.batch_s, longest_s, self.rng, self.rank, processes):
            if self.done >= 1 or self.step == last:
                break
            losses.append(self.learn(batch))
            now = self._clock()
            heard_s = sum(heard.seconds for heard in batch)
            worked_s, heard_s = summed(torch.tensor([now - seen, heard_s], dtype=torch.float64)).tolist()
            self.worked_s, self.heard_s, seen = self.worked_s + worked_s, self.heard_s + heard_s, now
            if self.rank:
                continue
            if self.step % _REPORT_EVERY == 0:
                ctc, rnnt = (float(np.mean(column)) for column in zip(*losses, strict=True))
                print(
                    f"{100 * self.done:.1f} %  step {self.step}  ctc {ctc:.3f}  rnnt {rnnt:.3f}  "
                    f"heard {self.heard_s / 3600:.1f} h in {self.worked_s / 60:.1f} min of work",
                    flush=True,
                )
                losses = []
            if time.monotonic() - saved > self.plan.save_every_s:
                self.save()
                saved = time.monotonic()
        if not self.rank:
            self.save()

    def learn(self, batch: list[UtteranceFeatures]) -> tuple[float, float]:
        """One step; returns the two losses, per token and per utterance."""
        mel, frames, targets, lengths, labels = self._prepare(batch)
        lookahead = self.rng.choice(self.config.lookaheads)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            encoded, encoded_frames = self.network.encode(mel, frames, [lookahead + 1])
            ctc_log_probs = self.network.ctc_log_probs(encoded).float()
            with_rnnt = self.config.rnnt and self.done >= self.plan.ctc_only
            logits = self.network.joint_logits(encoded, targets) if with_rnnt else None
        blank = self.config.vocabulary
        ctc = torch.nn.functional.ctc_loss(
            ctc_log_probs.transpose(0, 1), targets, encoded_frames, lengths, blank=blank, zero_infinity=True
        )
        loss = ctc
        if logits is not None:
            transducer = rnnt_loss(logits, targets, encoded_frames, lengths, blank)
            loss = transducer + self.plan.ctc_weight * ctc
        if self.done < self.plan.aligned:
            heard_phones = self.hears_phones(encoded.float()).flatten(0, 1)
            labels = labels[:, : encoded.shape[1]].flatten()
            phones = torch.nn.functional.cross_entropy(heard_phones, labels, ignore_index=-1)
            loss = loss.lerp(phones, 1 - self.done / self.plan.aligned)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        mean_gradients(self.network)
        mean_gradients(self.hears_phones)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.step += 1
        if torch.isfinite(norm):
            self.optimiser.step(self.plan.rate(self.done))
        self._follow()
        return ctc.item(), transducer.item() if logits is not None else float("nan")

    def checkpoint(self) -> NemoCheckpoint:
        """The averaged weights, as `convert` takes them."""
        weights = {name: value.float().cpu().numpy() for name, value in self.average.items()}
        return NemoCheckpoint(self.config, sentencepiece_tokens((self.folder / TOKENIZER).read_bytes()), weights)

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {
            "network": self.network.state_dict(),
            "hears_phones": self.hears_phones.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "heard_s": self.heard_s,
            "worked_s": self.worked_s,
            "rng": self.rng.getstate(),
            "noise": self.noise.bit_generator.state,
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }
        part = self.folder / f"{CHECKPOINT}.part"
        torch.save(state, part)
        part.rename(self.folder / CHECKPOINT)

    def _restore(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        if state["hears_phones"]["bias"].shape == self.hears_phones.bias.shape:
            self.hears_phones.load_state_dict(state["hears_phones"])
        self.average = state["average"]
        if isinstance(state["optimiser"], list):  # else AdamW's alone, of a run begun before there was Muon
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.heard_s, self.worked_s = state["step"], state["heard_s"], state["worked_s"]
        self.rng.setstate(state["rng"])
        self.noise.bit_generator.state = state["noise"]
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda" and state.get("cuda") is not None:
            torch.cuda.set_rng_state(state["cuda"].cpu())

    def _begin(self, heard: list[UtteranceFeatures]) -> None:
        long = sorted(heard, key=lambda one: one.seconds)[-32:]
        cut = min(len(one.mel) for one in long)
        mel = np.stack([augmented(one.mel.astype(np.float32), self.noise)[0][: cut // 2] for one in long])
        even_out(self.network, torch.from_numpy(mel).to(self.device))
        if dist.is_initialized():
            for parameter in self.network.parameters():
                dist.broadcast(parameter.data, 0)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _clock(self) -> float:
        """Seconds worked: of all threads on a processor, of the wall clock on a graphics processor."""
        return time.process_time() if self.device.type == "cpu" else time.monotonic()

    def _prepare(self, batch: list[UtteranceFeatures]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """[B, T, mel] features and [B] frames of them; [B, U] tokens and [B] how many; [B, T'] the token of a frame."""
        heard = [self._changed(one.mel.astype(np.float32)) for one in batch]
        tokens = [self.tokenizer.encode(one.text) for one in batch]
        frames, lengths = torch.tensor([len(m) for m, _ in heard]), torch.tensor([len(t) for t in tokens])
        mel = torch.zeros(len(batch), int(frames.max()), self.config.mel.n_mels)
        targets = torch.zeros(len(batch), int(lengths.max()), dtype=torch.long)
        labels = torch.full((len(batch), mel.shape[1] // SUBSAMPLING + 2), -1)
        for i, (one, (m, moved), t) in enumerate(zip(batch, heard, tokens, strict=True)):
            mel[i, : len(m)] = torch.from_numpy(masked(m, self.noise))
            targets[i, : len(t)] = torch.tensor(t)
            words = one.text.split()
            if one.spans and self.done < self.plan.aligned and all(word in self.phones for word in words):
                spans = [(moved(begin) // SUBSAMPLING + 1, moved(end) // SUBSAMPLING + 1) for begin, end in one.spans]
                phones = [[self.numbers[p] for p in self.phones[word]] for word in words]
                row = aligned_labels(phones, spans, len(m) // SUBSAMPLING + 1, 0)
                labels[i, : len(row)] = torch.tensor(row)
        mel, frames, targets, lengths, labels = (x.to(self.device) for x in (mel, frames, targets, lengths, labels))
        return mel, frames, targets, lengths, labels

    def _changed(self, mel: NDArray[np.float32]) -> tuple[NDArray[np.float32], Callable[[int], int]]:
        """Augmented, in the beginning only some of it: what is always the same is learned sooner."""
        if self.noise.random() * self.plan.aligned < self.done:
            return augmented(mel, self.noise)
        return mel, lambda frame: frame

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.plan.average, (1 + self.step) / (10 + self.step))
        now = self.network.state_dict()
        names = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[name] for name in names], [now[name] for name in names], 1 - keep)
        for name in now.keys() - set(names):
            self.average[name].copy_(now[name])


def run(rank: int, processes: int, folder: Path, plan: Plan, hours: float, words: Path | None) -> None:
    """Train, as one of several processes where there are more; they meet through a file in `folder`."""
    if processes > 1:
        torch.set_num_threads(1)
        meeting = (folder / f".meeting-{os.getppid()}").absolute()
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes)
    trainer = Trainer(folder, plan, hours, words)
    if not rank:
        print(f"on {trainer.device}, {100 * trainer.done:.1f} % of {hours:g} h lie behind", flush=True)
    trainer.train(folder / "train")
    if processes > 1:
        dist.destroy_process_group()


def _has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; one that does not is faster with float32."""
    try:
        return "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
