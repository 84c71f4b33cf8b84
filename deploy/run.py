"""One run of a pipeline, controlled by the program that started it.

    async with pipeline.run() as run:
        await run.send("vad.audio", chunk)
        async for packet in run.packets("chat.token"):
            ...

Theory of operation. A run is a deployment, the same that `thalweg run`, `up` and the tests use, in this process or on
many hosts. The program's own ends are two stages in this process, `program.input` and `program.output`, connected like
any others; so back-pressure, epochs and counters apply to a program, too.

    entering the block     every stage is open, or StartError is raised (SpecError if the pipeline is invalid)
    inside                 it runs beside the program; errors are added to `problems` and passed to `on_problem`
    `finish`               no more input: queued packets are processed, then the outcome is returned
    leaving the block      sources end, queued packets have `DRAIN_S` to be processed, then the run is aborted
    leaving by an error    the run is aborted at once
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.ops.observing.outcome import Outcome, Problem
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import LOCAL
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.graph import Connection, nearest
from thalweg.pipeline.packet import AMBIENT, Packet
from thalweg.pipeline.payload import Payload
from thalweg.pipeline.stage import StageError
from thalweg.stages.io.program import ProgramInput, ProgramOutput

DRAIN_S = 1.2


class RunError(ThalwegError):
    """The run has no such input, output or stage."""


class Run(Deployment):
    """See above. Made by `Pipeline.run`; can be entered once.

    `problems`: the newest hundred errors so far.
    """

    def __init__(
        self,
        spec: Spec,
        bundle: Bundle | None = None,
        *,
        on_problem: Callable[[Problem], None] | None = None,
        logs: Path | None = None,
        traced: bool = False,
    ) -> None:
        self.problems: list[Problem] = []
        self._tell = on_problem
        super().__init__(spec, bundle, self._note, logs=logs, traced=traced)
        self._inputs: dict[str, tuple[ProgramInput, type[Payload]]] = {}
        self._outputs: dict[str, ProgramOutput] = {}
        self._find_ends(spec)
        self._group = asyncio.TaskGroup()
        self._running: asyncio.Task[None] | None = None
        self._outcome: Outcome | None = None
        self._failure: ThalwegError | None = None

    async def __aenter__(self) -> Run:
        """Start it. Raises StartError, or another error that prevented the start; then everything is closed again."""
        await self._group.__aenter__()
        self._running = self._group.create_task(self._to_the_end())
        ready = self._group.create_task(self.ready.wait())
        try:
            await asyncio.wait({self._running, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.abandon()
            await asyncio.wait({self._running})
            raise
        finally:
            ready.cancel()
        if self._failure is not None:
            await self._group.__aexit__(None, None, None)
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it. Raises the error that ended the run early, unless the block itself raised."""
        assert self._running is not None
        self.stop() if kind is None else self.abandon()
        try:
            await asyncio.wait({self._running}, timeout=DRAIN_S)
        finally:
            self.abandon()
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        await self._group.__aexit__(type(cancelled) if cancelled else None, cancelled, trace if cancelled else None)
        if kind is None and self._failure is not None:
            raise self._failure

    async def send(self, port: str, payload: Payload, *, time: int | None = None, epoch: int = AMBIENT) -> None:
        """Send a payload to the input `STAGE.PORT`, and wait until there is room for it.

        `time`: its capture time, ns of the pipeline's clock; default: now. Raises RunError if the program does not hold
        that input, StageError on a payload of another type, EndError once the run has ended.
        """
        end, carried = self._end(port, self._inputs, "input", "it is connected to a stage, or not there")
        if not isinstance(payload, carried):
            raise StageError(f"{port} takes {carried.__name__}, found {type(payload).__name__}")
        await end.send(payload, time, epoch)

    def packets(self, port: str) -> AsyncIterator[Packet]:
        """The packets of the output `STAGE.PORT`, in order, to the end of the stream.

        Packets from before the call are queued, as many as `program.output` keeps. Raises RunError if the program does
        not hold that output.
        """
        hint = f"one that feeds a stage is named before the run: pipeline.expose({port!r})"
        output: ProgramOutput = self._end(port, self._outputs, "output", hint)
        return output.packets()

    async def configure(self, stage: str, **settings: object) -> None:
        """Change `configurable` settings of a running stage; durations as text (`"200ms"`).

        Returns once they apply on every worker that has the stage. Raises StageError, without a change, if one is
        unknown, fixed or out of range; DeploymentError if there is no such stage.
        """
        await self.set_parameters(stage, settings)

    async def finish(self) -> Outcome:
        """End all inputs, wait until everything is processed, and return the outcome."""
        assert self._running is not None
        for end, _ in self._inputs.values():
            end.end()
        await asyncio.wait({self._running})
        if self._failure is not None:
            raise self._failure
        assert self._outcome is not None
        return self._outcome

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the run, once it has ended."""
        return self._outcome

    async def _to_the_end(self) -> None:
        try:
            self._outcome = await self.run()
        except ThalwegError as failure:
            self._failure = failure
        finally:
            for output in self._outputs.values():
                output.end()

    def _note(self, problem: Problem) -> None:
        if problem.ends:
            self.stop()
        else:
            self.problems = [*self.problems[-99:], problem]
        if self._tell is not None:
            self._tell(problem)

    def _find_ends(self, spec: Spec) -> None:
        host = self.hosts.get(LOCAL)
        if not isinstance(host, Host):
            return
        for connection in spec.graph.connections:
            source, target = _stages_of(host, connection)
            if isinstance(source, ProgramInput):
                carried = spec.graph.stages[connection.target].info.inputs[connection.target_port].type
                self._inputs[f"{connection.target}.{connection.target_port}"] = source, carried
            if isinstance(target, ProgramOutput):
                self._outputs[f"{connection.source}.{connection.source_port}"] = target

    def _end(self, port: str, ends: dict[str, Any], kind: str, hint: str) -> Any:  # Any: what is in `ends`
        if port not in ends:
            have = ", ".join(ends) or "none"
            raise RunError(f"the program holds no {kind} {port!r}{nearest(port, ends)} (it holds: {have}); {hint}")
        return ends[port]


def _stages_of(host: Host, connection: Connection) -> tuple[object, object]:
    actors = host.worker.actors
    source, target = actors.get(connection.source), actors.get(connection.target)
    return (source.stage if source is not None else None), (target.stage if target is not None else None)
