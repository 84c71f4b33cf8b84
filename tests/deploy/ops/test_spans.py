"""OpenTelemetry spans: a turn is one trace, whichever workers it went through."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import QUESTION, require_model, require_package
from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.ops.observing.spans import QUIET_NS, ROOT_QUIET_NS, TurnSpans, start_spans
from thalweg.deploy.reading import bundle_of, read_spec
from thalweg.deploy.runtime.worker import Worker
from thalweg.deploy.testing import packet
from thalweg.pipeline.file.plan import LOCAL, Plan
from thalweg.pipeline.graph import Graph
from thalweg.pipeline.node import Node
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Token
from thalweg.pipeline.signal import Interrupt, Settled
from thalweg.pipeline.stage import Context, describe

ROOT = Path(__file__).parents[3]
TICKING = Path(__file__).parents[1] / "ticking" / "ticking.yaml"
SECOND = 1_000_000_000
SPOKEN = """
name: spoken
variables: {input: null, output: null}
stages:
  file: {use: audio.file, path: "${input}", pace: full}
  vad: {use: speech.vad, barge_in: false}
  recogniser: {use: speech.pocketsphinx}
  chat: {use: language.chat, backend: echo}
  writer: {use: sink.jsonl, path: "${output}"}
connections:
  - file -> vad -> recogniser -> chat -> writer
workers: {ears: subprocess, brain: subprocess}
placement: {vad: ears, recogniser: ears, chat: brain}
"""


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An SDK with its in-memory exporter, as if the user had configured it."""
    require_package("opentelemetry.sdk", "dev")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


def run_here(path: Path, settings: Mapping[str, str]) -> None:
    """Run every worker of a pipeline in this process, with the links between them that there would be elsewhere."""
    spec = read_spec(path, settings)
    workers = {name: dataclasses.replace(worker, launcher=LOCAL) for name, worker in spec.plan.workers.items()}
    here = dataclasses.replace(spec, plan=Plan(workers, spec.plan.edges))
    deployment = Deployment(here, bundle_of(path, settings, traced=False), lambda _: None)
    asyncio.run(deployment.run())


