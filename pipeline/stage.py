"""The interface of a stage: a plain class that names its ports and handles one packet at a time.

    class Louder:
        '''Makes audio louder.'''

        inputs = {"audio": AudioChunk}
        outputs = {"audio": AudioChunk}

        def __init__(self, gain: Annotated[float, Field(gt=0)] = 2.0) -> None:
            self.gain = gain

        def process(self, packet, ctx):
            ctx.emit(AudioChunk(samples=packet.payload.samples * self.gain, rate=packet.payload.rate))

No base class is needed. The keyword parameters of `__init__` are the parameters in a pipeline file, validated by their
annotations. A stage may have these methods and attributes, which are found by name:

    process(packet, ctx)     one packet; plain or async. Not called again before it has returned and all that it
                             emitted was accepted downstream
    process_joined(set, ctx) instead of `process`, where the class attribute `join` says how inputs are matched
    run(ctx)                 async; of a source, a stage without inputs. Its return ends the output streams
    open(ctx), close()       before the first packet, after the last one; plain ones run in a thread
    finish(ctx)              every input has ended: emit what is still held
    on_signal(signal, ctx)   a signal passes; called on the event loop at any moment, must return at once
    wake(ctx)                the time of `ctx.wake_at` has come; as `on_signal`, but between two packets
    snapshot(), restore(s)   the state between two packets, as a tree of arrays and plain values
    remembered(), recall(r)  the part of a conversation that must survive the loss of its machine: read at any moment,
                             small, as JSON. Its `asked` is the current question: {turn, text}; `recall` also gets
                             `heard`, {turn, text}, the part of the answer that was heard
    go_on(packet, sent, over, ctx)
                             beside `snapshot`: finish a packet that another place (`placement`) was processing
                             when it was lost, of which the payloads `sent` are out; where it is `over`, nothing more is
                             wanted of it, and only the state is to follow. For stages that would not do the same again
    crossing(packet)         the part of a packet that may be processed at another place (`placement`): the packet, one
                             with less in it, or None; asked here of every packet, before anything of it crosses
    stays                    True once nothing may cross any more, its state neither: what follows is processed here
    configurable, configure  the parameters that can change while it runs, and the method that applies them
    may_become(arguments)    static: the values that `configure` accepts, parameter → values, if fewer than its type
                             has; from its own parameters. `preferences` of a file are checked against them
    keeps_here(arguments)    static: why, with these parameters, it must not process on another machine (`placement`);
                             empty if it may
    declare(settings)        applies settings that are not for one sample, from the next sample on
    knobs, choices()         the parameters that an optimizer may set, parameter → `configuring.Kind`, and their
                             possible values, parameter → values as text, cheapest first
    configures(arguments)    static: the settings of other stages that it will change, as (stage, settings), from its
                             own parameters. Checked before anything starts
    counts                   its counters since the start, name → number: shown in reports and metrics
    keeps = "…"              it stores data of people: what, and where, in a few words. Shown to people who talk to it,
                             and refused where a pipeline file says `keep: nothing`
    single = True            a pipeline has one at most
    staying = {…}            defaults of parameters in an unattended run (`up`, `serve`)
    blocking = True          `process` computes or blocks for long, so it runs on a thread of its own
    replicable               "stateless": the output for a packet depends on no other packet. "keyed": on no packet of
                             another key; then the static method `key(packet)` returns the key, text or a number. Then
                             replicas can share the packets of a stream (`workers: {pool: {replicas: 2}}`)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.hooks import hook_problems
from thalweg.pipeline.packet import Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.senses.configuring import Kind
from thalweg.pipeline.signal import Direction, Signal

STATELESS, KEYED = "stateless", "keyed"
REPLICABLE = (STATELESS, KEYED)


class StageError(ThalwegError):
    """A class is not a valid stage, or a stage got invalid parameters."""


class Stage:
    """An optional base for stages: the declarations with their types, without behaviour.

    The hooks are listed at the head of this module; `describe` refuses misspelt ones.
    """

    inputs: ClassVar[Mapping[str, Port | type[Payload]]] = {}
    outputs: ClassVar[Mapping[str, Port | type[Payload]]] = {}


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output. `many`: several edges may end here (inputs only; an output may always feed several).

    `required`: something must be connected (inputs only). An optional port is ignored where a connection or `emit`
    names no port.
    """

    type: type[Payload]
    required: bool = True
    many: bool = False
    doc: str = ""


