"""What a worker of a pipeline file may say about itself, checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thalweg.pipeline.cluster.supervision import RestartWhen
from thalweg.pipeline.file.plan import LAUNCHERS, LOCAL, RESTART_KEYS, SUBPROCESS, read_restart
from thalweg.pipeline.graph import nearest

RAY_KEYS = ("cpus", "gpus", "resources", "labels", "host")
WORKER_KEYS = ("launcher", "replicas", "shared", *RAY_KEYS, *RESTART_KEYS)
WORKER_TEXTS = ("launcher", "host", "labels", "restart", "window", "backoff", "heartbeat")
"""The keys whose values are always read as text."""
REPLICAS_AT_MOST = 64
SHARING = (SUBPROCESS, "ray")
"""The launchers that have one worker for many runs."""


def read_worker(name: str, body: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The options of a worker, and what is wrong with them: key, empty for the worker itself, and message.

    `body`: as in the file, with variables filled in: a launcher, or a mapping.
    """
    options = {"launcher": body} if isinstance(body, str) else dict(body) if isinstance(body, dict) else {}
    wrong: list[tuple[str, str]] = []
    if name in LAUNCHERS:
        wrong.append(("", f"a worker cannot be called {name!r}, which is a launcher"))
    known = options.get("launcher", SUBPROCESS) in (LOCAL, SUBPROCESS, "ray")  # others check their own options
    for key in options:
        if key not in WORKER_KEYS and known:
            wrong.append((key, f"unknown key {key!r}{nearest(key, WORKER_KEYS)}, expected {', '.join(WORKER_KEYS)}"))
    launcher = options.setdefault("launcher", "subprocess")
    if launcher not in LAUNCHERS:
        hint = nearest(str(launcher), LAUNCHERS)
        wrong.append(("launcher", f"launcher {launcher!r} is not one of {', '.join(LAUNCHERS)}{hint}"))
    restart = {key: options[key] for key in RESTART_KEYS if key in options}
    wrong += read_restart(restart)[1].items()
    if restart and launcher == LOCAL:
        wrong.append((next(iter(restart)), "a local worker is this process and cannot be restarted"))
    replicas = options.setdefault("replicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 1 <= replicas <= REPLICAS_AT_MOST:
        found = f"expected a whole number from 1 to {REPLICAS_AT_MOST}, found {replicas!r}"
        wrong.append(("replicas", f"replicas: {found}"))
        options["replicas"] = 1
    elif replicas > 1 and launcher == LOCAL:
        wrong.append(("replicas", "a local worker is this process, of which there is only one"))
    wrong += [("shared", f"shared: {problem}") for problem in _sharing(options, str(launcher))]
    for key in RAY_KEYS:
        if key in options and launcher != "ray" and known:
            wrong.append((key, f"{key} is for the launcher ray, this one is {launcher}"))
        elif key in options and known and not _fits(key, options[key]):
            wrong.append((key, f"{key}: expected {_RAY_VALUES[key]}, found {options[key]!r}"))
    return options, wrong


def _sharing(options: dict[str, Any], launcher: str) -> Iterator[str]:
    """What is wrong with `shared`. One that is shared comes back, unless the file says otherwise."""
    shared = options.setdefault("shared", False)
    if not isinstance(shared, bool) and not _is_limit(shared):
        yield f"expected true, false or {{runs: NUMBER}} with a whole number from 1, found {shared!r}"
        options["shared"] = False
    elif shared and launcher not in SHARING:
        yield f"the launcher {launcher} starts a worker for each run, only {' and '.join(SHARING)} have one for many"
    elif shared and options["replicas"] != 1:
        yield "a worker is either shared by several runs, or has several replicas in one"
    elif shared:
        options.setdefault("restart", RestartWhen.ON_FAILURE.value)


def _is_limit(shared: object) -> bool:
    """Whether it is `{runs: NUMBER}`."""
    runs = shared.get("runs") if isinstance(shared, dict) and len(shared) == 1 else None
    return isinstance(runs, int) and not isinstance(runs, bool) and runs >= 1


_RAY_VALUES = {
    "cpus": "a number from 0",
    "gpus": "a number from 0",
    "resources": "a mapping of names to numbers above 0",
    "labels": "a mapping of names to texts",
    "host": "an address of a node",
}


def _fits(key: str, value: Any) -> bool:
    """Whether a worker's option has the form that `_RAY_VALUES` says."""
    if key in ("cpus", "gpus"):
        return _is_number(value) and value >= 0
    if key == "resources":
        return isinstance(value, dict) and all(_is_number(n) and n > 0 for n in value.values())
    if key == "labels":
        return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return isinstance(value, str) and bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
