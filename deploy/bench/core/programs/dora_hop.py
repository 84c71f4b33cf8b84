"""dora's side of `bench hop`: a dataflow of two Python nodes, `dora run`; needs nothing of ours.

Called without THALWEG_BENCH_END it writes the dataflow and runs it; the nodes are this program again. The stamp
travels in the metadata, the payload is an Arrow array made beforehand.
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
  - id: source
    path: {script}
    env: {{THALWEG_BENCH_END: source, THALWEG_BENCH_ORDERS: '{orders}'}}
    outputs: [data]
  - id: sink
    path: {script}
    env: {{THALWEG_BENCH_END: sink, THALWEG_BENCH_ORDERS: '{orders}', THALWEG_BENCH_RESULT: '{result}'}}
    inputs:
      data: {{source: source/data, queue_size: 100}}
"""


def produce(sizes, n, gap_s):
    import numpy as np
    import pyarrow as pa
    from dora import Node

    node = Node()
    time.sleep(1)
    for size in sizes:
        payload = pa.array(np.zeros(size, np.uint8))
        for _ in range(n):
            node.send_output("data", payload, {"stamp": time.monotonic_ns()})
            time.sleep(gap_s)


def consume(sizes, n):
    from dora import Node

    node = Node()
    hops_ns = {size: [] for size in sizes}
    for event in node:
        if event["type"] == "INPUT":
            now_ns = time.monotonic_ns()
            hops_ns[len(event["value"])].append(now_ns - event["metadata"]["stamp"])
    Path(os.environ["THALWEG_BENCH_RESULT"]).write_text(json.dumps(hops_ns), encoding="utf-8")


def main():
    end = os.environ.get("THALWEG_BENCH_END")
    if end:
        sizes, n, gap_s = json.loads(os.environ["THALWEG_BENCH_ORDERS"])
        produce(sizes, n, gap_s) if end == "source" else consume(sizes, n)
        return
    orders = json.dumps([json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])])
    programs = str(Path(sys.executable).parent)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "hops.json")
        dataflow = Path(folder, "dataflow.yml")
        dataflow.write_text(
            DATAFLOW.format(script=Path(__file__).resolve(), orders=orders, result=result), encoding="utf-8"
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
        hops_ns = json.loads(result.read_text(encoding="utf-8"))
    print(json.dumps({"version": importlib.metadata.version("dora-rs"), "hops_ns": hops_ns}))


main()
