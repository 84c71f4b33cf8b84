"""What a profile is tied to: the hardware and the software that its numbers were measured on."""

from __future__ import annotations

import platform
from pathlib import Path

from thalweg.models.store.fitting import allowed_cores


def fingerprint() -> dict[str, str]:
    """Processor, how many of it may be used, architecture, and the Python that runs on it."""
    return {
        "cpu": _cpu(),
        "cores": str(allowed_cores()),
        "machine": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
