"""The ways to run a recogniser that `evaluate` compares, each as a `Listener`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from thalweg.models.recipes.asr.corpus.data import Floats
from thalweg.models.recipes.asr.measure import Listener
from thalweg.models.speech.decoding.transducer import RnntDecoder
from thalweg.models.speech.fastconformer.buffered import BufferedEncoder, BufferedStream
from thalweg.models.speech.fastconformer.deployed import Deployed
from thalweg.models.speech.fastconformer.lookahead import AdaptiveLookahead
from thalweg.models.speech.recogniser import Recogniser, Stream

_ADAPTIVE_MS = 480


def systems(model: Deployed) -> Iterator[tuple[str, Callable[[], Listener]]]:
    """Every way to run the model, and what it is compared with; each makes a recogniser of one utterance."""
    engine, config = Recogniser(model), model.config
    for head in engine.heads:
        for lookahead in sorted(config.lookaheads):
            yield f"{head} {lookahead * config.frame_ms:.0f} ms", partial(_streaming, engine, head, lookahead)
        yield f"{head} adaptive ≤ {_ADAPTIVE_MS} ms", partial(_adaptive, engine, head)
        yield f"{head} offline", partial(_Offline, engine, head)
    encoder, decoder = BufferedEncoder(model), RnntDecoder(model) if config.rnnt else None
    yield "buffered 160 + 80 ms", lambda: _Streamed(BufferedStream(encoder, decoder))
    if importlib.util.find_spec("pocketsphinx"):
        yield "PocketSphinx", _Sphinx


class _Streamed:
    def __init__(self, stream: Stream | BufferedStream) -> None:
        self._stream = stream

    def feed(self, samples: Floats) -> None:
        self._stream.feed(samples)

    def partial(self) -> str:
        return self._stream.guess().text

    def finish(self) -> str:
        return self._stream.finish().text


def _streaming(engine: Recogniser, head: str, lookahead: int) -> Listener:
    return _Streamed(engine.open(lookahead, head=head))


def _adaptive(engine: Recogniser, head: str) -> Listener:
    config = engine.model.config
    policy = AdaptiveLookahead(config.lookaheads, frame_ms=config.frame_ms, bound_ms=_ADAPTIVE_MS)
    return _Streamed(engine.open(head=head, adaptive=policy))


class _Offline:
    """All of it at once, in the largest chunks, when it has ended."""

    def __init__(self, engine: Recogniser, head: str) -> None:
        self._open = partial(engine.open, max(engine.model.config.lookaheads), head=head)
        self._held: list[Floats] = []

    def feed(self, samples: Floats) -> None:
        self._held.append(samples)

    def partial(self) -> str:
        return ""

    def finish(self) -> str:
        stream = self._open()
        stream.feed(np.concatenate(self._held))
        return stream.finish().text


class _Sphinx:
    def __init__(self) -> None:
        from thalweg.models.speech.sphinx import SphinxRecogniser

        self._recogniser = SphinxRecogniser()
        self._recogniser.start()

    def feed(self, samples: Floats) -> None:
        self._recogniser.feed(samples)

    def partial(self) -> str:
        return self._recogniser.partial()

    def finish(self) -> str:
        return self._recogniser.finish()[0]
