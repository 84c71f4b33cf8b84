"""What a second user of the machine sees of a deployment: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.deploy.ops.conftest import TICKING, Thalweg

pytestmark = pytest.mark.real

NOBODY = 65534
PROBE = """
import json, os, socket, sys
found = {"files": [], "folders": [], "connected": []}
for folder, names, files in os.walk(sys.argv[1]):
    inside = [os.path.join(folder, n) for n in names]
    found["folders"] += [path for path in inside if os.access(path, os.R_OK | os.X_OK)]
    found["files"] += [os.path.join(folder, f) for f in files if os.access(os.path.join(folder, f), os.R_OK)]
for line in open("/proc/net/unix").read().splitlines()[1:]:
    path = line.split()[-1]
    if "thalweg" in path or path.startswith(sys.argv[1]):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if path.startswith("@") else socket.SOCK_STREAM) as s:
            s.settimeout(2)
            try:
                s.connect("\\0" + path[1:] if path.startswith("@") else path)
                s.send(b'{"edge": "x", "token": "y"}')
                said = s.recv(4096)
                found["connected"] += [] if said[:1] in (b"", b"n") else [path]  # n: it was told no
            except OSError:
                pass
for pid in sys.argv[2:]:
    for name in ("environ", "mem", "fd/0", "map_files"):
        try:
            open(f"/proc/{pid}/{name}", "rb").read(16)
            found["files"].append(f"/proc/{pid}/{name}")
        except OSError:
            pass
print(json.dumps(found))
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may look into, as /home and /var/lib are."""
    folder = Path(tempfile.mkdtemp(prefix="thalweg-other-user-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_another_user_reads_no_file_and_no_memory_of_a_deployment_and_reaches_no_socket_of_it(
    place: Path, thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(os.geteuid() == 0, "run as root: it takes a second user")
    python = next((p for p in ("/usr/bin/python3", sys.executable) if os.stat(p).st_mode & 0o001), None)
    require(python, "apt-get install python3")
    assert python is not None
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    path = place / "out"
    settings = {"path": path, "n": 100_000}
    pairs = [f"--set={name}={value}" for name, value in settings.items() if name in Path(TICKING).read_text("utf-8")]
    up = thalweg("up", TICKING, "--name", "watched", *pairs)
    assert up.returncode == 0, up.stderr
    try:
        listed = json.loads(thalweg("ps", "--json").stdout)
        pids = {str(entry["pid"]) for entry in (listed if isinstance(listed, list) else listed.values())}
        pids |= {str(w["pid"]) for entry in listed for w in entry.get("workers", {}).values() if w.get("pid")}
        done = subprocess.run(
            [python, "-I", "-c", PROBE, str(place / "state"), *sorted(pids)],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd="/",
        )
    finally:
        thalweg("down", "watched")
    assert json.loads(done.stdout) == {"files": [], "folders": [], "connected": []}
    assert len(pids) >= 2, "the supervising process and a worker were looked at"
