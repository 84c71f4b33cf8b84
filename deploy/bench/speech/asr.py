"""Streaming recognition next to NeMo on the same weights; parts: steps, streams, flow, pipeline; all of them if none.

Without a model the weights are random (timing does not depend on them) and the same for all systems: NeMo makes them,
and its `.nemo` archive is converted. With a model, a name or a folder, it is measured as it is, and NeMo's network has
its weights where it brings them (`weights.npz`) and random ones of the same shape where it does not. Every system has
one thread; systems take turns, round by round.

`steps`     one step of the encoder in the middle of a stream, caches full: `step` by the clock on the wall, `cpu` the
            processor time of the same steps, which other work lengthens much less; `rtf` is made of the latter
`streams`   how many streams one core holds in real time, next to NeMo's streaming pipeline, and what one takes
`flow`      one stream from sound to text: lag through a minute of speech, and how long the final text takes
`pipeline`  two minutes of speech at real-time pace through audio.file, speech.vad and speech.fastconformer
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from thalweg.deploy.bench import BenchError
from thalweg.deploy.bench.result import OURS, Result
from thalweg.deploy.bench.speech.asr_flow import measure_flow, measure_pipeline
from thalweg.deploy.bench.speech.asr_steps import measure_steps
from thalweg.deploy.bench.speech.asr_streams import measure_streams
from thalweg.deploy.bench.speech.nemo_asr import NemoPeer
from thalweg.models.speech.decoding.tokens import WORD, Tokens
from thalweg.models.speech.fastconformer.config import LARGE, SMALL, FastConformerConfig
from thalweg.models.speech.fastconformer.deployed import WEIGHTS, Deployed, convert
from thalweg.models.speech.fastconformer.nemo_archive import NemoCheckpoint, read_nemo, weight_shapes
from thalweg.models.speech.loading import load_deployed

PARTS = ("steps", "streams", "flow", "pipeline")
INT8 = "thalweg-int8"
LOOKAHEAD = 1
"""Frames: 80 ms, where the aims are. Models without it are measured at their own."""

_VOCABULARY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured: our deployed forms by their system's name, NeMo where it is there, a folder for files."""

    name: str
    ours: Mapping[str, Deployed]
    nemo: NemoPeer | None
    folder: Path

    @property
    def config(self) -> FastConformerConfig:
        """The shape, which all of them share."""
        return next(iter(self.ours.values())).config

    @property
    def lookahead(self) -> int:
        """Where one look-ahead is enough."""
        config = self.config
        return LOOKAHEAD if LOOKAHEAD in config.lookaheads else min(config.lookaheads)

    def case(self, lookahead: int) -> str:
        """The name of a case."""
        return f"{self.name} {lookahead * self.config.frame_ms:.0f}ms"


def measure(result: Result, quick: bool, part: str | None = None, model: str | None = None) -> None:
    """Fill in the rows. Raises BenchError on an unknown part, ModelError on an unknown model."""
    if part is not None and part not in PARTS:
        raise BenchError(f"bench asr has no part {part!r}; it has {', '.join(PARTS)}")
    result.notes.append("one thread each; steps are of the encoder alone, everything else from sound to text")
    names = [model] if model else ["12M"] if quick or part == "pipeline" else ["12M", "109M"]
    for name in names:
        with _given(result, name) if model else _made(result, name) as subject:
            measure_parts(result, subject, quick, (part,) if part else PARTS)


def measure_parts(result: Result, subject: Subject, quick: bool, parts: tuple[str, ...]) -> None:
    """Some parts for one subject."""
    case, lookahead = subject.case(subject.lookahead), subject.lookahead
    if "steps" in parts:
        lookaheads = (lookahead,) if quick else sorted(subject.config.lookaheads)
        measure_steps(result, subject.case, subject.ours, subject.nemo, lookaheads, subject.folder, quick)
    if "streams" in parts:
        measure_streams(result, case, subject.ours, subject.nemo, lookahead, subject.folder, quick)
    if "flow" in parts:
        result.rounds.expect(len(subject.ours))
        for system, model in subject.ours.items():
            flow = partial(measure_flow, result, case, system, model, lookahead, quick)
            result.rounds.ours(f"flow, {case}", flow, system=system)
    if "pipeline" in parts:
        result.rounds.expect(len(subject.ours))
        for system, model in subject.ours.items():
            pipeline = partial(measure_pipeline, result, case, system, model, lookahead, quick)
            result.rounds.ours(f"pipeline, {case}", pipeline, system=system)


@contextmanager
def _made(result: Result, name: str) -> Iterator[Subject]:
    config = replace({"12M": SMALL, "109M": LARGE}[name], vocabulary=_VOCABULARY)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        nemo = _nemo(config, folder, result)
        if nemo is not None:
            nemo.save(folder / "model.nemo")
        yield made(name, read_nemo(folder / "model.nemo") if nemo else silent(config), nemo, folder)


def made(name: str, checkpoint: NemoCheckpoint, nemo: NemoPeer | None, folder: Path) -> Subject:
    """A checkpoint in both deployed forms."""
    ours = {OURS: convert(checkpoint, folder / "fp32"), INT8: convert(checkpoint, folder / "int8", int8=True)}
    return Subject(name=name, ours=ours, nemo=nemo, folder=folder)


@contextmanager
def _given(result: Result, name: str) -> Iterator[Subject]:
    model = load_deployed(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        nemo = _nemo(model.config, folder, result)
        ours = {INT8 if model.int8 else OURS: model}
        if (model.folder / WEIGHTS).exists():
            checkpoint = model.checkpoint()
            ours.setdefault(OURS, convert(checkpoint, folder / "fp32"))
            if nemo is not None:
                nemo.load(checkpoint.weights)
        elif nemo is not None:
            result.notes.append(f"{name} brings no {WEIGHTS}: NeMo's are random, and its decoder says nothing")
        yield Subject(name=model.folder.name, ours=dict(sorted(ours.items())), nemo=nemo, folder=folder)


def _nemo(config: FastConformerConfig, folder: Path, result: Result) -> NemoPeer | None:
    if importlib.util.find_spec("nemo") is None:
        result.notes.append("nemo, nemo-onnx: left out, not installed (pip install 'thalweg[nemo]')")
        return None
    import nemo

    result.versions["nemo"] = nemo.__version__
    return result.rounds.peer("nemo", "its network", lambda: NemoPeer(config, folder))


def silent(config: FastConformerConfig) -> NemoCheckpoint:
    """Random weights whose joint network says nothing but blank, as `NemoPeer` has them."""
    rng = np.random.default_rng(0)
    weights = {
        name: (rng.standard_normal(shape) * (0.5 / np.sqrt(float(np.prod(shape[1:]))))).astype(np.float32)
        for name, shape in weight_shapes(config).items()
    }
    weights["joint.joint_net.2.bias"][-1] = 100.0
    return NemoCheckpoint(config, Tokens(tuple(f"{WORD}{i}" for i in range(config.vocabulary))), weights)
