"""The pipeline file: what it may say, and the graph it stands for.

    name: louder
    variables:
      input: null                     # must be given: --set input=speech.wav
    stages:
      file: {use: audio.file, path: "${input}"}
      sink: {use: sink.jsonl}
    connections:
      - file -> sink

Everything is checked before anything starts, and everything that is wrong is said at once, each with its line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from thalweg.pipeline.cluster.replica_plan import replicate, replication_problems
from thalweg.pipeline.cluster.sharing import sharing_problems
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.catalog import find_stage
from thalweg.pipeline.file.complaint import complaint
from thalweg.pipeline.file.configured import configured_problems, single_problems
from thalweg.pipeline.file.edges import Edges
from thalweg.pipeline.file.filling import kind
from thalweg.pipeline.file.leaving import leaving
from thalweg.pipeline.file.places import placing_of
from thalweg.pipeline.file.plan import LAUNCHERS, LOCAL, TRANSPORTS, Plan, make_plan
from thalweg.pipeline.file.preferences import Preference, read_preferences
from thalweg.pipeline.file.source import Source, SourcePlace, SpecError, read_source
from thalweg.pipeline.file.unread import Unread, ends_of, unread
from thalweg.pipeline.file.values import fit, guess, plain
from thalweg.pipeline.file.worker_options import WORKER_TEXTS, read_worker
from thalweg.pipeline.graph import Graph, Vertex, maker, nearest
from thalweg.pipeline.stage import StageError, StageInfo
from thalweg.pipeline.suggestion import few_suggestions

TOP_KEYS = (
    "name",
    "description",
    "include",
    "variables",
    "latency_budget",
    "keep",
    "preferences",
    "stages",
    "connections",
    "workers",
    "placement",
    "transports",
)
MOST_FILES = 100
"""Of one pipeline: the file and what it includes."""
STAGE_KEYS = ("use", "deadline", "retry")

ReadFile = Callable[[str, str], tuple[str, str]]
"""`(name, file that names it) -> (path, text)`: how an included file is read. Raises OSError."""

Carried = Callable[[type], str | None]
"""What keeps packets with this payload from being written as bytes, if anything does."""


@dataclass(slots=True)
class Spec:
    """A checked pipeline file. `deployed`: the graph as the workers of `plan` run it, with splitters and mergers where
    stages are replicated; without those it is `graph`. `document`: what the file says, with what it includes and the
    values of its variables put in. `keeps_nothing`: no stage leaves anything of people behind, and nothing else shall:
    the file says `keep: nothing`. `preferences`: what people may set for their own conversation. `unchecked`: stages
    whose classes were not imported, with the name of each.
    """

    graph: Graph
    description: str = ""
    latency_budget_ns: int | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan({}, {}))
    deployed: Graph = field(default_factory=Graph)
    document: dict[str, Any] = field(default_factory=dict)
    unchecked: dict[str, str] = field(default_factory=dict)
    keeps_nothing: bool = False
    preferences: dict[str, Preference] = field(default_factory=dict)

    @property
    def kept(self) -> dict[str, str]:
        """What stages leave behind of people, by their names."""
        return {name: vertex.info.keeps for name, vertex in self.graph.stages.items() if vertex.info.keeps}

    def in_this_process(self) -> Spec:
        """The same with every stage in this process, and none of them replicated."""
        edges = {c.name: (c.source, c.target) for c in self.graph.connections}
        plan = make_plan(dict.fromkeys(self.graph.stages, LOCAL), edges, {}, {})
        return replace(self, plan=plan, deployed=self.graph)


def load_spec(
    text: str,
    file: str = "pipeline.yaml",
    *,
    settings: Mapping[str, str] | None = None,
    read_file: ReadFile | None = None,
    find: Callable[[str], StageInfo] = find_stage,
    carried: Carried = lambda _: None,
    stand_ins: bool = False,
) -> Spec:
    """Check a pipeline file and build its graph; no stage is made yet.

    `settings`: values of variables, as text (`file.values`); `stand_ins`: those without one get their name for it,
    since the pipeline is only to be looked at. Raises SpecError with everything that is wrong.
    """
    loader = _Loader(dict(settings or {}), read_file, find, carried, stand_ins=stand_ins)
    loader.read(text, file)
    with few_suggestions():
        return loader.spec()


def load_document(
    source: Source, find: Callable[[str], StageInfo] = find_stage, carried: Carried = lambda _: None
) -> Spec:
    """As `load_spec`, of a file's content that was made by a program: `${…}` has no meaning in it."""
    loader = _Loader({}, None, find, carried, literal=True)
    loader.take(source)
    with few_suggestions():
        return loader.spec()


