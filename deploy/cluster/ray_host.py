"""Launcher: a host as a Ray actor, on a node of the cluster that has the resources it asks for.

Ray places and supervises; it carries the few calls that start and end a host, and no packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from thalweg.deploy.cluster.hosts import Hosts
from thalweg.deploy.cluster.order import Order
from thalweg.deploy.cluster.remote import RemoteError, WorkerLost
from thalweg.deploy.errors import told_of
from thalweg.deploy.ops.observing.outcome import Problem
from thalweg.deploy.runtime.tasks import beside
from thalweg.pipeline.file.plan import WorkerPlan

ADDRESS_HINT = "start one with `ray start --head`, or name one in RAY_ADDRESS"
TOKEN_HINT = "one that wants a token wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here as on its nodes"
PROBE_S = 5.0
CONNECT_S = 15.0
CLOSE_S = 5.0
PLACE_S = 60.0
NICENESS = "RAY_worker_niceness"
RAY_NICE = 15
FORGOTTEN = "forgotten"
"""The error text of a host that is not there."""
_CONNECTING = threading.Lock()

log = logging.getLogger(__name__)


def usual_priority() -> None:
    """Give this process, a worker of Ray's, the priority that other processes have.

    Ray starts workers with a niceness of 15. Beside another process that computes they get a thirtieth of a processor,
    too little for a conversation. Does nothing where the operator has set `RAY_worker_niceness`. Without the right to
    change it, as in most containers, logs what to set.
    """
    if NICENESS in os.environ or os.getpriority(os.PRIO_PROCESS, 0) != RAY_NICE:
        return
    try:
        for thread in os.listdir("/proc/self/task") if sys.platform == "linux" else ("0",):
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread), 0)
    except PermissionError:
        log.warning("Ray runs this worker at niceness 15: set %s=0 where `ray start` is called", NICENESS)


class HostActor:
    """What runs in the cluster. Its answers are `(result, error text, problems)`, the problems since the last answer:
    Ray wraps exceptions beyond recognition, and has no callbacks.
    """

    def __init__(self, name: str) -> None:
        usual_priority()
        self._name = name
        self._problems: dict[str, list[dict[str, Any]]] = {}
        self.hosts = Hosts(self._note)

    def __repr__(self) -> str:
        return self._name  # how Ray begins the lines that come from here

    async def call(self, whose: str, name: str, *args: Any) -> tuple[Any, str | None, list[dict[str, Any]]]:
        """See `Hosts.call`."""
        try:
            result, error = await self.hosts.call(whose, name, args), None
        except WorkerLost:
            result, error = None, FORGOTTEN
        except Exception as failure:
            result, error = None, told_of(failure)
        return result, error, self._problems.pop(whose, [])

    def _note(self, whose: str, problem: Problem) -> None:
        self._problems.setdefault(whose, []).append(asdict(problem))


class RayCarrier:
    """See `Carrier`; the host is a Ray actor."""

    def __init__(self, order: Order) -> None:
        self._name = order.worker.name
        self._plan = order.worker
        self._bundle = order.bundle
        self._on_problem = order.on_problem
        self._actor: Any = None
        self._gone: asyncio.Future[str] | None = None

    async def start(self) -> None:
        """Make the actor. Raises RemoteError where there is no Ray, or no node that has what it asks for."""
        ray = await ray_here()
        self._gone = asyncio.get_running_loop().create_future()
        asked = ray_options(self._plan.options)
        async with placed(ray, self._plan):
            self._actor = ray.remote(HostActor).options(max_concurrency=16, **asked).remote(self._name)
            await self.call("make", self._name, self._bundle.plain())

    async def call(self, name: str, *args: Any) -> Any:
        """See `Carrier.call`. Problems come with the answers, and so with the next beat at the latest."""
        gone = self._gone
        if self._actor is None or gone is None or gone.done():
            reason = gone.result() if gone is not None and gone.done() else "it has ended"
            raise WorkerLost(f"worker {self._name} is gone: {reason}")
        async with beside(ask(self._name, self._actor, self._on_problem, "", name, *args)) as answer:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise WorkerLost(f"worker {self._name} is gone: {gone.result()}")
        return answer.result()

    def post(self, name: str) -> None:
        """See `Carrier.post`."""
        if self._actor is not None:
            self._actor.call.remote("", name)

    def kill(self, reason: str) -> None:
        """See `Carrier.kill`."""
        if self._actor is not None and self._gone is not None and not self._gone.done():
            import ray

            self._gone.set_result(reason)
            ray.kill(self._actor)

    async def close(self) -> None:
        """End the actor. Idempotent."""
        if self._actor is not None:
            import ray

            actor, self._actor = self._actor, None
            with contextlib.suppress(TimeoutError):  # a cluster that is gone has nothing left to end
                await aside(CLOSE_S, ray.kill, actor)


async def ask(
    worker: str, actor: Any, on_problem: Callable[[Problem], None], whose: str, name: str, *args: Any
) -> Any:  # Any: Ray has no types for these
    """Call a method of a host in an actor. Raises RemoteError, WorkerLost."""
    import ray

    try:
        result, error, problems = await actor.call.remote(whose, name, *args)
    except ray.exceptions.RayError as lost:
        raise WorkerLost(f"worker {worker} is gone: {str(lost).splitlines()[0]}") from None
    for problem in problems:
        on_problem(Problem(**problem))
    if error == FORGOTTEN:
        raise WorkerLost(f"worker {worker} is gone: nothing was asked of it for too long")
    if error is not None:
        raise RemoteError(error)
    return result


async def ray_here() -> Any:
    """The ray module, connected to a cluster. Raises RemoteError where that is not so within `CONNECT_S`."""
    try:
        return await aside(CONNECT_S, connected_ray)
    except TimeoutError:
        where = os.environ.get("RAY_ADDRESS") or "the address that Ray found"
        raise RemoteError(
            f"no Ray cluster answers at {where} within {CONNECT_S:g} s; {ADDRESS_HINT}; {TOKEN_HINT}"
        ) from None


@contextlib.asynccontextmanager
async def placed(ray: Any, worker: WorkerPlan) -> AsyncIterator[None]:
    """An actor for the worker answers for the first time within the block. Raises RemoteError after `PLACE_S`."""
    lacking = ""
    with contextlib.suppress(TimeoutError):
        lacking = unplaceable(ray_options(worker.options), await aside(CONNECT_S, ray.nodes))
    if lacking:
        log.warning("worker %s: %s; waiting %g s in case the cluster grows", worker.name, lacking, PLACE_S)
    try:
        async with asyncio.timeout(PLACE_S):
            yield
    except TimeoutError:
        wants = {key: value for key, value in worker.options.items() if value}
        why = lacking or "the nodes have it, but others use it"
        raise RemoteError(
            f"Ray did not place worker {worker.name} within {PLACE_S:g} s; it asks for {wants or 'nothing'}: {why}"
        ) from None


async def aside(within_s: float, call: Callable[..., Any], *args: Any) -> Any:
    """Make a blocking call on a daemon thread, which does not delay the exit, and return its result. Raises
    TimeoutError after `within_s`, and any exception of the call.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result(result) if error is None else answer.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call(*args)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed: no task waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="ray", daemon=True).start()
    async with asyncio.timeout(within_s):
        return await answer


