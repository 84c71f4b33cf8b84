"""The training recipe, on a grain of data: everything runs, the loss is right, training goes on where it was."""

from __future__ import annotations

import itertools
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require, require_package
from thalweg.models.recipes.asr.corpus import augment, batches, data, text, voices
from thalweg.models.recipes.asr.plan import Plan
from thalweg.models.speech.mel import MelConfig, log_mel

pytestmark = pytest.mark.real

Floats = NDArray[np.float32]


def tone(text: str, rng: random.Random) -> Floats:
    """Speaks every letter as a tone of its own: a voice that needs no program."""
    t = np.arange(1600) / 16_000
    letters = [np.sin(2 * np.pi * (200 + 100 * (ord(c) - 96)) * t) * 0.3 for c in text if c != " "]
    return np.concatenate(letters).astype(np.float32)


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [voices.TrainingVoice("tone a", False, tone), voices.TrainingVoice("tone b", True, tone)]
    monkeypatch.setattr(data, "voices", lambda piper: both)


def test_training_and_test_share_no_sentence_and_no_voice() -> None:
    train, test = (text.Sentences(None, None, seed=3, test=split) for split in (False, True))
    assert not {train.next() for _ in range(300)} & {test.next() for _ in range(100)}


def test_voices_for_testing_are_never_chosen_for_training_nor_drown_each_other() -> None:
    def voice(name: str, test: bool) -> voices.TrainingVoice:
        return voices.TrainingVoice(name, test, tone)

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


def test_every_augmentation_leaves_features_as_a_front_end_makes_them_and_says_where_a_frame_went() -> None:
    mel = log_mel(np.pad(tone("hello world", random.Random(0)), (4_800, 8_000)), MelConfig())
    level = mel.mean(axis=1)
    for seed in range(30):
        changed, moved = augment.augmented(mel, np.random.default_rng(seed))
        assert changed.dtype == np.float32 and changed.shape[1] == mel.shape[1]
        assert np.isfinite(changed).all() and changed.min() >= -16.7
        assert 0.8 * len(mel) < len(changed) < 1.25 * len(mel) + 100
        begin, end = moved(30), moved(130)
        assert 100 / 1.18 - 2 < end - begin < 100 / 0.85 + 2
        assert changed[begin:end].mean() > changed[:begin].mean(), "speech lies where it is said to"
    assert level[30:130].mean() > level[:29].mean()


def test_a_faster_tempo_and_a_longer_tract_move_a_tone_where_they_should() -> None:
    mel = np.full((200, 80), -10, np.float32)
    mel[100, 40] = 0
    peak = np.unravel_index(augment.warped(mel, 2.0, 0.8).argmax(), (100, 80))
    assert peak == (50, 32)


def test_no_tempo_reads_behind_the_end() -> None:
    mel = np.zeros((260, 4), np.float32)
    tempo = 259 / 250 * (1 - 1e-9)  # its 251st frame lies before the last one by less than float32 can tell
    assert len(augment.warped(mel, tempo, 1.0)) == 251


def test_noise_on_features_has_the_power_it_is_asked_for() -> None:
    power = np.exp(log_mel(tone("hello world", random.Random(0)), MelConfig()))
    noise = augment.with_noise(power, 10.0, np.random.default_rng(0)) - power
    assert 10 * np.log10(power.mean() / noise.mean()) == pytest.approx(10, abs=0.1)


def test_words_share_their_time_among_what_they_are_made_of() -> None:
    require_package("torch", "train")
    from thalweg.models.recipes.asr.losses import aligned_labels

    assert aligned_labels([[7], [8, 9]], [(1, 3), (5, 9)], 10, 0) == [0, 7, 7, 0, 0, 8, 8, 9, 9, 0]
    assert aligned_labels([[7, 8]], [(0, 8)], 6, 0) == [7, 7, 7, 7, 8, 8], "speech to the very end"