class _Loader(Edges):
    """Collects problems while it builds; the first complaint about a thing is the only one."""

    def __init__(
        self,
        settings: dict[str, str],
        read_file: ReadFile | None,
        find: Callable[[str], StageInfo],
        carried: Carried,
        *,
        literal: bool = False,
        stand_ins: bool = False,
    ) -> None:
        super().__init__(settings, literal, stand_ins)
        self._read_file = read_file
        self._find = find
        self._carried = carried
        self._sources: list[Source] = []
        self._settled: dict[str, dict[str, Any]] = {}
        self._unchecked: dict[str, str] = {}
        self._workers: dict[str, Any] = {}
        self._followed: dict[str, Any] = {}
        self._infos: dict[str, StageInfo] = {}
        self._arguments_of: dict[str, dict[str, Any]] = {}
        self._placed: dict[str, SourcePlace] = {}
        self._reading: list[str] = []

    def read(self, text: str, file: str) -> None:
        """Parse a file and, before it, what it includes."""
        self.take(read_source(text, file))

    def take(self, source: Source) -> None:
        """As `read`, of a file that is parsed already."""
        file = source.file
        if not isinstance(source.value, dict):
            found = "is empty" if source.value is None else f"is a {kind(source.value)}"
            found += ", expected `name`, `stages` and `connections`"
            raise SpecError([(SourcePlace(file, 1, 1), f"the file {found}")])
        self._reading.append(file)
        for i, name in enumerate(self._list(source, "include")):
            self._include(source, i, name)
        self._reading.pop()
        self._sources.append(source)

    def spec(self) -> Spec:
        """The graph, or SpecError."""
        main = self._sources[-1]
        for source in self._sources:
            for key in source.value:
                if key not in TOP_KEYS and not key.startswith("x-"):
                    near = nearest(key, TOP_KEYS)
                    self._wrong(source, (key,), f"unknown key {key!r}{near}, expected one of {_or(TOP_KEYS)}")
            self._declare(source)
        for name in self._settings:
            if name not in self._variables:
                self._wrong(main, (), f"--set {name}=…: there is no variable {name!r}{nearest(name, self._variables)}")
        graph = Graph(name=self._text(main, ("name",), main.value.get("name")) or main.file)
        self._ends = ends_of(given for source in self._sources for given in self._list(source, "connections"))
        for source in self._sources:
            self._stages(source, graph)
        for source in self._sources:
            self._connections(source, graph)
        budget = self._duration(main, ("latency_budget",), main.value.get("latency_budget"))
        keeps_nothing = self._keep(main, graph)
        asked = self._mapping(main, "preferences")
        said = {name: self._values(main, ("preferences", name), body) for name, body in asked.items()}
        preferences, wrong = read_preferences(said, graph, self._arguments_of)
        for name, problem in wrong if not self._broken else ():
            self._wrong(main, ("preferences", name) if name else ("preferences",), f"preference {name}: {problem}")
        plan = self._plan(main, graph)
        if not self._problems:
            self._problems += [(main.place("stages"), problem) for problem in graph.problems()]
            for name, problem in (*configured_problems(graph, self._arguments_of), *single_problems(graph)):
                self._problems.append((self._placed[name], problem))
            for key, found in (("replicas", replication_problems), ("shared", sharing_problems)):
                for worker, problem in found(graph, plan):
                    self._wrong(main, ("workers", worker, key), problem)
            for c in leaving(graph, plan):
                if why := self._carried(graph.stages[c.source].info.outputs[c.source_port].type):
                    self._problems.append((self._connected[c.name], f"{c.name} leads to another process: {why}"))
        if self._problems:
            raise SpecError(self._problems)
        deployed, plan = replicate(graph, plan)
        description = self._text(main, ("description",), main.value.get("description"))
        document = self._document(graph.name) | ({"preferences": plain(said)} if said else {})
        variables = plain(self._variables)
        return Spec(
            graph, description, budget, variables, plan, deployed, document, self._unchecked, keeps_nothing, preferences
        )

    def _keep(self, main: Source, graph: Graph) -> bool:
        """Whether nothing of people is to be left behind; what stages would do so is wrong then."""
        said = self._text(main, ("keep",), main.value.get("keep"))
        if main.value.get("keep") is None:
            return False
        if said != "nothing":
            self._wrong(main, ("keep",), f"`keep` is {said!r}, expected `nothing`, or to be left out")
        for source in self._sources:
            for name in self._mapping(source, "stages"):
                found = graph.stages.get(name)
                if found is not None and found.info.keeps:
                    self._wrong(
                        source,
                        ("stages", name),
                        f"{name} ({found.info.use}) keeps {found.info.keeps}, and the file says `keep: nothing`: "
                        "leave out the one or the other",
                    )
        return True

    def _document(self, name: str) -> dict[str, Any]:
        """What all the files say, as one without variables."""
        main = self._sources[-1]
        document: dict[str, Any] = {"name": name}
        for key in ("description", "latency_budget", "keep"):
            if main.value.get(key) is not None:
                document[key] = self._text(main, (key,), main.value[key])
        document["stages"] = {}
        document["connections"] = self._edges
        for source in self._sources:
            for name, body in self._mapping(source, "stages").items():
                said = {"use": body} if isinstance(body, str) else body
                rest = {key: self._text(source, ("stages", name, key), said[key]) for key in STAGE_KEYS if key in said}
                document["stages"][name] = rest | self._settled[name]
        if main.value.get("workers"):
            document["workers"] = self._workers
        for key in ("placement", "transports"):
            if main.value.get(key):
                document[key] = {
                    n: self._followed.get(n) or self._text(main, (key, n), value)
                    for n, value in main.value[key].items()
                }
        plained: dict[str, Any] = plain(document)
        return plained

    def _include(self, source: Source, i: int, name: Any) -> None:
        try:
            if self._read_file is None:
                raise OSError("files cannot be included here")
            if len(self._sources) + len(self._reading) > MOST_FILES:
                raise OSError(f"more than {MOST_FILES} files are included")
            file, text = self._read_file(self._text(source, ("include", i), name), source.file)
            if file in self._reading:
                self._wrong(source, ("include", i), f"{name!r} is included in a circle")
            elif all(file != other.file for other in self._sources):
                self.read(text, file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self._wrong(source, ("include", i), f"cannot include {name!r}: {reason}")
        except SpecError as error:
            self._problems += error.problems

    def _stages(self, source: Source, graph: Graph) -> None:
        for name, body in self._mapping(source, "stages").items():
            path = ("stages", name)
            if isinstance(body, str):
                body = {"use": body}
            if not isinstance(body, dict) or not isinstance(body.get("use"), str):
                self._wrong(source, path, f"stage {name!r} needs `use: NAME`, the kind of stage it is")
                self._broken.add(name)
                continue
            try:
                info = self._infos.get(body["use"]) or self._find(body["use"])
                self._infos[body["use"]] = info
                settings = {k: self._fill(source, (*path, k), v) for k, v in body.items() if k not in STAGE_KEYS}
                if info.cls is Unread:
                    info = unread(info.use, self._ends[name])
                    self._unchecked[name] = info.use
                    self._settled[name] = {key: guess(value) for key, value in settings.items()}
                    arguments: dict[str, Any] | None = {}
                elif info.made:
                    self._settled[name], arguments = {}, {}
                else:
                    arguments = self._arguments(source, path, name, info, settings)
                deadline = self._duration(source, (*path, "deadline"), body.get("deadline"))
                retry = self._duration(source, (*path, "retry"), body.get("retry"))
                if retry is not None and not info.is_source and info.cls is not Unread:
                    self._wrong(source, (*path, "retry"), f"stage {name!r} is no source, and only those are run again")
                if arguments is not None:
                    self._arguments_of[name], self._placed[name] = arguments, source.place(*path)
                    make = maker(info.cls, arguments)
                    vertex = Vertex(name=name, info=info, make=make, deadline_ns=deadline, retry_ns=retry)
                    graph.add_vertex(vertex)
                    continue
            except StageError as error:
                self._wrong(source, (*path, "use"), str(error))
            except ThalwegError as error:
                self._wrong(source, path, str(error))
            self._broken.add(name)

    def _arguments(
        self, source: Source, path: tuple[str, ...], name: str, info: StageInfo, settings: dict[str, Any]
    ) -> dict[str, Any] | None:
        try:
            self._settled[name] = fit(info, settings, lambda inner: self._written(source, (*path, *inner)))
            return info.check(self._settled[name])
        except ValidationError as error:
            for wrong in error.errors():
                self._wrong(source, (*path, *wrong["loc"][:1]), complaint(name, info, wrong))
            return None

    def _plan(self, source: Source, graph: Graph) -> Plan:
        workers = {name: self._worker(source, name, body) for name, body in self._mapping(source, "workers").items()}
        places = dict.fromkeys(graph.stages, LOCAL)
        valid = [*workers, *LAUNCHERS]
        for name, place in self._mapping(source, "placement").items():
            if isinstance(place, list | dict):
                self._follow(source, graph, name, place)
                continue
            place = self._text(source, ("placement", name), place)
            if place not in valid:
                hint = nearest(str(place), valid)
                message = f"there is no worker {place!r}{hint}; name it under `workers`, or use {_or(LAUNCHERS)}"
                self._wrong(source, ("placement", name), message)
            elif name == "default":
                places = {stage: place if host == LOCAL else host for stage, host in places.items()}
            elif name in graph.stages:
                places[name] = place
            elif name not in self._broken:
                self._wrong(source, ("placement", name), f"there is no stage {name!r}{nearest(name, graph.stages)}")
        edges = {c.name: (c.source, c.target) for c in graph.connections}
        transports: dict[str, str] = {}
        for name, transport in self._mapping(source, "transports").items():
            transport = self._text(source, ("transports", name), transport)
            if name not in edges and not self._unchecked:  # their edges may have other names
                self._wrong(source, ("transports", name), f"there is no edge {name!r}{nearest(name, edges)}")
            if transport not in TRANSPORTS:
                self._wrong(source, ("transports", name), f"{transport!r} is not one of {_or(TRANSPORTS)}")
            transports[name] = transport
        return make_plan(places, edges, workers, transports).noting(lambda stage: graph.stages[stage].info.resumes)

    def _follow(self, source: Source, graph: Graph, name: str, said: Any) -> None:
        """Several places for one stage: see `pipeline.fleet.moving.places`."""
        path = ("placement", name)
        if name not in graph.stages:
            if name not in self._broken:
                self._wrong(source, path, f"there is no stage {name!r}{nearest(name, graph.stages)}")
            return
        filled = self._followed[name] = self._values(source, path, said)
        placing, arguments, wrong = placing_of(graph.stages[name], self._settled[name], filled)
        for message in wrong:
            self._wrong(source, path, message)
        if placing is not None:
            vertex = graph.stages[name]
            make = vertex.make if arguments is None else maker(vertex.info.cls, arguments)
            graph.stages[name] = replace(vertex, placing=placing, make=make)

    def _worker(self, source: Source, name: str, body: Any) -> dict[str, Any]:
        path = ("workers", name)
        said: dict[str, Any] | str | None
        if isinstance(body, dict):
            said = {key: self._option(source, (*path, key), value) for key, value in body.items()}
        else:
            said = self._text(source, path, body) if body is not None else None
        self._workers[name] = said
        options, wrong = read_worker(name, said)
        for key, message in wrong:
            self._wrong(source, (*path, key) if key else path, message)
        return options

    def _option(self, source: Source, path: tuple[str | int, ...], value: Any) -> Any:
        """An option of a worker: text where text is meant, else what it looks like."""
        if isinstance(value, dict):
            return {key: self._option(source, (*path, key), inner) for key, inner in value.items()}
        means_text = path[2] in WORKER_TEXTS and value is not None and not isinstance(value, list)
        return self._text(source, path, value) if means_text else guess(self._fill(source, path, value))


def _or(names: Any) -> str:
    return ", ".join(names)
