"""NeMo 3.0 is the oracle: the same weights, exported by NeMo itself, give the same numbers and the same text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require_package
from tests.models.speech import nemo_oracle
from tests.models.speech.bundled import bundled_or_none, spoken_question
from thalweg.models.speech.decoding.ctc import CtcGreedy
from thalweg.models.speech.fastconformer.config import SUBSAMPLING
from thalweg.models.speech.fastconformer.deployed import Deployed, convert
from thalweg.models.speech.fastconformer.encoder import LEAD, Chunk, StreamingEncoder
from thalweg.models.speech.fastconformer.nemo_archive import NemoCheckpoint, read_nemo
from thalweg.models.speech.loading import load_deployed
from thalweg.models.speech.mel import MelConfig, log_mel, mel_filters
from thalweg.models.speech.recogniser import Recogniser

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]  # the warnings are NeMo's own
LOOKAHEADS = (13, 6, 1, 0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_package("nemo", "nemo")
    return tmp_path_factory.mktemp("nemo")


@pytest.fixture(scope="session")
def hybrid(folder: Path) -> tuple[Any, NemoCheckpoint]:
    """A small hybrid model with random weights: NeMo's own, and what we read of its archive."""
    require_package("onnx", "convert")
    model = nemo_oracle.make("hybrid")
    model.save_to(str(folder / "hybrid.nemo"))
    return model, read_nemo(folder / "hybrid.nemo")


def speechlike(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    samples = int(seconds * 16_000)
    knots = np.arange(0, samples + 1600, 1600)
    loudness = np.interp(np.arange(samples), knots, rng.random(len(knots)))
    return (rng.standard_normal(samples) * 0.2 * loudness**2).astype(np.float32)


def test_features_are_those_of_nemos_preprocessor(hybrid: tuple[Any, NemoCheckpoint]) -> None:
    import torch

    model, checkpoint = hybrid
    audio = speechlike(3.217)
    with torch.no_grad():
        expected, length = model.preprocessor(
            input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)])
        )
    found = log_mel(audio, checkpoint.config.mel)
    assert len(found) == int(length)
    assert np.abs(found - expected[0].numpy().T[: len(found)]).max() < 2e-4


@pytest.mark.parametrize("normalize", ["NA", "per_feature"])
@pytest.mark.parametrize("window", ["hann", "hamming"])
def test_features_follow_the_configuration(folder: Path, normalize: str, window: str) -> None:
    import torch
    from nemo.collections.asr.modules import AudioToMelSpectrogramPreprocessor

    theirs = AudioToMelSpectrogramPreprocessor(
        normalize=normalize, window=window, window_size=0.02, features=64, lowfreq=50, preemph=0.9, pad_to=0, dither=0.0
    ).eval()
    audio = speechlike(2.0)
    expected, length = theirs(input_signal=torch.from_numpy(audio)[None], length=torch.tensor([len(audio)]))
    config = MelConfig(window_samples=320, n_mels=64, window=window, low_hz=50, preemphasis=0.9, normalize=normalize)
    assert np.abs(log_mel(audio, config) - expected[0].numpy().T[: int(length)]).max() < 5e-4
    assert np.abs(mel_filters(config) - theirs.filter_banks[0].numpy()).max() < 1e-7


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_the_torch_network_is_nemos_encoder(hybrid: tuple[Any, NemoCheckpoint], lookahead: int) -> None:
    import torch

    from thalweg.models.speech.fastconformer.network import FastConformer

    model, checkpoint = hybrid
    network = FastConformer(checkpoint.config).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in checkpoint.weights.items() if k != "mel_filters"})
    mel = torch.randn(2, 1500, 80, generator=torch.manual_seed(0)) * 3 - 8
    lengths = torch.tensor([1500, 1033])
    model.encoder.set_default_att_context_size([70, lookahead])
    with torch.no_grad():
        expected, expected_lengths = model.encoder(audio_signal=mel.transpose(1, 2), length=lengths)
        found, found_lengths = network.encode(mel, lengths, [lookahead + 1])
    assert found_lengths.tolist() == expected_lengths.tolist()
    for i, n in enumerate(found_lengths.tolist()):
        assert (found[i, :n] - expected[i, :, :n].T).abs().max() < 1e-4


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Path:
    """A small BPE tokenizer as NeMo keeps it."""
    import sentencepiece

    words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "what", "capital", "of", "france"]
    rng = np.random.default_rng(0)
    lines = "\n".join(" ".join(rng.choice(words, 8)) for _ in range(200))
    (folder / "corpus.txt").write_text(lines)
    target = folder / "bpe"
    target.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(target / "tokenizer"),
        vocab_size=64,
        model_type="bpe",
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(target / "tokenizer.model"))
    (target / "vocab.txt").write_text("\n".join(pieces.id_to_piece(i) for i in range(64)))
    return target