def test_a_beginning_gives_every_channel_its_say() -> None:
    require_package("torch", "train")
    import torch

    from tests.models.speech.archives import TINY
    from thalweg.models.recipes.asr.beginning import even_out
    from thalweg.models.speech.fastconformer.network import FastConformer

    network = FastConformer(TINY, 0.0)
    mel = torch.randn(8, 200, 80, generator=torch.manual_seed(0)) * 3 - 10
    before = network.encoder.pre_encode

    def deviation() -> tuple[float, float]:
        with torch.no_grad():
            out = before(mel, torch.full((8,), 200))[0][:, 2:-2].flatten(0, 1)
        return float(out.std(0).mean()), float(out.mean(0).abs().mean())

    assert deviation()[0] < 0.2
    even_out(network, mel)
    spread, offset = deviation()
    assert spread == pytest.approx(1, abs=0.1) and offset < 0.2


def test_the_aligner_finds_words_where_they_are() -> None:
    require_package("pocketsphinx", "sphinx")
    from thalweg.models.recipes.asr.corpus.align import Aligner

    require(shutil.which("flite"), "apt-get install flite")
    said = "what is the capital of france"
    voice = next(v for v in voices.voices() if v.name == "flite slt")
    quiet = np.zeros(8_000, np.float32)
    spans = Aligner().spans(np.concatenate([quiet, voice.speak(said, random.Random(0)), quiet]), said)
    assert len(spans) == 6
    assert all(begin < end for begin, end in spans) and spans == sorted(spans)
    assert 45 <= spans[0][0] <= 80, "after the silence"
    assert spans[3][1] - spans[3][0] > spans[2][1] - spans[2][0], "capital is longer than the"
    assert Aligner().spans(quiet, "xyzzyx plugh") == [], "words nobody knows"


def test_a_dictionary_says_how_words_are_pronounced(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("THE DH AH0\nthe DH IY1\ncat K AE1 T\n")
    assert text.pronunciations(tmp_path / "words") == {"the": ["dh", "ah"], "cat": ["k", "ae", "t"]}


def test_batches_hold_what_fits_and_begin_with_short_ones(tmp_path: Path, tones: None) -> None:
    data.make_shard(tmp_path, 0, data.Source(test=False), per_shard=40)
    features = batches.Features(tmp_path, MelConfig())
    drawn = batches.batches(features, 6.0, lambda: 2.5, random.Random(0))
    for batch in itertools.islice(drawn, 20):
        assert all(heard.seconds <= 2.5 for heard in batch)
        assert sum(heard.seconds for heard in batch) <= 6.0
    data.make_shard(tmp_path, 1, data.Source(test=False), per_shard=3)
    assert len(features.read()) == 43, "a shard that has come since"
    with pytest.raises(FileNotFoundError, match="run `data` first"):
        batches.Features(tmp_path / "nothing", MelConfig()).read()


def test_a_run_goes_on_with_another_dictionary_and_from_an_older_checkpoint(tmp_path: Path, tones: None) -> None:
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch

    from thalweg.models.recipes.asr import start, train

    (tmp_path / "train").mkdir()
    data.make_shard(tmp_path / "train", 0, data.Source(test=False), per_shard=30)
    start.make_tokenizer(tmp_path, None, None, 64)
    train.Trainer(tmp_path, tiny(ctc_only=0.0), hours=1).train(tmp_path / "train", steps=2)
    (tmp_path / "words").write_text("the DH AH0\n\ncat K AE1 T\n")
    with_words = train.Trainer(tmp_path, tiny(ctc_only=0.0), hours=1, words=tmp_path / "words")
    with_words.train(tmp_path / "train", steps=1)
    state = torch.load(tmp_path / train.CHECKPOINT, weights_only=True)
    torch.save(state | {"optimiser": state["optimiser"][1]}, tmp_path / train.CHECKPOINT)
    older = train.Trainer(tmp_path, tiny(ctc_only=0.0), hours=1)
    assert older.step == 3
    older.train(tmp_path / "train", steps=1)


def test_processes_get_batches_of_their_own_and_equal_length(tmp_path: Path, tones: None) -> None:
    data.make_shard(tmp_path, 0, data.Source(test=False), per_shard=40)
    features = batches.Features(tmp_path, MelConfig())
    of_each = [batches.batches(features, 6.0, lambda: 20.0, random.Random(0), rank, 2) for rank in range(2)]
    for left, right in itertools.islice(zip(*of_each, strict=True), 20):
        assert not {id(heard) for heard in left} & {id(heard) for heard in right}
        longest = [max(heard.seconds for heard in batch) for batch in (left, right)]
        assert max(longest) < 1.5 * min(longest)


def test_another_seed_makes_other_shards_of_the_same_split(tmp_path: Path, tones: None) -> None:
    said = []
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        data.make_shard(tmp_path / name, 0, data.Source(test=False, seed=seed), per_shard=5)
        said.append([utterance.text for utterance in data.read_shard(data.shards(tmp_path / name)[0])])
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_wordnets_examples_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "data.verb").write_text(
        '01 29 v 01 breathe 0 001 @ 01 v 0000 | draw air in; "I can breathe better"; "born in 1944"; "air"\n'
    )
    assert text.wordnet_examples(tmp_path) == ["i can breathe better"]
    with pytest.raises(FileNotFoundError, match="wordnet-base"):
        text.wordnet_examples(tmp_path / "nothing")


