"""A pipeline as one object: built here in Python, or read from a file; run in one way.

    pipeline = Pipeline("kiosk")
    pipeline.add("vad", "speech.vad", silence="300ms")
    pipeline.add("recogniser", "speech.pocketsphinx")
    pipeline.connect("vad", "recogniser")

It holds what a pipeline file holds, in the same words, and is checked by the same code; `to_yaml` gives the file. A
required input that nothing is connected to is the program's to feed (`Run.send`), an output that feeds nothing is the
program's to read (`Run.packets`).
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.deploy.reading import FileError, carried_problem, module_folders, pack, read_spec
from thalweg.deploy.run import Run
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.catalog import find_stage, registered_name
from thalweg.pipeline.file.complaint import complaint
from thalweg.pipeline.file.dump import dump_document
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.file.source import Source, SourcePlace
from thalweg.pipeline.file.spec import Spec, load_document
from thalweg.pipeline.graph import Graph, GraphError, Vertex, nearest
from thalweg.pipeline.payload import AudioChunk, EncodedVideo, VideoFrame
from thalweg.pipeline.stage import StageError, StageInfo, describe

_MEDIA = (AudioChunk, EncodedVideo, VideoFrame)


class Pipeline:
    """Stages, the connections between them, and where they run. Each call checks what it can check, and raises at once.

    `latency_budget`: from the end of speech to the first sound of the answer, as text (`"900ms"`); turns over it are
    counted in the report.
    """

    def __init__(self, name: str = "pipeline", *, description: str = "", latency_budget: str | None = None) -> None:
        self.graph = Graph(name=name)
        self._document: dict[str, Any] = {"name": name}
        if description:
            self._document["description"] = description
        if latency_budget is not None:
            self._document["latency_budget"] = latency_budget
        self._document |= {"stages": {}, "connections": [], "workers": {}, "placement": {}, "transports": {}}
        self._found: dict[str, StageInfo] = {}
        self._instances: dict[str, object] = {}
        self._here_only: dict[str, str] = {}
        self._exposed: list[str] = []
        self._places: dict[tuple[str | int, ...], SourcePlace] = {}
        self._folders = [str(Path.cwd())]

    def add(
        self,
        name: str,
        use: str | type | object,
        /,
        *,
        deadline: str | None = None,
        retry: str | None = None,
        **settings: object,
    ) -> None:
        """Add the stage `name`. `use`: what it is, by its registered name, as a class, or as an instance.

        `settings`: its parameters, as a file would say them; an instance has its own. `deadline`: how long after
        capture its work is of use, as text. `retry`: of a source, after how long it is run again when it raises, as
        text. Raises StageError, GraphError.
        """
        vertex, body = self._vertex(name, use, settings)
        self.graph.add_vertex(vertex)
        body |= {key: value for key, value in (("deadline", deadline), ("retry", retry)) if value is not None}
        self._document["stages"][name] = body
        self._note_place("stages", name)

    def connect(self, *stages: str, **options: object) -> None:
        """Connect stages in a row: `connect("microphone", "vad.audio", "recogniser")`; ports where there are several.

        `options`: `policy`, `capacity`, `max_age`, `priority`, `delivery`, as in a file, for each edge of the row.
        Raises GraphError; nothing is connected then.
        """
        if len(stages) < 2:
            raise GraphError(f"connect() takes two stages or more, found {', '.join(stages) or 'none'}")
        before = list(self.graph.connections)
        try:
            for source, target in pairwise(stages):
                self.graph.connect(source, target)
        except ThalwegError:
            self.graph.connections = before
            raise
        connections = self._document["connections"]
        self._note_place("connections", len(connections))
        if options:
            connections += [{"from": a, "to": b, **options} for a, b in pairwise(stages)]
        else:
            connections.append(" -> ".join(stages))

    def worker(self, name: str, /, launcher: str = "subprocess", **options: object) -> None:
        """Declare a worker for `place`, with the keys that a file's `workers` takes (`restart`, `gpus`, …)."""
        self._document["workers"][name] = {"launcher": launcher, **options}
        self._note_place("workers", name)

    def place(self, stage: str, /, worker: str) -> None:
        """Have a stage run on a worker. One that was not declared is a subprocess; `local` is this process.

        Raises GraphError where there is no such stage, or where it is an object of this process and cannot leave it.
        """
        if stage not in self.graph.stages:
            raise GraphError(f"there is no stage {stage!r}{nearest(stage, self.graph.stages)}")
        if stage in self._here_only and worker != LOCAL:
            raise GraphError(f"stage {stage} cannot run on worker {worker}: {self._here_only[stage]}")
        if worker not in self._document["workers"] and worker not in (LOCAL, "subprocess", "ray"):
            self.worker(worker)
        self._document["placement"][stage] = worker
        self._note_place("placement", stage)

    def transport(self, edge: str, kind: str) -> None:
        """What carries the edge `a.port -> b.port` between workers: `shm`, `grpc` or `auto`."""
        self._document["transports"][edge] = kind
        self._note_place("transports", edge)

    def expose(self, *ports: str) -> None:
        """Let the program read outputs that are connected, too, or that carry media on other workers."""
        for port in ports:
            stage, _, name = port.partition(".")
            if stage not in self.graph.stages or name not in self.graph.stages[stage].info.outputs:
                outputs = [f"{s}.{p}" for s, v in self.graph.stages.items() for p in v.info.outputs]
                raise GraphError(f"there is no output {port!r}{nearest(port, outputs)}; outputs: {', '.join(outputs)}")
            if port not in self._exposed:
                self._exposed.append(port)

    def check(self) -> None:
        """Raises SpecError with everything that keeps it from running, each with the line that said it."""
        self._spec(program=True)

    def to_yaml(self) -> str:
        """The pipeline as a file. Raises DumpError where a setting is no plain value, GraphError where a stage is an
        object of this process.
        """
        for stage, reason in self._here_only.items():
            raise GraphError(f"stage {stage} cannot be written down: {reason}")
        return dump_document({key: value for key, value in self._document.items() if value or key == "stages"})

    def run(
        self,
        *,
        on_problem: Callable[[Problem], None] | None = None,
        logs: Path | None = None,
        traced: bool = False,
    ) -> Run:
        """A run, to be entered with `async with`; a pipeline may run several times, also at once.

        `on_problem`: told what goes wrong, as it does. `logs`: an existing folder in which workers in other processes
        write what they print. `traced`: record who worked when, for `Outcome.events`. Raises SpecError, DumpError.
        """
        spec = self._spec(program=True)
        bundle = None if spec.plan.only_local else pack(spec, f"{self.graph.name}.yaml", self._folders, traced=traced)
        return Run(spec, bundle, on_problem=on_problem, logs=logs, traced=traced)

    def run_sync(self, *, on_problem: Callable[[Problem], None] | None = None) -> Outcome:
        """Run it to the end of its sources and return what came of it; from anywhere, also inside a running loop.

        There (in a notebook, say) it runs in a thread of its own, and this call waits. Raises as `run`, StartError.
        """

        async def main() -> Outcome:
            async with self.run(on_problem=on_problem) as run:
                return await run.finish()

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(main())
        return _in_thread(lambda: asyncio.run(main()))

    def _vertex(
        self, name: str, use: str | type | object, settings: Mapping[str, object]
    ) -> tuple[Vertex, dict[str, Any]]:
        if isinstance(use, str | type):
            info = find_stage(use) if isinstance(use, str) else describe(use)
            try:
                arguments = info.check(settings)
            except ValidationError as error:
                wrong = "; ".join(complaint(name, info, problem) for problem in error.errors())
                raise StageError(f"stage {name}: {wrong}") from None
            named = use if isinstance(use, str) else self._name_of(name, use, info)
            return Vertex(name=name, info=info, make=lambda: info.cls(**arguments)), {"use": named, **settings}
        if settings:
            raise StageError(
                f"stage {name} is an instance, which has its settings: {', '.join(settings)} cannot be set"
            )
        info = replace(describe(type(use)), made=True)
        token = f"instance:{name}"
        self._found[token] = info
        self._instances[name] = use
        self._here_only[name] = "it was given as an instance, which only this process has; give its class instead"
        return Vertex(name=name, info=info, make=lambda: use), {"use": token}

    def _name_of(self, name: str, cls: type, info: StageInfo) -> str:
        """What a file calls the class; where it has no name that another process could find, remember why."""
        registered = registered_name(cls)
        if registered is not None:
            return registered
        module, qualname = cls.__module__, cls.__qualname__
        if module == "__main__":
            main = getattr(sys.modules["__main__"], "__file__", None)
            if main is None:
                self._here_only[name] = f"{qualname} was typed into an interpreter, so no other process has it"
            else:
                module = Path(main).stem
                self._folders.append(str(Path(main).resolve().parent))
        if "<locals>" in qualname:
            self._here_only[name] = f"{qualname} is defined inside a function, where no other process finds it"
        use = f"{module}:{qualname}"
        self._found[use] = info
        return use

    def _find(self, use: str) -> StageInfo:
        return self._found[use] if use in self._found else find_stage(use)

    def _spec(self, *, program: bool) -> Spec:
        """Checked as a whole; `program`: with the ends that the program holds."""
        document = dict(self._document)
        if program:
            self._add_ends(document)
        source = Source(f"{self.graph.name} (built in Python)", document, self._places)
        spec = load_document(source, self._find, carried_problem)
        for graph in (spec.graph, spec.deployed):
            for name, instance in self._instances.items():
                if name in graph.stages:
                    graph.stages[name] = _made(graph.stages[name], instance)
        return spec

    def _add_ends(self, document: dict[str, Any]) -> None:
        """Give the program every end that is open."""
        fed = {(c.target, c.target_port) for c in self.graph.connections}
        feeding = {(c.source, c.source_port) for c in self.graph.connections}
        ends: list[tuple[str, str, str]] = []
        for name, vertex in self.graph.stages.items():
            for port, declared in vertex.info.inputs.items():
                if declared.required and (name, port) not in fed:
                    ends.append(("program.input", f"program-to-{name}-{port}", f"{name}.{port}"))
            for port, out in vertex.info.outputs.items():
                shown = f"{name}.{port}"
                place = document["placement"].get(name, LOCAL)
                near = place == LOCAL or not isinstance(place, str) or not issubclass(out.type, _MEDIA)
                if shown in self._exposed or ((name, port) not in feeding and near):
                    ends.append(("program.output", f"program-from-{name}-{port}", shown))
        document["stages"] = document["stages"] | {end: {"use": use} for use, end, _ in ends}
        document["placement"] = document["placement"] | {end: LOCAL for _, end, _ in ends}
        document["connections"] = document["connections"] + [
            f"{end} -> {port}" if use == "program.input" else f"{port} -> {end}" for use, end, port in ends
        ]

    def _note_place(self, *path: str | int) -> None:
        frame = sys._getframe(2)
        self._places[path] = SourcePlace(frame.f_code.co_filename, frame.f_lineno, 1)


def load(path: str | Path, **settings: object) -> Pipeline:
    """The pipeline in a file, its variables set to `settings`. Raises FileError, SpecError."""
    file = Path(path)
    if not file.exists():
        raise FileError(f"cannot read {file}: there is no such file")
    spec = read_spec(file, {name: str(value) for name, value in settings.items()})
    pipeline = Pipeline(spec.graph.name)
    pipeline.graph = spec.graph
    pipeline._document = spec.document | {
        key: spec.document.get(key, {}) for key in ("workers", "placement", "transports")
    }
    pipeline._folders = module_folders(file)
    return pipeline


def _made(vertex: Vertex, instance: object) -> Vertex:
    return replace(vertex, make=lambda: instance)


def _in_thread(function: Callable[[], Outcome]) -> Outcome:
    """Call it in a thread of its own, and wait."""
    result: list[Outcome] = []
    failure: list[BaseException] = []

    def call() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=call, name="thalweg-run")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
