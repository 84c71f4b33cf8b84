"""Whether the models of a pipeline fit the machine, and which smaller one does where they do not.

Two rules. Beyond the available memory the system swaps or kills: all models together must fit. On a single processor a
language model, a recogniser and a voice take turns, so that one of several hundred million parameters delays all of
them: there the smaller one is suggested regardless of memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from thalweg.models.store.registry import Model

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN = Path("/proc/self/cgroup")


def advice(models: Sequence[Model], *, cores: float, memory: int | None) -> list[tuple[str, str]]:
    """(model, why it is too large) of those for which a smaller one stands in the registry. `memory`: free bytes."""
    wanted = sum(model.memory for model in models)
    found = []
    for model in sorted(models, key=lambda model: -model.memory):
        if not model.smaller:
            continue
        if memory is not None and wanted > memory:
            found.append((model.name, f"the models take {wanted / 1e9:.1f} GB, and {memory / 1e9:.1f} GB are free"))
        elif cores < 1.5:
            found.append((model.name, "there is one processor"))
    return found


def allowed_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores(cgroup: Path = _CGROUP) -> float:
    """Processors that this process may use, as a container's quota has them."""
    cores = float(allowed_cores())
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    return min(cores, int(quota) / int(period)) if quota.isdigit() and period.strip().isdigit() else cores


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that are free, as the system or a container's limit has them; None where neither says."""
    lines = [line.split() for line in _read(meminfo).splitlines() if line.startswith("MemAvailable:")]
    free = [int(line[1]) * 1024 for line in lines if len(line) > 1 and line[1].isdigit()]
    limit, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        told = dict(line.split() for line in _read(cgroup / "memory.stat").splitlines() if len(line.split()) == 2)
        cached = told.get("inactive_file", "")  # of files, counted as used, and given back where it is wanted
        free.append(max(0, int(limit) - int(used) + (int(cached) if cached.isdigit() else 0)))
    return min(free, default=None)


def allowed_memory(own: Path = _OWN, cgroup: Path = _CGROUP) -> int:
    """Bytes that this process and all beside it may use at most: the machine's memory, or the lowest limit of its
    control groups (a service's `MemoryMax`, a container's), version 1 or 2.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _read(own).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (cgroup / "memory", "memory.limit_in_bytes") if controllers else (cgroup, "memory.max")
        group = root / path.lstrip("/")  # as seen from outside a container it is not there, but its root is
        said = [_read(folder / name).strip() for folder in (group, *group.parents) if folder.is_relative_to(root)]
        limits += [int(limit) for limit in said if limit.isdigit()]
    return min(limits)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