def test_noise_has_the_power_it_is_asked_for() -> None:
    audio = tone("hello world", random.Random(0))
    noise = augment.noisy(audio, 10.0, np.random.default_rng(0)) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.1)


def test_resampling_keeps_a_tone_where_it_was() -> None:
    t = np.arange(22_050) / 22_050
    out = voices.resampled(np.sin(2 * np.pi * 440 * t).astype(np.float32), 22_050)
    assert len(out) == 16_000
    assert np.abs(out - np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000))[1000:-1000].max() < 0.05


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


def tiny(**changes: Any) -> Plan:
    """A plan for a network that is trained in a blink."""
    from tests.models.speech.archives import TINY

    return Plan(network=TINY, vocabulary=64, batch_s=10, **changes)


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, tones: None) -> None:
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch

    from thalweg.models.recipes.asr import start, train

    torch.set_num_threads(1)
    (tmp_path / "train").mkdir()
    for number in range(2):
        data.make_shard(tmp_path / "train", number, data.Source(test=False), per_shard=30)
    start.make_tokenizer(tmp_path, None, None, 64)
    plan = tiny(ctc_only=0.0)
    first = train.Trainer(tmp_path, plan, hours=1)
    first.train(tmp_path / "train", steps=2)
    second = train.Trainer(tmp_path, plan, hours=1)
    assert (second.step, second.worked_s, second.heard_s) == (2, first.worked_s, first.heard_s)
    assert second.worked_s > 0
    assert all(torch.equal(a, b) for a, b in zip(first.average.values(), second.average.values(), strict=True))
    muon, adamw = ([*of["state"].values()] for of in second.optimiser.state_dict())
    assert muon and all(torch.isfinite(s["momentum_buffer"]).all() for s in muon)
    assert adamw and all(torch.isfinite(s["exp_avg"]).all() for s in adamw)
    second.train(tmp_path / "train", steps=1)
    assert second.step == 3
    assert second.rng.getstate() != first.rng.getstate()
    third = train.Trainer(tmp_path, plan, hours=second.worked_s / 3600)
    third.train(tmp_path / "train")
    assert third.step == 3, "its hours are over"


