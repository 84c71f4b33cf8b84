"""What a fuzzing run is: so many inputs, in chunks that can be gone on with, and what was found.

An input that is refused in a way not seen before (which lines of ours it went through, by the traceback) joins the
pool that others are made of: coverage of the refusals, which is where decoders do their work, at the price of none.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

from tests.fuzz.mutation import mutate
from thalweg.pipeline.decoding import LONGEST_TEXT
from thalweg.pipeline.text import printable

CHUNK = 10_000
HANG_S = 10.0
POOL = 400
_KINDS = 20


@dataclass(frozen=True)
class Target:
    """One thing that reads bytes. `make`: inputs of its shape, from nothing; `read` may raise `refusals` only."""

    seeds: Callable[[], Sequence[bytes]]
    make: Callable[[random.Random], bytes]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]


@dataclass
class Findings:
    """How a run went so far. `worst_ms`: of processor time, for one input. `unexpected`: what was raised or said → an
    input, in hexadecimal.
    """

    seed: int
    done: int = 0
    accepted: int = 0
    seconds: float = 0.0
    worst_ms: float = 0.0
    hangs: int = 0
    unexpected: dict[str, str] = field(default_factory=dict)
    pool: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """For going on later; whole or not at all."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path, seed: int) -> Findings:
        """What an earlier run with this seed left, or a fresh start."""
        with contextlib.suppress(FileNotFoundError):
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            if found.seed == seed:
                return found
        return cls(seed)


class _HangError(BaseException):
    """An input took too long."""


def peak_mb() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def fuzz(name: str, target: Target, count: int, findings: Findings, corpus: Sequence[bytes] = ()) -> Iterator[Findings]:
    """Read inputs until there were `count`; gives the findings after every chunk."""
    with _alarmed():
        base = [*target.seeds(), *corpus]
        pool = base + [bytes.fromhex(one) for one in findings.pool]
        seen: set[int] = set()
        while findings.done < count:
            rng = random.Random(f"{findings.seed}/{name}/{findings.done}")
            start = time.monotonic()
            for _ in range(min(CHUNK, count - findings.done)):
                data = target.make(rng) if rng.random() < 0.4 else mutate(rng.choice(pool), rng, pool)
                way = read_one(target, data, findings)
                if way not in seen:
                    seen.add(way)
                    if len(data) < 4096 and len(findings.pool) < POOL:
                        findings.pool.append(data.hex())
                        pool.append(data)
                findings.done += 1
            findings.seconds += time.monotonic() - start
            yield findings


def read_one(target: Target, data: bytes, findings: Findings) -> int:
    """Have one input read, and note how that went; a number that stands for the way it took."""
    before = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    way = 0
    try:
        target.read(data)
        findings.accepted += 1
    except target.refusals as refusal:
        text = str(refusal)
        if len(text) > 2 * LONGEST_TEXT or printable(text, None) != text:
            _unexpected(findings, f"a text that is long or does not print: {ascii(text)[:80]}", data)
        way = _way(refusal.__traceback__)
    except _HangError:
        findings.hangs += 1
        _unexpected(findings, f"no end within {HANG_S:g} s", data)
    except Exception as error:
        way = _way(error.__traceback__)
        _unexpected(findings, f"{type(error).__name__}: {ascii(str(error))[:80]}", data)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    findings.worst_ms = max(findings.worst_ms, 1e3 * (time.process_time() - before))
    return way


def _unexpected(findings: Findings, what: str, data: bytes) -> None:
    if len(findings.unexpected) < _KINDS:
        findings.unexpected.setdefault(what, data[:4096].hex())


def _way(trace: TracebackType | None) -> int:
    lines = []
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return hash(tuple(lines))


@contextlib.contextmanager
def _alarmed() -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
