"""A program of this checkout under the limits that the image is run with, without the image.

By runc, as user 1000, with a root that cannot be written, no capabilities, no new privileges, no network, and /dev/shm
as small as Docker's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
USER = 1000
HOME = "/var/lib/thalweg"
SYSTEM = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
"""Of the root, links into /usr since Debian 10; what is none is bound."""
SHOWN = ("/usr", "/etc", sys.base_prefix, os.path.realpath(sys.prefix), str(ROOT))
TMPFS = ["nosuid", "nodev", "mode=1777"]
LIMIT_S = 120
"""The container's first process ends it then: to end runc alone would leave it running."""


def confined(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What became of a command. Besides /tmp it may write to its home, `folder`/home, which is made for it."""
    bundle, home = folder / "bundle", folder / "home"
    (bundle / "rootfs").mkdir(parents=True)
    home.mkdir()
    os.chown(home, USER, USER)
    folder.chmod(0o755)
    shown = list(dict.fromkeys(SHOWN))
    for name in SYSTEM:
        path = Path("/") / name
        if path.is_symlink():
            (bundle / "rootfs" / name).symlink_to(os.readlink(path))
        elif path.exists():
            shown.append(str(path))
    (bundle / "config.json").write_text(json.dumps(_bundle(shown, home, ["timeout", str(LIMIT_S), *command])))
    run = ["runc", "--root", str(folder / "runc"), "run", "--bundle", str(bundle), f"thalweg-{os.getpid()}"]
    return subprocess.run(
        run, capture_output=True, text=True, check=False, timeout=LIMIT_S + 30, stdin=subprocess.DEVNULL
    )


def _bundle(shown: list[str], home: Path, command: list[str]) -> dict[str, Any]:
    """https://github.com/opencontainers/runtime-spec/blob/main/config.md"""
    bind = ["rbind", "nosuid", "nodev"]
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*TMPFS, "size=65536k"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": TMPFS},
        *({"destination": path, "type": "none", "source": path, "options": [*bind, "ro"]} for path in shown),
        {"destination": HOME, "type": "none", "source": str(home), "options": [*bind, "rw"]},
    ]
    env = {"PATH": "/usr/bin:/bin", "HOME": HOME, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "COLUMNS": "120"}
    return {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": True},
        "process": {
            "user": {"uid": USER, "gid": USER},
            "args": command,
            "env": [f"{name}={value}" for name, value in env.items()],
            "cwd": HOME,
            "noNewPrivileges": True,
            "capabilities": {kind: [] for kind in ("bounding", "effective", "permitted", "inheritable")},
        },
        "mounts": mounts,
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]},
    }
