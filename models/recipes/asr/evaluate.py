"""Word error rates as a table: every look-ahead and head of a deployed model, beside its baselines.

All of it is streamed, in pieces of 20 ms. Held-out synthetic voices clean and with noise at 10 dB, and recordings of
people; nothing of either was trained on. Synthetic speech is easier than people: the last column is the one to believe.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from thalweg.models.buffered import BufferedEncoder, BufferedStream
from thalweg.models.deployed import Deployed
from thalweg.models.lookahead import AdaptiveLookahead
from thalweg.models.recipes.asr.augment import noisy
from thalweg.models.recipes.asr.data import Floats, Utterance, human_recordings, read_shard, shards
from thalweg.models.recipes.asr.text import normalise
from thalweg.models.recogniser import Recogniser, Stream
from thalweg.models.transducer import RnntDecoder

Transcriber = Callable[[Floats], str]
_PIECE = 320


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Substitutions, deletions and insertions together, and the number of words that were said."""
    reference, guess = said.split(), heard.split()
    row = list(range(len(guess) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(guess, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1], len(reference)


def systems(model: Deployed) -> Iterator[tuple[str, Transcriber]]:
    """Every way to run the model, and what it is compared with."""
    engine = Recogniser(model)
    frame_ms = model.config.frame_ms
    for head in engine.heads:
        for lookahead in sorted(model.config.lookaheads):
            yield f"{head} {lookahead * frame_ms:.0f} ms", partial(_stream, engine, lookahead, head)
        yield f"{head} adaptive ≤ 480 ms", partial(_adaptive, engine, head)
    yield "buffered 160 + 80 ms", partial(_buffered, BufferedEncoder(model), model)
    if importlib.util.find_spec("pocketsphinx"):
        yield "PocketSphinx", _sphinx


def table(model: Deployed, test: Path, human: Path | None, most: int) -> str:
    """Markdown."""
    rng = np.random.default_rng(0)
    clean = [u for path in shards(test) for u in read_shard(path)][:most]
    sets = {"held-out voices": clean}
    sets["held-out voices, 10 dB"] = [Utterance(noisy(u.audio, 10.0, rng), u.text, u.voice) for u in clean]
    if human is not None:
        sets["people"] = human_recordings(human)
    lines = [f"| word error rate, % | {' | '.join(f'{name} ({len(us)})' for name, us in sets.items())} |"]
    lines.append("|---" * (len(sets) + 1) + "|")
    for name, transcribe in systems(model):
        cells = []
        for utterances in sets.values():
            counts = [word_errors(u.text, normalise(transcribe(u.audio))) for u in utterances]
            cells.append(f"{100 * sum(e for e, _ in counts) / max(1, sum(n for _, n in counts)):.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _stream(engine: Recogniser, lookahead: int, head: str, audio: Floats) -> str:
    return _fed(engine.open(lookahead, head=head), audio)


def _adaptive(engine: Recogniser, head: str, audio: Floats) -> str:
    config = engine.model.config
    policy = AdaptiveLookahead(config.lookaheads, frame_ms=config.frame_ms, bound_ms=480)
    return _fed(engine.open(head=head, adaptive=policy), audio)


def _buffered(encoder: BufferedEncoder, model: Deployed, audio: Floats) -> str:
    decoder = RnntDecoder(model) if model.config.rnnt else None
    return _fed(BufferedStream(encoder, decoder), audio)


def _fed(stream: Stream | BufferedStream, audio: Floats) -> str:
    for at in range(0, len(audio), _PIECE):
        stream.feed(audio[at : at + _PIECE])
    return stream.finish().text


def _sphinx(audio: Floats) -> str:
    from thalweg.models.sphinx import SphinxRecogniser

    recogniser = SphinxRecogniser()
    recogniser.start()
    recogniser.feed(audio)
    return recogniser.finish()[0]