def test_another_run_can_start_from_what_was_trained(tmp_path: Path) -> None:
    for package, extra in (("torch", "train"), ("sentencepiece", "train"), ("onnx", "convert")):
        require_package(package, extra)
    from tests.models.speech.archives import TINY
    from thalweg.models.recipes.asr import start, train

    start.make_tokenizer(tmp_path, None, None, 64)
    first = train.Trainer(tmp_path, tiny(seed=3), hours=1)
    model = str(tmp_path / "model")
    start.write_model(first, Path(model), int8=True)
    plan = start.start_from(model, tmp_path / "second", tiny())
    assert plan.aligned == plan.ctc_only == 0
    second = train.Trainer(tmp_path / "second", plan, hours=1)
    assert second.tokenizer.vocab_size() == first.tokenizer.vocab_size()
    for name, value in first.network.state_dict().items():
        assert np.allclose(second.network.state_dict()[name], value, atol=1e-3), name
    second.worked_s = 42.0
    second.save()
    start.start_from(model, tmp_path / "second", tiny())
    assert train.Trainer(tmp_path / "second", plan, hours=1).worked_s == 42.0, "what is there is gone on with"
    with pytest.raises(RuntimeError, match="size mismatch"):
        start.start_from(model, tmp_path / "third", Plan(network=replace(TINY, width=16)))


def test_two_processes_train_one_network(tmp_path: Path, tones: None) -> None:
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch
    from torch.multiprocessing.spawn import spawn

    from thalweg.models.recipes.asr import start, train

    (tmp_path / "train").mkdir()
    data.make_shard(tmp_path / "train", 0, data.Source(test=False), per_shard=30)
    start.make_tokenizer(tmp_path, None, None, 64)
    spawn(train.run, (2, tmp_path, tiny(ctc_only=0.0), 1e-3, None), 2)  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    after = train.Trainer(tmp_path, tiny(), hours=1)
    assert after.step > 0 and after.worked_s >= 3.6, "both stop once the two together have worked long enough"
    assert after.heard_s > 5 * after.step, "of two batches a step"
    assert not list(tmp_path.glob(".meeting*"))


def test_gradients_are_the_mean_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("torch", "train")
    import torch

    from thalweg.models.recipes.asr import together

    layer, unused = torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)
    layer(torch.tensor([[1.0, 2.0]])).sum().backward()
    monkeypatch.setattr(together.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(together.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(together.dist, "all_reduce", lambda x: x.add_(torch.tensor([3.0, 0.0, 1.0])))
    together.mean_gradients(torch.nn.ModuleList([layer, unused]))
    assert layer.weight.grad is not None and layer.bias.grad is not None
    assert layer.weight.grad.tolist() == [[2.0, 1.0]] and layer.bias.grad.tolist() == [1.0]


def test_what_was_trained_can_be_exported_and_evaluated(tmp_path: Path, tones: None) -> None:
    for package, extra in (("torch", "train"), ("sentencepiece", "train"), ("onnx", "convert")):
        require_package(package, extra)
    from thalweg.models.recipes.asr import start, train
    from thalweg.models.recipes.asr.evaluate import cases, measure, table
    from thalweg.models.speech.fastconformer.deployed import convert

    start.make_tokenizer(tmp_path, None, None, 64)
    (tmp_path / "test").mkdir()
    data.make_shard(tmp_path / "test", 0, data.Source(test=True), per_shard=2)
    trainer = train.Trainer(tmp_path, tiny(), hours=1)
    deployed = convert(trainer.checkpoint(), tmp_path / "model", int8=True)
    printed = table(measure(deployed, cases(tmp_path / "test", None, most=1), tmp_path / "rows.jsonl"))
    assert "rnnt 80 ms" in printed and "ctc adaptive" in printed and "buffered" in printed


def test_a_network_learns_to_tell_two_words_apart(tmp_path: Path) -> None:
    """The whole way, from sound to text: four steps would prove nothing, sixty of a tiny network do."""
    require_package("torch", "train")
    require_package("sentencepiece", "train")
    import torch

    from thalweg.models.recipes.asr import start, train

    torch.set_num_threads(1)
    start.make_tokenizer(tmp_path, None, None, 64)
    trainer = train.Trainer(tmp_path, tiny(peak=3e-3, warmup=0.0, ctc_only=1.0, aligned=0.0), hours=1)
    batch = [
        batches.UtteranceFeatures(log_mel(tone(word, random.Random(0)), MelConfig()).astype(np.float16), word, [])
        for word in ["open", "read"] * 4
    ]
    losses = [trainer.learn(batch)[0] for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