@pytest.mark.parametrize(("kind", "bpe"), [("hybrid", True), ("hybrid", False), ("ctc", True), ("rnnt", False)])
def test_the_deployed_stream_gives_nemos_numbers_and_text(folder: Path, tokenizer: Path, kind: str, bpe: bool) -> None:
    import torch

    model = nemo_oracle.make(kind, tokenizer if bpe else None, seed=3, conv_norm_type="layer_norm")
    heads = [head for head, of in (("rnnt", ("rnnt", "hybrid")), ("ctc", ("ctc", "hybrid"))) if kind in of]
    audio = speechlike(6.13, 4)  # longer than the left context
    make_undecided(model, audio)
    path = folder / f"{kind}-{bpe}.nemo"
    model.save_to(str(path))
    deployed = convert(read_nemo(path), folder / f"{kind}-{bpe}")
    engine = Recogniser(deployed)
    for lookahead in (6, 1):
        model.encoder.set_default_att_context_size([70, lookahead])
        with torch.no_grad():
            signal, length = torch.from_numpy(audio)[None], torch.tensor([len(audio)])
            encoded, lengths = model.forward(input_signal=signal, input_signal_length=length)[:2]
        for head in heads:
            if kind == "ctc":
                continue
            expected = (
                model.decoding.rnnt_decoder_predictions_tensor(encoded, lengths)[0]
                if head == "rnnt"
                else model.ctc_decoding.ctc_decoder_predictions_tensor(
                    model.ctc_decoder(encoder_output=encoded), decoder_lengths=lengths
                )[0]
            )
            assert streamed(engine, audio, lookahead, head) == expected.text
        if kind == "ctc":  # `forward` of a CTC model gives log probabilities
            expected = model.decoding.ctc_decoder_predictions_tensor(encoded, decoder_lengths=lengths)[0]
            assert streamed(engine, audio, lookahead, "ctc") == expected.text
            assert np.abs(ctc_rows(engine, audio, lookahead) - encoded[0, : int(lengths)].numpy()).max() < 1e-3
        assert len(expected.text) > 10, "the weights say nothing: the test shows nothing"


@pytest.mark.parametrize("lookahead", [13, 6, 1])
def test_the_deployed_stream_is_nemos_own_cache_aware_step(
    hybrid: tuple[Any, NemoCheckpoint], folder: Path, lookahead: int
) -> None:
    """Without look-ahead NeMo's second step is not what its encoder computes offline: it has one mel frame to prepend
    and fills up with zeros, which its convolutions turn into their biases. Ours is held against offline there."""
    import torch

    model, checkpoint = hybrid
    encoder = model.encoder
    encoder.set_default_att_context_size([70, lookahead])
    frames = 8 * (lookahead + 1) * 13 + 1 + 8 * lookahead
    mel = (np.random.default_rng(1).standard_normal((frames, 80)) * 3 - 8).astype(np.float32)
    streaming = StreamingEncoder(convert(checkpoint, folder / "hybrid"))
    slot = streaming.take_slot()
    caches = encoder.get_initial_cache_state(batch_size=1)
    at, seen = 0, 0
    while at < frames:
        size = 8 * (lookahead + 1) - (7 if at == 0 else 0)
        (ours,) = streaming.step([Chunk(slot, mel[at : at + size], seen, 7 if at == 0 else 0)], lookahead)
        before = 0 if at == 0 else 9
        piece = np.concatenate([np.zeros((max(0, before - at), 80), np.float32), mel[max(0, at - before) : at + size]])
        encoder.streaming_cfg.drop_extra_pre_encoded = 0 if at == 0 else 2
        with torch.no_grad():
            theirs, _, *caches = encoder.cache_aware_stream_step(
                processed_signal=torch.from_numpy(piece.T)[None],
                processed_signal_length=torch.tensor([len(piece)]),
                cache_last_channel=caches[0],
                cache_last_time=caches[1],
                cache_last_channel_len=caches[2],
                keep_all_outputs=True,
                drop_extra_pre_encoded=encoder.streaming_cfg.drop_extra_pre_encoded,
            )
        assert np.abs(theirs[0].numpy().T - ours.encoded).max() < 1e-3
        at += size
        seen += len(ours.encoded)


@pytest.fixture(scope="session", params=bundled_or_none())
def trained(request: pytest.FixtureRequest, folder: Path) -> tuple[Any, Deployed]:
    """Weights that were trained, in NeMo's network and in ours, fp32 in both."""
    from thalweg.deploy.bench.speech.nemo_asr import NemoPeer

    checkpoint = load_deployed(request.param).checkpoint()
    peer = NemoPeer(checkpoint.config, folder)
    peer.load(checkpoint.weights)
    return peer.model, convert(checkpoint, folder / request.param)