class Context(Protocol):
    """What a stage can use while one of its methods runs."""

    @property
    def name(self) -> str:
        """The stage's name in the pipeline."""
        ...

    @property
    def port(self) -> str:
        """The input port of the current packet."""
        ...

    @property
    def stale(self) -> bool:
        """True once an interrupt has overtaken the current packet: stop early, the rest is not wanted."""
        ...

    @property
    def lent(self) -> bool:
        """True on a lent worker: `peek` finds nothing there, and `go_on` may finish elsewhere what it began."""
        ...

    def now_ns(self) -> int:
        """The time now, by the pipeline's clock."""
        ...

    def emit(
        self,
        payload: Payload,
        *,
        port: str | None = None,
        time: int | None = None,
        epoch: int | None = None,
        deadline: int | None = None,
    ) -> None:
        """Send a payload on `port` (default: the only one). Thread-safe, never waits.

        Time, epoch, deadline and trace default to those of the current packet. Raises StageError on an unknown port or
        a payload of another type.
        """
        ...

    async def send(self, payload: Payload, *, port: str | None = None, time: int, epoch: int = 0) -> None:
        """As `emit`, and wait until there is room downstream: back-pressure for a source."""
        ...

    def peek(self, port: str | None = None) -> Packet | None:
        """The packet after the current one, at `port` or any port; it stays in the queue. Thread-safe.

        For a stage that works ahead and must know when that work is no longer needed.
        """
        ...

    async def waiting(self) -> Packet:
        """Wait until there is a packet to `peek` at. For one task at a time, during `process`."""
        ...

    async def compute(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run `function` on this stage's own thread and return what it returns."""
        ...

    async def sleep_until(self, time_ns: int) -> None:
        """Wait until the pipeline's clock shows `time_ns`."""
        ...

    def wake_at(self, time_ns: int | None) -> None:
        """Schedule a call of `wake(ctx)` at `time_ns` or soon after, with or without packets; None cancels it.

        Only the last requested time is kept. A time that is pending when the inputs end is ignored.
        """
        ...

    def signal(self, signal: Signal, direction: Direction = Direction.DOWN) -> None:
        """Raise a signal along the edges. Thread-safe."""
        ...

    def new_epoch(self) -> int:
        """A new epoch, above every one that this stage has seen."""
        ...

    def report(self, problem: str) -> None:
        """Report that the current turn failed. It is counted and shown, and the run goes on."""
        ...


def only_port(ports: Mapping[str, Port]) -> str | None:
    """The default port: the only one, or else the only required one."""
    names = list(ports) if len(ports) == 1 else [name for name, port in ports.items() if port.required]
    return names[0] if len(names) == 1 else None


class _Parameters(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True)
class StageInfo:
    """The description of a stage class, without an instance. `use`: its name in a pipeline file.

    `made`: an instance exists already, so no settings can be given.
    """

    use: str
    cls: type
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    configurable: frozenset[str]
    blocking: bool
    replicable: str = ""
    knobs: Mapping[str, Kind] = field(default_factory=dict)
    made: bool = False

    @property
    def keeps(self) -> str:
        """The data of people that it stores; empty if none."""
        return str(getattr(self.cls, "keeps", ""))

    @property
    def doc(self) -> str:
        """The docstring, cleaned; its first line is the summary."""
        return inspect.getdoc(self.cls) or ""

    @property
    def is_source(self) -> bool:
        """Whether it has no inputs."""
        return not self.inputs

    @property
    def resumes(self) -> bool:
        """Whether it can continue after a restart without loss: it has a snapshot, or no state."""
        return (hasattr(self.cls, "snapshot") and hasattr(self.cls, "restore")) or (self.replicable == STATELESS)

    @cached_property
    def parameters(self) -> type[BaseModel]:
        """The keyword parameters of `__init__` as a pydantic model."""
        fields: dict[str, Any] = {}
        if self.cls.__init__ is not object.__init__:  # type: ignore[misc]
            hints = get_type_hints(self.cls.__init__, include_extras=True)  # type: ignore[misc]
            for parameter in list(inspect.signature(self.cls).parameters.values()):
                if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                    raise StageError(f"stage {self.use}: __init__ takes *{parameter.name}; name every parameter")
                default = ... if parameter.default is parameter.empty else parameter.default
                fields[parameter.name] = (hints.get(parameter.name, Any), default)
        return create_model(self.cls.__name__, __base__=_Parameters, **fields)

    def check(self, settings: Mapping[str, object]) -> dict[str, Any]:
        """Settings of a pipeline file as keyword arguments. Raises pydantic's ValidationError."""
        checked = self.parameters.model_validate(dict(settings))
        return {name: getattr(checked, name) for name in checked.model_fields_set}

    def check_some(self, settings: Mapping[str, object]) -> dict[str, Any]:
        """As `check`, for settings that change while it runs: required ones may be omitted. Raises StageError."""
        try:
            return {name: _validate(self.parameters, name, value) for name, value in settings.items()}
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors()]
            raise StageError(f"stage {self.use}: {'; '.join(wrong)}") from None