def ray_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker asks for, in Ray's words. Every node has a little of a resource named after its address."""
    resources = dict(options.get("resources", {}))
    if "host" in options:
        resources[f"node:{options['host']}"] = 0.001
    asked = {"num_cpus": options.get("cpus", 0), "num_gpus": options.get("gpus", 0), "resources": resources}
    if "labels" in options:
        asked["label_selector"] = dict(options["labels"])
    return asked


def unplaceable(asked: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> str:
    """Why no node that lives could ever host what asks for this (`ray_options`; `nodes`: `ray.nodes`); empty where one
    could, were nothing else there.
    """
    wants = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], **asked["resources"]}
    wants = {name: amount for name, amount in wants.items() if amount}
    labels = dict(asked.get("label_selector", {}))
    living = [node for node in nodes if node.get("Alive")]
    if any(
        all(_has(node, name) >= amount for name, amount in wants.items()) and _labelled(node, labels) for node in living
    ):
        return ""
    for name, amount in wants.items():
        best = max(living, key=lambda node: _has(node, name), default={})
        if (most := _has(best, name)) < amount:
            found = f"the most is {most:g} at {best['NodeManagerAddress']}" if most else "none has any"
            return f"it asks for {amount:g} {name}, and of the {len(living)} nodes {found}"
    return f"no one of the {len(living)} nodes has all that it asks for: {wants | labels}"


def _has(node: Mapping[str, Any], name: str) -> float:
    return float(node.get("Resources", {}).get(name, 0))


def _labelled(node: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether a node has the labels; what Ray understands beyond equality is not judged here."""
    plain = {key: value for key, value in wanted.items() if not value.startswith(("!", "in("))}
    return all(node.get("Labels", {}).get(key) == value for key, value in plain.items())


def connected_ray() -> Any:
    """The ray module, connected to a cluster. Raises RemoteError where it is not installed or there is none."""
    try:
        import ray
    except ImportError:
        raise RemoteError("a worker wants Ray, which is missing: pip install 'thalweg[ray]'") from None
    with _CONNECTING:
        if not ray.is_initialized():
            _probe(os.environ.get("RAY_ADDRESS", ""))
            _as_we_log()
            try:
                ray.init(address="auto", log_to_driver=True, logging_level=logging.WARNING, configure_logging=False)
            except Exception as error:  # Ray may raise anything
                raise RemoteError(_refusal(error)) from None
    return ray


def _refusal(error: Exception) -> str:
    """What is said of a cluster to which Ray could not connect. Older versions of Ray know no AuthenticationError."""
    reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
    if type(error).__name__ == "AuthenticationError":
        return f"the Ray cluster refuses this process: {TOKEN_HINT} ({reason})"
    hint = f"{ADDRESS_HINT}; {TOKEN_HINT}" if isinstance(error, ConnectionError) else ADDRESS_HINT
    return f"there is no Ray cluster to connect to: {hint} ({reason})"


def _as_we_log() -> None:
    """Have Ray log by our handlers, and not warn at each try that signals are heard on the main thread only."""
    logging.getLogger("ray").handlers.clear()
    logging.getLogger("ray").propagate = True
    worker = logging.getLogger("ray._private.worker")
    worker.removeFilter(_no_sigterm)
    worker.addFilter(_no_sigterm)


def _no_sigterm(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("SIGTERM handler is not set")


def _probe(address: str) -> None:
    """Fail at once where HOST:PORT or ray://HOST:PORT has no listener; Ray itself would try for minutes.

    Raises RemoteError.
    """
    host, _, port = address.removeprefix("ray://").partition("?")[0].rstrip("/").rpartition(":")
    if not (port.isascii() and port.isdigit()) or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RemoteError(f"there is no Ray cluster at {address}: {reason}; {ADDRESS_HINT}") from None