@pytest.mark.parametrize("lookahead", LOOKAHEADS)
def test_trained_weights_give_nemos_numbers_and_tokens(trained: tuple[Any, Deployed], lookahead: int) -> None:
    import torch

    model, deployed = trained
    audio = spoken_question()
    model.encoder.set_default_att_context_size([deployed.config.left, lookahead])
    with torch.no_grad():
        signal, length = torch.from_numpy(audio)[None], torch.tensor([len(audio)])
        encoded, lengths = model.forward(input_signal=signal, input_signal_length=length)
        best = model.ctc_decoder(encoder_output=encoded)[0].argmax(dim=-1).tolist()
        said = model.decoding.rnnt_decoder_predictions_tensor(encoded, lengths)[0].y_sequence.tolist()
    expected = {"rnnt": said, "ctc": collapsed(best, blank=len(deployed.tokens))}
    engine = Recogniser(deployed)
    for head in engine.heads:
        tokens = expected[head]
        stream = engine.open(lookahead, head=head)
        for piece in np.array_split(audio, 37):
            stream.feed(piece)
        stream.finish()
        assert [emitted.token for emitted in stream.decoder.emitted] == tokens
        assert len(tokens) > 5, "the weights say nothing: the test shows nothing"
    found = encoded_rows(deployed, audio, lookahead)
    assert np.abs(found - encoded[0, :, : int(lengths)].numpy().T).max() < 1e-3


def make_undecided(model: Any, audio: NDArray[np.float32]) -> None:
    """Let random weights say something: what the heads say on average is taken off, and what is left made louder."""
    import torch

    with torch.no_grad():
        signal, length = torch.from_numpy(audio)[None], torch.tensor([len(audio)])
        mel, lengths = model.preprocessor(input_signal=signal, length=length)
        encoded, _ = model.encoder(audio_signal=mel, length=lengths)
        ctc = getattr(model, "ctc_decoder", None) or (None if hasattr(model, "joint") else model.decoder)
        if ctc is not None:
            layer = ctc.decoder_layers[0]
            layer.bias -= layer(encoded)[0].mean(dim=1)
            layer.weight *= 8
            layer.bias *= 8
            layer.bias[-1] += 1
        if hasattr(model, "joint"):
            start = torch.zeros(1, 1, model.decoder.pred_hidden)
            layer = model.joint.joint_net[-1]
            layer.bias -= model.joint.joint(encoded.transpose(1, 2), start)[0, :, 0].mean(dim=0)
            layer.weight *= 30
            layer.bias *= 30
            layer.bias[-1] += 2.5


def streamed(engine: Recogniser, audio: NDArray[np.float32], lookahead: int, head: str) -> str:
    stream = engine.open(lookahead, head=head)
    for piece in np.array_split(audio, 37):
        stream.feed(piece)
    return stream.finish().text


def collapsed(best: list[int], blank: int) -> list[int]:
    """CTC: the best class of every frame, repetitions and blanks taken out."""
    return [token for token, before in zip(best, [blank, *best], strict=False) if token not in (before, blank)]


def encoded_rows(deployed: Deployed, audio: NDArray[np.float32], lookahead: int) -> NDArray[np.float32]:
    """The encoder's output of a stream, chunk by chunk."""
    mel = log_mel(audio, deployed.config.mel, deployed.filters)
    encoder = StreamingEncoder(deployed)
    slot, at, frames = encoder.take_slot(), 0, 0
    rows: list[NDArray[np.float32]] = []
    while at < len(mel):
        lead = LEAD if at == 0 else 0
        piece = mel[at : at + SUBSAMPLING * (lookahead + 1) - lead]
        (found,) = encoder.step([Chunk(slot, piece, frames, lead)], lookahead)
        rows.append(found.encoded)
        at, frames = at + len(piece), frames + len(found.encoded)
    return np.concatenate(rows)


def ctc_rows(engine: Recogniser, audio: NDArray[np.float32], lookahead: int) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []

    class Keep(CtcGreedy):
        """Keeps what it is fed."""

        def feed(self, log_probs: NDArray[np.float32], frame: int) -> None:
            rows.append(log_probs)

    stream = engine.open(lookahead, head="ctc", ctc=lambda: Keep(0))
    stream.feed(audio)
    stream.finish()
    return np.concatenate(rows)


@pytest.mark.parametrize("lookahead", [6, 1])
def test_the_stage_that_runs_nemo_says_what_ours_says(folder: Path, lookahead: int) -> None:
    """Its last chunk is shorter than the others; NeMo hears nothing but zeros after it."""
    from tests.stages.speech.test_fastconformer import transcripts, turn
    from thalweg.deploy.testing import run_stage
    from thalweg.pipeline.duration import MS
    from thalweg.stages.speech.fastconformer import FastConformer
    from thalweg.stages.speech.nemo import Nemo

    model = nemo_oracle.make("hybrid", seed=5)
    audio = speechlike(4.0, 6)
    make_undecided(model, audio)
    path = folder / "stage.nemo"
    model.save_to(str(path))
    convert(read_nemo(path), folder / "stage")
    settings: dict[str, Any] = {"lookahead": lookahead * 80 * MS}
    theirs = transcripts(run_stage(Nemo(str(path), device="cpu", **settings), turn(audio)))[-1]
    ours = transcripts(run_stage(FastConformer(str(folder / "stage"), head="rnnt", **settings), turn(audio)))[-1]
    assert theirs.final and theirs.text == ours.text != ""
