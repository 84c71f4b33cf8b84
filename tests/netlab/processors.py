"""How much of a processor the processes of a lab's hosts may use (cgroup v1, `cpu.cfs_quota_us`)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.netlab.lab import LabError

ROOT = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 10_000
"""A tenth of what is usual: with that, work of 30 ms would be done before the quota is used up, or wait for 90 ms."""


@contextmanager
def processor(share: float) -> Iterator[list[str]]:
    """A group that may use this share of one core; the command that runs in it what stands behind. Removed in the end.

    Raises LabError where groups cannot be made.
    """
    group = ROOT / f"twlab-{os.getpid()}-{secrets.token_hex(3)}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US), encoding="ascii")
        (group / "cpu.cfs_quota_us").write_text(str(round(share * PERIOD_US)), encoding="ascii")
    except OSError as error:
        raise LabError(f"processors cannot be limited here: {error}") from None
    try:
        yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
    finally:
        group.rmdir()
