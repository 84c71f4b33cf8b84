"""One engine for many streams: due jobs are decoded in batches, urgent ones first, cancelled ones not at all.

Theory of operation. A stream has at most one job under way. Jobs wait in one queue; a thread per worker takes the most
urgent one (`Urgency`, then the one that waits longest) and with it others of the same shape, up to `max_batch`. The
audio of a job is asked for only then, so a job that had to wait decodes the newest: streams on a busy machine are
decoded less often, never later and later. A job that was cancelled before that costs nothing; one under way is finished
and its result is dropped. Without jobs the threads sleep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from thalweg.models.speech.whisper.decode import DecodeRequest, Hypothesis, decode
from thalweg.models.speech.whisper.model import WhisperModel, find_whisper
from thalweg.models.store.sharing import Share


class Urgency(IntEnum):
    """The order of jobs: an answer waits for final texts, only a display for partial ones; files can wait for both."""

    FINAL = 0
    PARTIAL = 1
    BACKGROUND = 2


@dataclass(eq=False, slots=True)
class Job:
    """A decode that was ordered. `begun`: it is being decoded, or was. From any thread."""

    ask: Callable[[], DecodeRequest]
    urgency: Urgency
    ordered: int = 0
    asked: DecodeRequest | None = None
    took_s: float = 0.0
    begun: bool = False
    _done: threading.Event = field(default_factory=threading.Event)
    _found: Hypothesis | None = None
    _failure: BaseException | None = None
    _cancelled: bool = False

    @property
    def done(self) -> bool:
        """Whether there is a result to take, or a failure."""
        return self._done.is_set()

    @property
    def heard_s(self) -> float:
        """How much audio it is made of, once it has begun."""
        return 0.0 if self.asked is None else self.asked.audio_s

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is done; returns whether it is."""
        return self._done.wait(timeout_s)

    def cancel(self) -> None:
        """The result is no longer wanted. Idempotent."""
        self._cancelled = True

    def result(self) -> Hypothesis:
        """What was found, once it is done. Raises what went wrong."""
        if self._failure is not None:
            raise self._failure
        assert self._found is not None
        return self._found

    def take(self) -> bool:
        """The engine begins the job. False where it was cancelled."""
        if self._cancelled:
            return False
        if self.asked is None:
            self.asked = self.ask()
        return True

    def finish(self, found: Hypothesis | None, failure: BaseException | None, took_s: float) -> None:
        """The engine has done it."""
        self._found, self._failure, self.took_s = found, failure, took_s
        self._done.set()


class Engine:
    """Decodes with one model for all streams of this process. `close` ends its threads; queued jobs then fail."""

    def __init__(
        self,
        model: WhisperModel,
        *,
        workers: int = 1,
        max_batch: int = 8,
        run: Callable[[WhisperModel, Sequence[DecodeRequest]], list[Hypothesis]] = decode,
    ) -> None:
        self.model = model
        self._max_batch = max_batch
        self._run = run
        self._waiting: list[Job] = []
        self._count = 0
        self._closed = False
        self._work = threading.Condition()
        self._threads = [threading.Thread(target=self._serve, name=f"whisper-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def order(self, ask: Callable[[], DecodeRequest], urgency: Urgency = Urgency.PARTIAL) -> Job:
        """Have something decoded; `ask` is called from an engine's thread when its turn has come."""
        job = Job(ask, urgency)
        with self._work:
            if self._closed:
                raise RuntimeError("this engine is closed")
            self._count += 1
            job.ordered = self._count
            self._waiting.append(job)
            self._work.notify()
        return job

    def close(self) -> None:
        """Idempotent."""
        with self._work:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            self._work.notify_all()
        for job in waiting:
            job.finish(None, RuntimeError("the engine was closed"), 0.0)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            with self._work:
                while not self._waiting and not self._closed:
                    self._work.wait()
                if self._closed:
                    return
                batch = self._take()
            if batch:
                self._decode(batch)

    def _take(self) -> list[Job]:
        """The next batch: the most urgent job, and those that go with it."""
        batch: list[Job] = []
        for job in sorted(self._waiting, key=lambda job: (job.urgency, job.ordered)):
            try:
                wanted = job.take()
            except Exception as error:
                self._waiting.remove(job)
                job.finish(None, error, 0.0)
                continue
            if not wanted:
                self._waiting.remove(job)
                continue
            assert job.asked is not None
            first = batch[0].asked if batch else job.asked
            if first is not None and job.asked.shape == first.shape and len(batch) < self._max_batch:
                self._waiting.remove(job)
                job.begun = True
                batch.append(job)
            else:
                job.asked = None  # it asks again, for newer audio, when its turn has come
        return batch

    def _decode(self, batch: Sequence[Job]) -> None:
        asks = [job.asked for job in batch if job.asked is not None]
        start_s = time.monotonic()
        try:
            done = list(zip(batch, self._run(self.model, asks), strict=True))
        except Exception as error:
            for job in batch:
                job.finish(None, error, time.monotonic() - start_s)
            return
        for job, hypothesis in done:
            job.finish(hypothesis, None, time.monotonic() - start_s)


def share_engine(
    model: str, *, device: str = "cpu", compute: str = "auto", threads: int = 1, workers: int = 1
) -> Share[Engine]:
    """The engine of this process for a model, loaded for the first who asks and freed behind the last.

    Raises ModelError.
    """
    key = ("whisper", str(Path(model).expanduser()), device, compute, threads, workers)

    def load() -> Engine:
        loaded = WhisperModel(find_whisper(model), device=device, compute=compute, threads=threads, workers=workers)
        return Engine(loaded, workers=workers)

    return Share(key, load, Engine.close)
