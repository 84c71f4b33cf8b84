"""A front with conversation hosts, as `thalweg serve --on subprocess` runs it, but without its limits:

    python -m thalweg.deploy.bench.dialogue.served FILE PORT HOSTS SESSIONS

`SESSIONS`: most conversations of each host. Offers without a connection count as conversations, for all of the run.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from thalweg.deploy.reading import module_folders, pack, read_spec, staying
from thalweg.deploy.server.hosts.serve import SUBPROCESS, Placed
from thalweg.deploy.server.serve import serve_hosts
from thalweg.deploy.server.settings import ServerSettings
from thalweg.stages.io.terminal import begin, log_to_stderr


def main() -> int:
    """Serve until it is told to end."""
    begin()
    log_to_stderr()
    file, port, hosts, sessions = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    spec = read_spec(file, {})
    bundle = pack(staying(spec), str(file), module_folders(file))
    settings = ServerSettings(
        port=port,
        sessions=sessions,
        connecting=10_000,
        connect_s=600.0,
        per_address=10_000,
        requests_per_s=2_000.0,
        admin_token="operator",
        drain_s=30.0,
    )
    return asyncio.run(serve_hosts(spec, bundle, settings, Placed(on=SUBPROCESS, count=hosts)))


if __name__ == "__main__":
    sys.exit(main())
