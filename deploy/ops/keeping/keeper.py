"""The supervising process of a deployment that stays: `python -m thalweg.deploy.ops.keeping.keeper NAME LOCK READY`.

It was started by `thalweg up`, holds the lock of the deployment (descriptor LOCK) for as long as it lives, writes one
line to READY when the pipeline is ready or has failed, and answers over the control socket from then on. What a
pipeline file leaves `local` gets a worker process of its own here, so that this one computes nothing and answers
always.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from typing import Any

from thalweg.deploy.cluster.deployment import Deployment
from thalweg.deploy.cluster.host import Bundle, load_bundle
from thalweg.deploy.errors import describe_error
from thalweg.deploy.ops.keeping.control import ControlServer
from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError
from thalweg.deploy.ops.keeping.logs import trim
from thalweg.deploy.ops.keeping.systemd import notify
from thalweg.deploy.ops.observing.metrics import serving_metrics
from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.deploy.ops.observing.report import OutputError, build_report, write_report
from thalweg.deploy.ops.observing.stats import WorkerStats
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.cluster.supervision import SupervisionState
from thalweg.pipeline.errors import ThalwegError
from thalweg.pipeline.file.plan import Plan
from thalweg.pipeline.graph import nearest
from thalweg.stages.io.terminal import begin, log_to_stderr

log = logging.getLogger("thalweg.deploy.ops.keeping.keeper")

DRAIN_S = 10.0
TRIM_S = 5.0
SETTLE_S = 0.5
"""How long sources must have run before it is up: most that cannot work say so at once."""


class Keeper:
    """Runs one deployment to its end and says how it is."""

    def __init__(self, folder: DeploymentFolder, ready: int | None) -> None:
        request = json.loads((folder.path / "request.json").read_text(encoding="utf-8"))
        self._folder = folder
        self._ready = ready
        self._metrics: str | None = request["metrics"]
        self._logs = None if request["foreground"] else folder.logs
        self._bundle = Bundle(**request["bundle"])
        self._known: dict[str, Any] = {
            "name": folder.name,
            "file": self._bundle.main,
            "pid": os.getpid(),
            "since": time.time(),
            "state": "starting",
            "reason": "",
            "metrics": "",
            "foreground": request["foreground"],
        }
        self._plan = Plan({}, {})
        self._sources: frozenset[str] = frozenset()
        self._broken: set[str] = set()
        self._was_ready = False
        self._deployment: Deployment | None = None
        self._drain: asyncio.TimerHandle | None = None

    async def keep(self) -> int:
        """Bring it up, keep it up, end it; returns the exit code."""
        self._tell(state="starting")
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._down, DRAIN_S)
        control = ControlServer(
            {"status": self._status, "stats": self._stats, "restart": self._restart, "down": self._asked_down}
        )
        try:
            spec = load_bundle(self._bundle)
            self._plan = spec.plan
            self._sources = frozenset(name for name, vertex in spec.graph.stages.items() if vertex.info.is_source)
            self._tell(workers=list(self._plan.workers))
            self._deployment = Deployment(spec, self._bundle, self._problem, on_ready=self._is_ready, logs=self._logs)
            await control.start(self._folder.path)
            async with beside(self._trim()):
                with serving_metrics(self._metrics, spec.graph.name, self._look) as url:
                    self._tell(metrics=url)
                    outcome = await self._deployment.run()
        except Exception as error:
            reason = str(error) if isinstance(error, ThalwegError) else describe_error(error)
            log.error("failed: %s", reason, exc_info=None if isinstance(error, ThalwegError) else error)
            self._tell(state="failed", reason=reason)
            self._answer({"failed": reason})
            return 1
        finally:
            await control.close()
        if spec.keeps_nothing:
            outcome = outcome.without_words()
        try:
            write_report(self._folder.report, build_report(outcome, spec.graph.name, spec.latency_budget_ns))
        except OutputError as error:  # a full disk, a folder that was removed: it has ended all the same
            log.error("%s", error)
            self._tell(unreported=str(error))
        if self._drain is None and self._all_broken:  # it was not asked to end
            self._tell(state="failed", ended=time.time())
            self._answer({"failed": self._known["reason"]})
            return 1
        self._answer({"ready": True} if self._was_ready else {"failed": "it was told to end before it was ready"})
        self._tell(state="ended", ended=time.time())
        log.info("ended, with %d error(s)", outcome.problem_count)
        return int(not outcome.unharmed)

    def _is_ready(self) -> None:
        self._tell(state="ready")
        log.info("ready")
        self._was_ready = True
        asyncio.get_running_loop().call_later(SETTLE_S, self._settled)

    @property
    def _all_broken(self) -> bool:
        """Whether every source has ended by an error."""
        return bool(self._broken) and self._broken >= self._sources

    def _settled(self) -> None:
        if self._all_broken:
            self._answer({"failed": self._known["reason"]})
            return
        self._tell(came_up=True)
        self._answer({"ready": True})
        notify("READY=1")

    def _answer(self, line: dict[str, Any]) -> None:
        """To `thalweg up`, which waits; only the first answer counts."""
        if self._ready is not None:
            with os.fdopen(self._ready, "w", encoding="utf-8") as answer:
                self._ready = None
                answer.write(json.dumps(line) + "\n")

    def _tell(self, **news: Any) -> None:
        self._known |= news
        try:
            self._folder.write_state(self._known)
        except OutputError as error:  # a full disk, a folder that was removed: it works on, and ends when told to
            log.warning("what state it is in is not known to others: %s", error)

    def _problem(self, problem: Problem) -> None:
        turn = f" (turn {problem.epoch})" if problem.epoch else ""
        say = log.warning if problem.recovered else log.error
        say("%s%s: %s", problem.stage, turn, problem.told)
        if problem.final:
            self._broken.add(problem.stage)
            self._tell(reason=f"{problem.stage}: {problem.told}")

    async def _status(self) -> Any:
        return (await self._stats())["status"]

    async def _stats(self) -> dict[str, Any]:
        assert self._deployment is not None
        stats = await self._deployment.stats()
        workers = {
            worker.name: {
                "launcher": worker.launcher,
                "stages": list(worker.stages),
                "state": self._state(worker.name, stats[worker.name]),
                "pid": None if (told := stats[worker.name]) is None else told["pid"],
                "restarts": self._deployment.restarts[worker.name],
            }
            for worker in self._plan.workers.values()
        }
        return {"status": {**self._known, "workers": workers}, "stats": stats}

    def _state(self, worker: str, stats: WorkerStats | None) -> str:
        assert self._deployment is not None
        if self._known["state"] == "starting":
            return "starting"
        if worker in self._deployment.given_up:
            return "dead"
        state = self._deployment.supervisors[worker].state
        if state is SupervisionState.UP:
            return "no answer" if stats is None else "running"
        return "ended" if state is SupervisionState.ENDED else "restarting"

    async def _look(self) -> tuple[dict[str, WorkerStats | None], dict[str, int]]:
        assert self._deployment is not None
        return await self._deployment.stats(), self._deployment.restarts

    async def _restart(self, what: str) -> dict[str, Any]:
        """Restart a worker, all replicas of one, or those that host a stage."""
        if self._deployment is None or self._known["state"] != "ready":
            raise KeepingError(f"{self._folder.name} is {self._known['state']}: only what is ready can be restarted")
        workers = self._plan.hosts_of(what)
        if not workers:
            pools = [worker.pool for worker in self._plan.workers.values() if worker.pool]
            stages = [stage for worker in self._plan.workers.values() for stage in worker.stages]
            known = list(dict.fromkeys([*self._plan.workers, *pools, *stages]))
            raise KeepingError(
                f"there is no stage or worker {what!r}{nearest(what, known)}; there are: {', '.join(known)}"
            )
        for worker in workers:  # of replicas one after the other, so that the rest can work on
            log.info("restarting %s, as asked", worker)
            await self._deployment.restart(worker)
        return {"worker": ", ".join(workers), "stages": list(self._plan.workers[workers[0]].stages)}

    async def _asked_down(self, drain_s: float = DRAIN_S) -> None:
        self._down(drain_s)

    def _down(self, within_s: float) -> None:
        """Drain; what has not ended by then is given up. The first limit holds, a second call ends it at once."""
        if self._deployment is None:
            raise SystemExit(1)
        if self._drain is not None:
            self._deployment.abandon()
            return
        if self._known["state"] == "starting":  # nothing is under way that could be drained
            within_s = 0
        log.info("draining, for at most %g s", within_s)
        notify("STOPPING=1")
        self._tell(state="draining")
        self._deployment.stop()
        self._drain = asyncio.get_running_loop().call_later(within_s, self._deployment.abandon)

    async def _trim(self) -> None:
        while True:
            await asyncio.sleep(TRIM_S)
            for path in (self._folder.supervisor_log, *self._folder.logs.glob("*.log")):
                try:
                    trim(path)
                except OSError as error:  # a full disk, most likely: that must not be the end of it
                    log.warning("%s cannot be begun anew: %s", path.name, error.strerror)


def main(name: str, ready: int | None) -> int:
    """Keep the deployment `name`, whose lock this process holds."""
    begin()
    log_to_stderr(form="%(asctime)s %(levelname)s %(message)s")
    return asyncio.run(Keeper(DeploymentFolder(name), ready).keep())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[3])))