def describe(cls: type, use: str = "") -> StageInfo:
    """Read a stage class. Raises StageError if it declares no ports, has no method to call, or has a misspelt hook."""
    use = use or f"{cls.__module__}:{cls.__qualname__}"
    inputs = _ports(cls, use, "inputs")
    outputs = _ports(cls, use, "outputs")
    if not inputs and not outputs:
        raise StageError(f"{use} is not a stage: it has neither `inputs` nor `outputs`")
    wanted = ("process_joined" if hasattr(cls, "join") else "process") if inputs else "run"
    wrong = hook_problems(cls)
    if getattr(cls, wanted, None) is None:
        wrong.insert(0, f"it has {'inputs' if inputs else 'no inputs'} but no method `{wanted}`")
    if wrong:
        raise StageError(f"stage {use}: {'; '.join(wrong)}")
    return StageInfo(
        use=use,
        cls=cls,
        inputs=inputs,
        outputs=outputs,
        configurable=frozenset(getattr(cls, "configurable", ())),
        blocking=bool(getattr(cls, "blocking", False)),
        replicable=_replicable(cls, use),
        knobs=_knobs(cls, use),
    )


def _replicable(cls: type, use: str) -> str:
    declared = getattr(cls, "replicable", "")
    if declared not in ("", *REPLICABLE):
        raise StageError(f"stage {use}: `replicable` is {declared!r}, expected one of {', '.join(REPLICABLE)}")
    if declared and (not getattr(cls, "inputs", {}) or hasattr(cls, "join")):
        raise StageError(f"stage {use} is a source or a join, which cannot be `replicable`")
    if declared == KEYED and not isinstance(inspect.getattr_static(cls, "key", None), staticmethod):
        raise StageError(f"stage {use} is `replicable` by key, but has no static method `key(packet)` that says which")
    return str(declared)


def _knobs(cls: type, use: str) -> dict[str, Kind]:
    knobs = dict(getattr(cls, "knobs", {}))
    fixed = sorted(set(knobs) - set(getattr(cls, "configurable", ())))
    if fixed or not all(isinstance(kind, Kind) for kind in knobs.values()):
        raise StageError(f"stage {use}: `knobs` are {knobs}, expected configurable parameters and a Kind for each")
    if knobs and not callable(getattr(cls, "choices", None)):
        raise StageError(f"stage {use} has knobs but no method `choices` that says what they may be set to")
    return knobs


def _validate(model: type[BaseModel], name: str, value: object) -> Any:
    blank = model.model_construct()
    model.__pydantic_validator__.validate_assignment(blank, name, value)
    return getattr(blank, name)


def _ports(cls: type, use: str, side: str) -> dict[str, Port]:
    declared = getattr(cls, side, {})
    if not isinstance(declared, Mapping):
        raise StageError(f"stage {use}: `{side}` is {declared!r}, expected a dict of port name to payload type")
    ports: dict[str, Port] = {}
    for name, port in declared.items():
        ports[name] = port if isinstance(port, Port) else Port(port)
        if not (isinstance(ports[name].type, type) and issubclass(ports[name].type, Payload)):
            raise StageError(f"stage {use}: port {name} carries {port!r}, expected a subclass of Payload")
    return ports