@pytest.mark.real
def test_a_spoken_turn_over_three_workers_is_one_trace_with_each_stage_below_the_one_it_heard_from(
    exported: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.deploy.ops.observing.spans.QUIET_NS", 3600 * SECOND)  # however slow the machine is
    for module in ("av", "onnxruntime", "pocketsphinx"):
        require_package(module, "demo")
    require_model("silero-vad")
    path = tmp_path / "spoken.yaml"
    path.write_text(SPOKEN)
    run_here(path, {"input": str(QUESTION), "output": str(tmp_path / "out.jsonl")})
    spans = exported.get_finished_spans()
    roots = [span for span in spans if span.parent is None]
    assert [root.name for root in roots] == ["turn", "turn"], "two questions are asked"
    for root in roots:
        mine = {span.name: span for span in spans if span.context.trace_id == root.context.trace_id}
        below = {name: span.parent.span_id for name, span in mine.items() if span.parent is not None}
        ids = {name: span.context.span_id for name, span in mine.items()}
        assert below == {"vad": ids["turn"], "recogniser": ids["vad"], "chat": ids["recogniser"], "writer": ids["chat"]}
        workers = {name: span.attributes["thalweg.worker"] for name, span in mine.items()}
        assert workers == {"turn": "ears", "vad": "ears", "recogniser": "ears", "chat": "brain", "writer": "local"}
        assert {span.attributes["thalweg.turn"] for span in mine.values()} == {root.attributes["thalweg.turn"]}
        assert mine["recogniser"].attributes["thalweg.units"] > 5
        assert all(span.start_time <= span.end_time for span in mine.values())
        assert mine["turn"].start_time <= mine["chat"].start_time


SITE = """
import json, os, pathlib
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with (pathlib.Path(os.environ["SPANS"]) / f"{os.getpid()}.jsonl").open("a") as file:
            for span in spans:
                file.write(span.to_json(indent=None) + "\\n")
        return SpanExportResult.SUCCESS

import thalweg.deploy.ops.observing.spans
thalweg.deploy.ops.observing.spans.QUIET_NS = 3600 * 10**9  # however slow the machine is

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(ToFile()))
trace.set_tracer_provider(provider)
"""


@pytest.mark.real
def test_workers_in_processes_of_their_own_send_their_part_of_the_trace(tmp_path: Path) -> None:
    require_package("opentelemetry.sdk", "dev")
    (tmp_path / "sitecustomize.py").write_text(SITE)
    spans_at = tmp_path / "spans"
    spans_at.mkdir()
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "SPANS": str(spans_at)}
    command = [sys.executable, "-m", "thalweg.deploy", "run", str(TICKING), "--set", "n=20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
    files = list(spans_at.iterdir())
    spans = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(files) == 2
    for turn in (1, 2):
        mine = [span for span in spans if span["attributes"]["thalweg.turn"] == turn]
        assert sorted(span["name"] for span in mine) == ["clock", "drain", "relay", "turn"]
        assert len({span["context"]["trace_id"] for span in mine}) == 1
        by_name = {span["name"]: span for span in mine}
        assert by_name["relay"]["parent_id"] == by_name["clock"]["context"]["span_id"]
        assert by_name["drain"]["parent_id"] == by_name["relay"]["context"]["span_id"]
        assert by_name["relay"]["attributes"]["thalweg.worker"] == "middle"


class Pass:
    inputs = {"text": Token}
    outputs = {"text": Token}

    def process(self, packet: Packet, ctx: Context) -> None:
        ctx.emit(packet.payload)


class TestOneWorker:
    """Spans under a clock that the test moves."""

    @pytest.fixture(autouse=True)
    def _start(self, exported: Any) -> None:
        from opentelemetry import trace

        self.exported = exported
        self.now_ns = 100 * SECOND
        self.told: list[Settled] = []
        tracer = trace.get_tracer_provider().get_tracer("test")
        self.spans = TurnSpans(tracer, "w", "p", lambda: self.now_ns, lambda _, signal: self.told.append(signal))
        self.node = Node("chat", describe(Pass))

    def work(self, epoch: int, at_s: float, for_s: float, trace: str | None = None) -> None:
        unit = dataclasses.replace(packet(Token(text="x"), epoch=epoch, time=round(at_s * SECOND)), trace=trace)
        start_ns, end_ns = round(at_s * SECOND), round((at_s + for_s) * SECOND)
        self.spans.begin(self.node, unit, start_ns)
        self.now_ns = end_ns
        self.spans.end(self.node, epoch, start_ns, end_ns)

    def finished(self) -> dict[str, Any]:
        return {span.name: span for span in self.exported.get_finished_spans()}

    def test_a_span_ends_at_the_last_unit_once_the_stage_has_been_quiet(self) -> None:
        self.work(1, 100, 1)
        self.work(1, 101.5, 0.5)
        self.spans.settle(102 * SECOND + QUIET_NS)
        assert self.finished() == {}
        self.spans.settle(102 * SECOND + QUIET_NS + 1)
        span = self.finished()["chat"]
        assert span.end_time - span.start_time == 2 * SECOND
        assert span.attributes["thalweg.units"] == 2
        assert span.attributes["thalweg.busy_ms"] == 1500
        assert [(signal.origin, signal.epoch) for signal in self.told] == [("chat", 1)]

    def test_a_stage_at_work_is_not_quiet_however_long_it_takes(self) -> None:
        self.spans.begin(self.node, packet(Token(text="x"), epoch=1), 100 * SECOND)
        self.spans.settle(1000 * SECOND)
        assert self.finished() == {}

    def test_the_root_lasts_until_what_the_last_worker_tells_of_it(self) -> None:
        self.work(1, 100, 1)
        self.spans.settle(101 * SECOND + QUIET_NS + 1)
        later_ns = self.told[0].unix_ns + 7 * SECOND
        self.spans.hear(Settled(origin="voice", epoch=1, unix_ns=later_ns))
        self.spans.settle(108 * SECOND + ROOT_QUIET_NS)
        assert "turn" not in self.finished()
        self.spans.settle(108 * SECOND + ROOT_QUIET_NS + 1)
        assert self.finished()["turn"].end_time == later_ns

    def test_what_comes_from_another_worker_hangs_below_the_span_named_in_it(self) -> None:
        self.work(1, 100, 1, trace=f"00-{7:032x}-{9:016x}-01")
        self.spans.close()
        span = self.finished()["chat"]
        assert (span.context.trace_id, span.parent.span_id) == (7, 9)
        assert "turn" not in self.finished()

    @pytest.mark.parametrize("nonsense", ["", "x", f"00-{0:032x}-{0:016x}-01", "00-zz-1-01"])
    def test_a_trace_that_names_no_span_begins_a_turn_here(self, nonsense: str) -> None:
        self.work(1, 100, 1, trace=nonsense)
        self.spans.close()
        assert self.finished()["chat"].parent.span_id == self.finished()["turn"].context.span_id

    def test_a_packet_carries_the_span_of_the_stage_that_emitted_it_and_ambient_ones_none(self) -> None:
        stamped = self.spans.stamp(self.node, 1, None, 100 * SECOND)
        ambient = self.spans.stamp(self.node, 0, None, 100 * SECOND)
        self.spans.close()
        context = self.finished()["chat"].context
        assert stamped is not None
        assert stamped.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
        assert ambient is None

    def test_failures_and_interrupts_are_on_the_spans_of_their_turn(self) -> None:
        self.work(1, 100, 1)
        self.work(2, 101, 1)
        self.spans.fail("chat", 1, "the server is gone")
        self.spans.hear(Interrupt(epoch=2))
        self.spans.close()
        first, second = [span for span in self.exported.get_finished_spans() if span.name == "chat"]
        assert first.status.description == "the server is gone"
        assert first.attributes["thalweg.interrupted"] is True
        assert second.status.is_unset
        assert "thalweg.interrupted" not in second.attributes

    def test_many_turns_leave_a_bounded_number_of_spans_open(self) -> None:
        for epoch in range(1, 5000):
            self.work(epoch, 100, 0)
        assert len(self.exported.get_finished_spans()) >= 2 * (4999 - 4096)


def test_without_a_provider_there_are_no_spans_and_packets_are_not_marked() -> None:
    import opentelemetry.trace  # noqa: F401  # imported, but nobody has configured anything

    assert start_spans("w", "p", lambda: 0, lambda _, __: None) is None
    graph = Graph(name="g")
    graph.add("chat", Pass())
    graph.add("feed", type("Feed", (), {"outputs": {"text": Token}, "run": _nothing})())
    graph.add("sink", type("Sink", (), {"inputs": {"text": Token}, "process": lambda *_: None})())
    graph.connect("feed", "chat")
    graph.connect("chat", "sink")
    worker = Worker(graph)
    asyncio.run(worker.run())
    assert worker.spans is None
    assert all(actor.stamp is None for actor in worker.actors.values())


async def _nothing(_self: object, _ctx: Context) -> None:
    pass
