"""Runs a plan: hosts are started together, step by step, supervised while they run, and ended together.

`pipeline.cluster.supervision` decides what happens after the loss of a host; this module does it: kill what is left,
start another, give it the last checkpoint, link it with its neighbours, or tell them that it will not come back. One
restart at a time touches links; starting and loading are done side by side. Where subprocesses may be started again one
is kept ready that has loaded everything but the stages: half of what a restart takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from thalweg.deploy.cluster.host import Bundle, Host
from thalweg.deploy.cluster.launch import AnyHost, launch
from thalweg.deploy.cluster.links import Links, check_transports
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import RemoteHost, WorkerLost
from thalweg.deploy.cluster.steps import on_every
from thalweg.deploy.cluster.subprocess_host import Child, start_child
from thalweg.deploy.ops.observing.outcome import Outcome, Problem, merge
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.runtime.checkpoint import KeptCheckpoint
from thalweg.deploy.runtime.tasks import beside
from thalweg.deploy.runtime.worker import Worker
from thalweg.pipeline.cluster.supervision import GiveUp, InHand, Restart, SupervisionState, Supervisor
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import LOCAL, MEMORY, WorkerPlan
from thalweg.pipeline.file.spec import Spec
from thalweg.pipeline.graph import nearest
from thalweg.pipeline.observing.turn import KEPT, KEPT_STAYING

log = logging.getLogger(__name__)

STATS_S = 2.0
KEPT_PROBLEMS = 100


class DeploymentError(ThalwegError):
    """The deployment cannot do what was requested."""


class Deployment:
    """The hosts of one pipeline's plan. `run` may be awaited once.

    `bundle`: what workers in other processes read the pipeline from; not needed where the plan has none. `worker`: one
    that is ready to run, of a plan that has only this process.

    `ready` is set and `on_ready` called once every stage is open, before anything runs, unless it was given up by then.
    `logs`: an existing folder in
    which each subprocess writes what it prints, to `WORKER.log`, after what is there; without one they print where we
    do. `goes_on`: see `Order`.
    """

    def __init__(
        self,
        spec: Spec,
        bundle: Bundle | None,
        on_problem: Callable[[Problem], None],
        *,
        worker: Worker | None = None,
        traced: bool = False,
        on_ready: Callable[[], None] | None = None,
        logs: Path | None = None,
        goes_on: bool = False,
    ) -> None:
        self.stopped = False
        self.hurried = False
        self.ready = asyncio.Event()
        self._plan = plan = spec.plan
        check_transports(plan)
        self._bundle = bundle
        self._stages = spec.graph.stages
        self._on_problem = on_problem
        self._on_ready = on_ready
        self._logs = logs
        self._token = bundle.token if bundle is not None else ""
        self.hosts: dict[str, AnyHost] = {
            name: Host(name, spec, on_problem, token=self._token, traced=traced, worker=worker)
            if planned.launcher == LOCAL
            else self._launch(planned, goes_on=goes_on)
            for name, planned in plan.workers.items()
        }
        self.supervisors = {worker.name: Supervisor(worker.restart) for worker in plan.workers.values()}
        self.links = Links(plan, self.hosts, lambda worker: self.supervisors[worker].ended)
        remembered = KEPT_STAYING if plan.stays else KEPT
        self._kept = {worker: KeptCheckpoint(remembered) for worker in plan.workers}
        self._in_hand: dict[str, InHand] = {}
        self._given_up: dict[str, str] = {}
        self._problems: list[Problem] = []
        self._problem_count = self._recovered = 0
        self._changed = asyncio.Condition()
        self._hurry = asyncio.Event()
        self._spare: Child | None = None

    async def run(self) -> Outcome:
        """Start every host, run to the end, close them. Raises StartError where one could not start."""
        try:
            self.links.places = await on_every(self.hosts, lambda host: host.prepare(), self._hurry)
            self.links.kinds = self.links.transports()
            await on_every(self.hosts, self.links.listen, self._hurry)
            await on_every(
                self.hosts,
                lambda host: host.connect(self.links.routes(host.name), self.links.certificates),
                self._hurry,
            )
            await on_every(self.hosts, lambda host: host.open(), self._hurry)
            self.links.linked = set(self.hosts)
            await self._keep_spare()
            if not self.hurried:  # what was given up while it opened was never ready
                self.ready.set()
                if self._on_ready is not None:
                    self._on_ready()
            async with asyncio.TaskGroup() as group:
                mending = group.create_task(self.links.mend()) if self.links.kinds else None
                runs = [group.create_task(self._keep(name)) for name in self.hosts]
                await asyncio.wait(runs)
                if mending is not None:
                    mending.cancel()
            outcome = merge([run.result() for run in runs])
            outcome.problems = sorted([*outcome.problems, *self._problems], key=lambda problem: problem.time_ns)
            outcome.problem_count += self._problem_count
            outcome.recovered_count += self._recovered
            return outcome
        finally:
            await asyncio.gather(*(host.close() for host in self.hosts.values()))
            if self._spare is not None:
                await self._spare.dismiss()

    def _launch(self, worker: WorkerPlan, child: Child | None = None, *, goes_on: bool) -> RemoteHost:
        if self._bundle is None:
            raise DeploymentError(
                f"worker {worker.name} is another process, which has nothing to read the pipeline from"
            )
        modules = tuple(self._stages[name].info.cls.__module__ for name in worker.stages if worker.shared)
        log = None if self._logs is None else self._logs / f"{worker.name}.log"
        order = Order(
            worker=worker, bundle=self._bundle, on_problem=self._on_problem, log=log, modules=modules, goes_on=goes_on
        )
        return launch(order, child)

    async def set_parameters(self, stage: str, settings: Mapping[str, object]) -> None:
        """Change settings of a running stage, on each worker that hosts it. Raises StageError, RemoteError."""
        hosts = self._plan.hosts_of(stage) if any(stage in w.stages for w in self._plan.workers.values()) else []
        if not hosts:
            stages = [name for worker in self._plan.workers.values() for name in worker.stages]
            raise DeploymentError(f"there is no stage {stage!r}{nearest(stage, stages)}")
        for name in hosts:
            await self.hosts[name].configure(stage, settings)

    async def stats(self) -> dict[str, WorkerStats | None]:
        """Worker → its statistics; None for one that is gone or does not answer within `STATS_S`."""
        found = await asyncio.gather(*(self.stats_of(name) for name in self.hosts))
        return dict(zip(self.hosts, found, strict=True))

    async def stats_of(self, worker: str) -> WorkerStats | None:
        """The statistics of one worker; None if it is gone or does not answer within `STATS_S`."""
        try:
            async with asyncio.timeout(STATS_S):
                return await self.hosts[worker].stats()
        except (ThalwegError, TimeoutError):
            return None

    @property
    def restarts(self) -> dict[str, int]:
        """Worker → how often it was restarted."""
        return {name: supervisor.restarts for name, supervisor in self.supervisors.items()}

    @property
    def given_up(self) -> Mapping[str, str]:
        """Worker that stays dead → why."""
        return self._given_up

    async def restart(self, worker: str) -> None:
        """Kill a worker and start it again, independent of its policy; returns once it runs again.

        Packets in flight are treated as after any loss. Raises DeploymentError if there is no such worker, it is this
        process, it has ended, or it could not be restarted.
        """
        if worker not in self.hosts:
            raise DeploymentError(f"there is no worker {worker!r}{nearest(worker, self.hosts)}")
        supervisor = self.supervisors[worker]
        if self._plan.workers[worker].launcher == LOCAL:
            raise DeploymentError(f"worker {worker} is this process, which cannot restart itself")
        if supervisor.ended:
            raise DeploymentError(f"worker {worker} has ended")
        wanted = supervisor.restarts + (supervisor.state is not SupervisionState.STARTING)
        if supervisor.ask_restart():
            self.hosts[worker].kill("it is restarted")
        await self.returned(worker, wanted)
        if worker in self._given_up:
            raise DeploymentError(f"worker {worker} was not started again: {self._given_up[worker]}")

    async def returned(self, worker: str, restarts: int) -> None:
        """Wait until a worker runs that has been started again so often, or has ended."""
        supervisor = self.supervisors[worker]
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    supervisor.ended or (supervisor.restarts >= restarts and supervisor.state is SupervisionState.UP)
                )
            )

    def stop(self) -> None:
        """End every source. Idempotent."""
        self.stopped = True
        for host in self.hosts.values():
            host.stop()

    def abandon(self) -> None:
        """Give up what is under way everywhere. Idempotent."""
        self.stop()
        self.hurried = True
        self._hurry.set()
        for name, host in self.hosts.items():
            host.abandon()
            if self.supervisors[name].state is SupervisionState.STARTING and self.links.linked:
                host.kill("the run was abandoned")

    def kill_processes(self) -> None:
        """End every process on this machine that was started for it, at once, from any thread: when all else hangs."""
        pids = [getattr(host, "pid", None) for host in list(self.hosts.values())]
        pids += [] if self._spare is None else [self._spare.process.pid]
        for pid in pids:
            if pid is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    async def _keep(self, name: str) -> Outcome:
        """Run a worker to its end, through all its incarnations."""
        supervisor = self.supervisors[name]
        while True:
            supervisor.started(time.monotonic_ns())
            await self._tell_changed()
            ended = await self._run_once(name)
            if isinstance(ended, Outcome):
                supervisor.finished()
                await self._tell_changed()
                worker = self._plan.workers[name]
                return ended.of_replica(worker.stages, name) if worker.pool else ended
            self.links.linked.discard(name)
            if not await self._bring_back(name, ended):
                await self._tell_changed()
                return Outcome(time.monotonic_ns(), time.monotonic_ns())

    async def _run_once(self, name: str) -> Outcome | ThalwegError:
        """Run an incarnation of a worker to its end or its death."""
        host = self.hosts[name]
        ended: Outcome | ThalwegError
        if len(self.hosts) == 1 and isinstance(host, Host):  # alone in this process: no acknowledgements are needed
            return await host.run()
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._listen_to(name, host))
            try:
                ended = await host.run()
            except ThalwegError as error:
                ended = error
            finally:
                beating.cancel()
        return ended

    async def _bring_back(self, name: str, error: ThalwegError) -> bool:
        """Do what the supervisor says about a death, until the worker is there again, or stays dead: then False."""
        supervisor = self.supervisors[name]
        lost_ns = time.monotonic_ns()
        while not self.hurried:
            now_ns = time.monotonic_ns()
            in_hand = self._in_hand.pop(name, None)
            decision = supervisor.died(now_ns, cleanly=getattr(error, "cleanly", False), in_hand=in_hand)
            if isinstance(decision, GiveUp):
                self._problem(name, f"{error}; it is not started again: {decision.reason}")
                await self._leave_dead(name, decision.reason)
                return False
            if not await self._pause(decision.at_ns - now_ns):
                return False
            try:
                await self._start_again(name, decision)
            except ThalwegError as again:
                error = again
                continue
            if decision.attempt:
                took_s = (time.monotonic_ns() - lost_ns) / 1e9
                recovered = self._plan.workers[name].resumes
                self._problem(name, f"{error}; it was started again within {took_s:.1f} s", recovered=recovered)
            return True
        return False

    async def _listen_to(self, name: str, host: AnyHost) -> None:
        """Take the beats of a host; kill it when they stay away."""
        supervisor = self.supervisors[name]
        patience_s = min(1.0, supervisor.policy.heartbeat_ns / 4e9)
        stored = 0
        while True:
            asked_s = asyncio.get_running_loop().time()
            try:
                async with beside(host.beat(stored)) as asked:
                    while not asked.done():
                        await asyncio.wait({asked}, timeout=patience_s)
                        if not asked.done() and supervisor.overdue(time.monotonic_ns()):
                            await asyncio.sleep(0.05)  # if it was us who were stopped, its answer is here by now
                            if not asked.done():
                                host.kill(f"it did not answer for {supervisor.policy.heartbeat_ns / 1e9:g} s")
                                return
                    beat = asked.result()
            except ThalwegError:
                return
            supervisor.answered(time.monotonic_ns(), progress=beat["progress"])
            if beat["state"] is not None:
                self._kept[name].take(beat["state"], beat["news"])
                stored = beat["number"]
            if beat["in_hand"] is not None:
                self._in_hand.pop(name, None)
                for hand in beat["in_hand"]:
                    self._in_hand[name] = InHand(**hand)
            self.links.lost(beat["lost"], asked_s)

    async def _start_again(self, name: str, decision: Restart) -> None:
        """Put a new incarnation in the place of a dead one. Raises ThalwegError where that fails."""
        await self.hosts[name].close()
        self.supervisors[name].starting()
        worker, spare = self._plan.workers[name], None
        if worker.has_spare:
            spare, self._spare = self._spare, None
            if spare is not None and spare.process.returncode is not None:
                spare = None
        host = self.hosts[name] = self._launch(worker, spare, goes_on=True)
        place = await host.prepare()
        await host.open()
        set_aside = [packet.key for packet in decision.set_aside]
        await host.restore(self._kept[name].packed(), decision.watched, set_aside)
        async with self.links.lock:
            self.links.places[name] = place
            before, self.links.kinds = self.links.kinds, self.links.transports()
            moved = {self._plan.edges[edge].target for edge, kind in self.links.kinds.items() if before[edge] != kind}
            for target in moved & self.links.linked:
                with suppress(WorkerLost):  # of a neighbour: it is found out, and started again, by itself
                    await self.links.listen(self.hosts[target])
            await self.links.listen(host)
            self.links.linked.add(name)
            for edge in self._plan.edges.values():
                if edge.transport == MEMORY or name not in (edge.source, edge.target):
                    continue
                other = edge.target if edge.source == name else edge.source
                if other in self._given_up:
                    await self.links.give_up(name, edge.name, self._given_up[other])
                elif other in self.links.linked:
                    await self.links.relink(edge.name)
        if self.stopped:
            host.stop()
        await self._keep_spare()

    async def _keep_spare(self) -> None:
        """Have a process ready, where one may be wanted."""
        if self._spare is None and any(worker.has_spare for worker in self._plan.workers.values()):
            child = await start_child()
            if self._spare is None:
                self._spare = child
            else:
                await child.dismiss()

    async def _leave_dead(self, name: str, reason: str) -> None:
        """Tell the neighbours of a worker that it will not come back."""
        await self.hosts[name].close()
        async with self.links.lock:
            self._given_up[name] = f"worker {name} is gone ({reason})"
            for edge in self._plan.edges.values():
                other = edge.target if edge.source == name else edge.source
                if edge.transport != MEMORY and name in (edge.source, edge.target) and other in self.links.linked:
                    await self.links.give_up(other, edge.name, self._given_up[name])

    async def _pause(self, duration_ns: int) -> bool:
        """Wait; False where the run was abandoned meanwhile."""
        try:
            async with asyncio.timeout(max(0, duration_ns) / 1e9):
                await self._hurry.wait()
        except TimeoutError:
            return True
        return False

    def _problem(self, worker: str, message: str, *, recovered: bool = False) -> None:
        now_ns = time.monotonic_ns()
        problem = Problem(stage=worker, message=message, epoch=0, time_ns=now_ns, recovered=recovered)
        self._problem_count += 1
        self._recovered += recovered
        if len(self._problems) < KEPT_PROBLEMS:
            self._problems.append(problem)
        try:
            self._on_problem(problem)
        except Exception:
            log.exception("%s: %s; the listener `on_problem` raised", worker, message)

    async def _tell_changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()
