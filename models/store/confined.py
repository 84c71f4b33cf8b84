"""Reading a file from strangers in a process of its own, with limits on its memory and time.

Readers of archives use code that malicious input can crash or make allocate all memory (`pickle`, `tarfile`, YAML). So
they run in a child process: the parent gets the result or a ModelError, even if the child dies. The result comes back
as files in a folder: arrays by `numpy.save`, without pickle, and JSON.

    confined("package.module:unpack", path, out, memory=2 << 30, seconds=60)

calls `unpack(path, out)` there. The limits hold where the system has them (Linux: address space and processor time);
the time by the clock holds everywhere.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from thalweg.models.child_process import module_path, python_module, without_secrets
from thalweg.models.errors import ModelError

BASE_BYTES = 1 << 30
"""Address space of Python and numpy themselves, with room."""
LONGEST_REASON = 400


def limits_for(path: Path) -> tuple[int, float]:
    """Memory (bytes) and time (s) for reading `path`: in proportion to what lies on the disk."""
    size = path.stat().st_size
    return BASE_BYTES + 6 * size, 60.0 + size / 20e6


def confined(function: str, path: Path, out: Path, *, memory: int, seconds: float) -> None:
    """Call `function` (`module:name`) with `path` and `out` in a child.

    Raises ModelError with what it raised, or with what became of it: a child that crashes, takes more than it may or
    does not end is the file's fault, and is said to be.
    """
    child = subprocess.Popen(
        python_module(__name__, function, str(path), str(out), str(memory), str(seconds)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=without_secrets(os.environ)
        | module_path()
        | {
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONUTF8": "1",
        },
    )
    try:
        said, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path} cannot be read within {seconds:.0f} s: it is damaged or malicious") from None
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    if child.returncode == 0:
        return
    if child.returncode == 3 and said:
        raise ModelError(said.decode("utf-8", "replace")[:LONGEST_REASON])
    if child.returncode in (4, -signal.SIGKILL):
        raise ModelError(f"{path} wants more than {memory >> 20} MiB of memory to be read: it is damaged or malicious")
    raise ModelError(f"{path} cannot be read: it is damaged or malicious (its reader crashed)")


def _limit(memory: int, seconds: float) -> None:
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(what)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        with contextlib.suppress(OSError, ValueError):  # where a service manager has forbidden it, its own limits hold
            resource.setrlimit(what, (limit, most))


def _main(function: str, path: str, out: str, memory: str, seconds: str) -> int:
    """Exit code: 0, 3 with the reason on standard output, 4 for want of memory."""
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    _limit(int(memory), float(seconds))
    try:
        call(Path(path), Path(out))
    except MemoryError:
        return 4
    except ModelError as error:
        sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
        return 3
    return 0


if __name__ == "__main__":
    code = _main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # what it read is on the disk; taking apart what it built may take as long as building it
