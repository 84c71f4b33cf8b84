"""dora's side of `bench freshness --across processes`: a camera node and a slow node; needs nothing of ours.

Arguments: frames, fps, seconds per frame, the queue size of the slow node's input (`default` for dora's own).
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATAFLOW = """
nodes:
  - id: camera
    path: {script}
    env: {{THALWEG_BENCH_END: camera, THALWEG_BENCH_ORDERS: '{orders}'}}
    outputs: [video]
  - id: slow
    path: {script}
    env: {{THALWEG_BENCH_END: slow, THALWEG_BENCH_ORDERS: '{orders}', THALWEG_BENCH_RESULT: '{result}'}}
    inputs:
      video: {{source: camera/video{queue}}}
"""


def produce(frames, fps):
    import numpy as np
    import pyarrow as pa
    from dora import Node

    node = Node()
    time.sleep(1)
    start = time.monotonic()
    for i in range(frames):
        time.sleep(max(0.0, start + i / fps - time.monotonic()))
        picture = pa.array(np.full(480 * 640 * 3, i % 256, np.uint8))
        node.send_output("video", picture, {"stamp": time.monotonic_ns()})


def consume(seconds):
    from dora import Node

    ages_ns = []
    for event in Node():
        if event["type"] == "INPUT":
            ages_ns.append(time.monotonic_ns() - event["metadata"]["stamp"])
            time.sleep(seconds)
    Path(os.environ["THALWEG_BENCH_RESULT"]).write_text(json.dumps(ages_ns), encoding="utf-8")


def main():
    end = os.environ.get("THALWEG_BENCH_END")
    if end:
        frames, fps, seconds = json.loads(os.environ["THALWEG_BENCH_ORDERS"])
        produce(frames, fps) if end == "camera" else consume(seconds)
        return
    orders = json.dumps([int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])])
    queue = "" if sys.argv[4] == "default" else f", queue_size: {sys.argv[4]}"
    programs = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "ages.json")
        dataflow = Path(folder, "dataflow.yml")
        dataflow.write_text(
            DATAFLOW.format(script=Path(__file__).resolve(), orders=orders, result=result, queue=queue),
            encoding="utf-8",
        )
        done = subprocess.run(
            [f"{programs}/dora", "run", str(dataflow)],
            cwd=folder,
            env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            encoding="utf-8",
        )
        if not result.exists():
            sys.exit(f"dora run ended with code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
        ages_ns = json.loads(result.read_text(encoding="utf-8"))
    print(json.dumps({"version": importlib.metadata.version("dora-rs"), "ages_ns": ages_ns}))


main()
