"""A Ray cluster whose autoscaler starts nodes as they are asked for, and a front on it; for `test_autoscaling.py`.

To be run in namespaces of its own for processes and network, as `unshare` makes them: the autoscaler's local nodes take
fixed ports, and nothing but the end of their namespace ends them. Prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

from tests.deploy.server.hosts.housing import asked, host_of
from thalweg.deploy.bench.dialogue.scripted import pipeline
from thalweg.transports.webrtc.client import Talker

URL = "http://127.0.0.1:8099"
ADMIN = {"Authorization": "Bearer operator"}
PATIENCE_S = 90.0
NETWORK = """
link set lo up
link add d0 type veth peer name d1
addr add 10.9.9.1/24 dev d0
link set d0 up
link set d1 up
route add default dev d0
"""
_LISTS = (
    "cluster_synced_files rsync_exclude rsync_filter initialization_commands setup_commands head_setup_commands "
    "worker_setup_commands head_start_ray_commands worker_start_ray_commands"
)
CLUSTER = {
    "cluster_name": "local",
    "max_workers": 3,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {
        "host": {"resources": {"CPU": 1, "thalweg": 1}, "node_config": {}, "min_workers": 1, "max_workers": 3},
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    },
    "head_node_type": "head",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.7,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    **{name: [] for name in _LISTS.split()},
}


def main(folder: Path) -> None:
    """Start it all, talk, and say what came of it."""
    for line in NETWORK.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    (folder / "cluster.json").write_text(json.dumps(CLUSTER), encoding="utf-8")
    (folder / "scripted.yaml").write_text(pipeline(), encoding="utf-8")
    env = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "THALWEG_ADMIN_TOKEN": "operator",
        "XDG_STATE_HOME": str(folder),
    }
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--port", "6379", "--num-cpus=0"]
    options = [f"--autoscaling-config={folder / 'cluster.json'}", "--include-dashboard", "false"]
    subprocess.run(
        [*ray, *options, "--temp-dir", str(folder / "r")],
        env=env,
        check=True,
        stdout=sys.stderr,
        stdin=subprocess.DEVNULL,
    )
    serve = [sys.executable, "-m", "thalweg.deploy", "serve", str(folder / "scripted.yaml"), "--port", "8099"]
    front = [*serve, "--sessions", "1", "--shrink-after", "0.1", "--on", "ray", "--address", "127.0.0.1:6379"]
    with subprocess.Popen(front, env=env, stdout=sys.stderr):
        print(json.dumps(asyncio.run(talked())), flush=True)
        os._exit(0)  # and with the first process of the namespace everything ends


async def talked() -> dict[str, Any]:
    """One conversation, and another on the host that was not there when the first one began; then none, until there
    is one host and one node; and one more.
    """
    async with aiohttp.ClientSession(headers=ADMIN) as http:

        async def ready(count: int) -> float:
            began_s = time.monotonic()
            async with asyncio.timeout(PATIENCE_S):
                while len(await hosts(http)) < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            return time.monotonic() - began_s

        await ready(1)
        before = len(await hosts(http))
        async with Talker(URL) as one:
            first = await asked(one, "red")
            took_s = await ready(2)
            async with Talker(URL) as other:
                second = await asked(other, "blue")
                apart = host_of(one) != host_of(other)
                async with http.get(f"{URL}/metrics") as response:
                    lines = (await response.text()).splitlines()
            most = await asyncio.to_thread(nodes)
        async with asyncio.timeout(3 * PATIENCE_S):
            while len(await hosts(http)) > 1 or await asyncio.to_thread(nodes) > 1:  # noqa: ASYNC110
                await asyncio.sleep(1.0)
        async with Talker(URL) as last:
            third = await asked(last, "green")
    return {
        "before": before,
        "answers": [first, second, third],
        "most": most,
        "apart": apart,
        "ready_s": took_s,
        "metrics": [
            line for line in lines if line.startswith(("thalweg_front_conversations ", "thalweg_front_places "))
        ],
    }


def nodes() -> int:
    """Alive, and for hosts."""
    asks = "import ray; ray.init('127.0.0.1:6379', logging_level=40, log_to_driver=False); print('NODES', sum("
    asks += "node['Alive'] and node['Resources'].get('thalweg', 0) > 0 for node in ray.nodes()))"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    return next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("NODES"))


async def hosts(http: aiohttp.ClientSession) -> list[str]:
    """Names of those that take newcomers."""
    try:
        async with http.get(f"{URL}/hosts") as response:
            found = (await response.json())["hosts"]
    except aiohttp.ClientError:
        return []
    return [host["name"] for host in found if host["state"] == "up" and not host["why"]]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
