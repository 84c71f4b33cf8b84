"""Many streams over one engine: the urgent first, together what goes together, the newest audio, nothing for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from thalweg.models.speech.whisper.decode import DecodeRequest, Hypothesis
from thalweg.models.speech.whisper.engine import Engine, Urgency


class Recogniser:
    """Says how long each ask's audio is; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, model: Any, asks: Sequence[DecodeRequest]) -> list[Hypothesis]:
        self.batches.append([len(ask.samples) for ask in asks])
        self.begun.set()
        assert self.go.wait(10)
        return [Hypothesis(words=(), language=str(len(ask.samples)), no_speech=0, log_prob=0) for ask in asks]


def audio(samples: int) -> Callable[[], DecodeRequest]:
    return lambda: DecodeRequest(samples=np.zeros(samples, np.float32))


@pytest.fixture
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture
def engine(recogniser: Recogniser) -> Any:
    engine = Engine(None, run=recogniser)  # type: ignore[arg-type]
    yield engine
    recogniser.go.set()
    engine.close()


def test_the_urgent_goes_first_and_what_goes_together_goes_together(engine: Engine, recogniser: Recogniser) -> None:
    engine.order(audio(1))
    assert recogniser.begun.wait(10)
    later = [engine.order(audio(2)), engine.order(audio(16_000 * 20)), engine.order(audio(3), Urgency.FINAL)]
    recogniser.go.set()
    assert all(job.wait(10) for job in later)
    assert recogniser.batches == [[1], [3, 2], [320_000]]
    assert later[0].result().language == "2"


def test_a_job_that_had_to_wait_decodes_the_newest_audio(engine: Engine, recogniser: Recogniser) -> None:
    engine.order(audio(1))
    assert recogniser.begun.wait(10)
    held = [100]
    job = engine.order(lambda: audio(held[0])())
    held[0] = 200
    recogniser.go.set()
    assert job.wait(10)
    assert recogniser.batches[1] == [200]


def test_what_nobody_wants_any_more_is_not_decoded(engine: Engine, recogniser: Recogniser) -> None:
    engine.order(audio(1))
    assert recogniser.begun.wait(10)
    unwanted, wanted = engine.order(audio(2)), engine.order(audio(3))
    unwanted.cancel()
    recogniser.go.set()
    assert wanted.wait(10)
    assert recogniser.batches == [[1], [3]]


def test_a_decode_that_fails_is_the_problem_of_its_batch_only(recogniser: Recogniser) -> None:
    def run(model: Any, asks: Sequence[DecodeRequest]) -> list[Hypothesis]:
        if len(asks[0].samples) == 1:
            raise MemoryError("no room")
        return recogniser(model, asks)

    recogniser.go.set()
    engine = Engine(None, run=run)  # type: ignore[arg-type]
    failed, good = engine.order(audio(1)), None
    assert failed.wait(10)
    good = engine.order(audio(2))
    assert good.wait(10)
    with pytest.raises(MemoryError):
        failed.result()
    assert good.result().language == "2"
    engine.close()


def test_a_closed_engine_leaves_nobody_waiting(engine: Engine, recogniser: Recogniser) -> None:
    engine.order(audio(1))
    assert recogniser.begun.wait(10)
    waiting = engine.order(audio(2))
    closing = threading.Thread(target=engine.close)
    closing.start()
    assert waiting.wait(10)
    recogniser.go.set()
    closing.join(10)
    with pytest.raises(RuntimeError, match="closed"):
        waiting.result()
    with pytest.raises(RuntimeError, match="closed"):
        engine.order(audio(3))


def test_a_decode_that_gives_too_little_is_a_failure_of_its_jobs_and_not_of_the_engine() -> None:
    engine = Engine(None, run=lambda model, asks: [])  # type: ignore[arg-type]
    for _ in range(2):
        job = engine.order(audio(1))
        assert job.wait(10)
        with pytest.raises(ValueError, match="zip"):
            job.result()
    engine.close()
