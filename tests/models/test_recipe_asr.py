"""The training recipe, on a grain of data: everything runs, the loss is right, training goes on where it was."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require, require_package
from thalweg.models.recipes.asr import augment, data, text, voices
from thalweg.models.recipes.asr.evaluate import word_errors

Floats = NDArray[np.float32]


def tone(text: str, rng: random.Random) -> Floats:
    """Speaks every letter as a tone of its own: a voice that needs no program."""
    t = np.arange(1600) / 16_000
    letters = [np.sin(2 * np.pi * (200 + 100 * (ord(c) - 96)) * t) * 0.3 for c in text if c != " "]
    return np.concatenate(letters).astype(np.float32)


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [voices.Voice("tone a", False, tone), voices.Voice("tone b", True, tone)]
    monkeypatch.setattr(data, "voices", lambda piper: both)


def test_training_and_test_share_no_sentence_and_no_voice() -> None:
    train, test = (text.Sentences(None, None, seed=3, test=split) for split in (False, True))
    assert not {train.next() for _ in range(300)} & {test.next() for _ in range(100)}


def test_voices_for_testing_are_never_chosen_for_training_nor_drown_each_other() -> None:
    def voice(name: str, test: bool) -> voices.Voice:
        return voices.Voice(name, test, tone)

    everyone = [voice(f"espeak {n}", n < 2) for n in range(40)] + [voice("flite a", True), voice("flite b", False)]
    for split in (False, True):
        chosen = [voices.choose(everyone, random.Random(seed), split) for seed in range(200)]
        assert {v.test for v in chosen} == {split}
        assert 60 < sum(v.name.startswith("flite") for v in chosen) < 140


def test_sentences_are_plain_words() -> None:
    supply = text.Sentences(None, None, seed=0)
    assert all(set(supply.next()) <= set("abcdefghijklmnopqrstuvwxyz' ") for _ in range(200))
    assert text.normalise("It’s 42, isn't it? 999!") == "it's forty two isn't it nine hundred ninety nine"


@pytest.mark.parametrize("engine", ["espeak-ng", "flite"])
def test_installed_engines_speak(engine: str) -> None:
    require(shutil.which(engine), f"apt-get install {engine}")
    voice = next(v for v in voices.voices() if v.name.startswith(engine.removesuffix("-ng")))
    audio = voice.speak("what is the capital of france", random.Random(0))
    assert audio.dtype == np.float32
    assert 0.8 * 16_000 < len(audio) < 4 * 16_000
    assert np.abs(audio).max() > 0.05


def test_a_shard_is_the_same_every_time_and_made_once(tmp_path: Path, tones: None) -> None:
    source = data.Source(test=False)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        data.make_shard(tmp_path / folder, 4, source, per_shard=3)
    first, second = (data.read_shard(data.shards(tmp_path / folder)[0]) for folder in ("a", "b"))
    assert [(u.text, u.voice) for u in first] == [(u.text, u.voice) for u in second]
    assert all(np.array_equal(x.audio, y.audio) for x, y in zip(first, second, strict=True))
    assert len(first) == 3 and all(u.voice == "tone a" for u in first)


def test_every_augmentation_leaves_sound_that_is_fit_to_hear() -> None:
    audio = tone("hello world", random.Random(0))
    for seed in range(30):
        changed = augment.augmented(audio, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert np.isfinite(changed).all() and np.abs(changed).max() <= 1
        assert 0.8 * len(audio) < len(changed) < 1.3 * len(audio) + 16_000
        assert float(np.sqrt(np.mean(changed**2))) > 1e-3


def test_noise_has_the_power_it_is_asked_for() -> None:
    audio = tone("hello world", random.Random(0))
    noise = augment.noisy(audio, 10.0, np.random.default_rng(0)) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)


def test_resampling_keeps_a_tone_where_it_was() -> None:
    t = np.arange(22_050) / 22_050
    out = voices.resampled(np.sin(2 * np.pi * 440 * t).astype(np.float32), 22_050)
    assert len(out) == 16_000
    assert np.abs(out - np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000))[1000:-1000].max() < 0.05


def test_word_errors_count_all_three_kinds() -> None:
    assert word_errors("a b c d", "a x c d e") == (2, 4)
    assert word_errors("a b", "") == (2, 2)
    assert word_errors("", "a") == (1, 0)


def test_the_rnnt_loss_is_the_sum_over_all_alignments() -> None:
    require_package("torch", "train")
    import torch

    from thalweg.models.recipes.asr.losses import rnnt_loss

    logits = torch.randn(2, 4, 3, 5, generator=torch.manual_seed(0), dtype=torch.float64).requires_grad_()
    targets, frames, lengths = torch.tensor([[1, 2], [3, 0]]), torch.tensor([4, 3]), torch.tensor([2, 1])
    log_probs = logits.log_softmax(-1)
    expected = torch.tensor(0.0, dtype=torch.float64)
    for i in range(2):
        total = torch.tensor(-torch.inf, dtype=torch.float64)
        moves = [0] * int(frames[i] - 1) + [1] * int(lengths[i])
        for order in set(itertools.permutations(moves)):
            t = u = 0
            score = torch.tensor(0.0, dtype=torch.float64)
            for move in order:
                score = score + log_probs[i, t, u, targets[i, u] if move else 4]
                t, u = (t, u + 1) if move else (t + 1, u)
            total = torch.logaddexp(total, score + log_probs[i, t, u, 4])
        expected = expected - total / lengths[i] / 2
    found = rnnt_loss(logits, targets, frames, lengths, blank=4)
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(found, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    assert (gradient - wanted).abs().max() < 1e-5


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, tones: None) -> None:
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch

    from tests.models.archives import TINY
    from thalweg.models.recipes.asr import train

    torch.set_num_threads(1)
    (tmp_path / "train").mkdir()
    for number in range(2):
        data.make_shard(tmp_path / "train", number, data.Source(test=False), per_shard=210)
    train.make_tokenizer(tmp_path, None, 64)
    plan = train.Plan(vocabulary=64, batch_s=10, warmup=2, steps=50, ctc_steps=1)
    first = train.Trainer(tmp_path, plan, TINY)
    first.train(tmp_path / "train", hours=1, steps=2)
    second = train.Trainer(tmp_path, plan, TINY)
    assert second.step == 2
    assert all(torch.equal(a, b) for a, b in zip(first.average.values(), second.average.values(), strict=True))
    before = second.optimiser.state_dict()["state"]
    assert before and all(torch.isfinite(s["exp_avg"]).all() for s in before.values())
    second.train(tmp_path / "train", hours=1, steps=1)
    assert second.step == 3
    assert second.rng.getstate() != first.rng.getstate()


def test_what_was_trained_can_be_exported_and_evaluated(tmp_path: Path, tones: None) -> None:
    for package, extra in (("torch", "train"), ("sentencepiece", "train"), ("onnx", "convert")):
        require_package(package, extra)
    from tests.models.archives import TINY
    from thalweg.models.deployed import convert
    from thalweg.models.recipes.asr import train
    from thalweg.models.recipes.asr.evaluate import table

    train.make_tokenizer(tmp_path, None, 64)
    (tmp_path / "test").mkdir()
    data.make_shard(tmp_path / "test", 0, data.Source(test=True), per_shard=2)
    trainer = train.Trainer(tmp_path, train.Plan(vocabulary=64), TINY)
    deployed = convert(trainer.checkpoint(), tmp_path / "model", int8=True)
    printed = table(deployed, tmp_path / "test", None, most=1)
    assert "rnnt 80 ms" in printed and "ctc adaptive" in printed and "buffered" in printed


def test_a_network_learns_to_tell_two_words_apart(tmp_path: Path) -> None:
    """The whole way, from sound to text: four steps would prove nothing, sixty of a tiny network do."""
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch

    from tests.models.archives import TINY
    from thalweg.models.recipes.asr import train

    torch.set_num_threads(1)
    train.make_tokenizer(tmp_path, None, 64)
    trainer = train.Trainer(tmp_path, train.Plan(vocabulary=64, warmup=5, ctc_steps=1_000, peak=3e-3), TINY)
    said = ["open", "read"]
    batch = [data.Utterance(tone(word, random.Random(0)), word, "tone a") for word in said] * 4
    losses = [trainer.learn(batch)[0] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
