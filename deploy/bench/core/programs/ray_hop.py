"""Ray's side of `bench hop`: two actors on a cluster of its own; runs with its own Python, needs nothing of ours.

`actor`: one actor calls the other with the payload. `compiled`: a compiled graph, driver → one → other; the hop is from
where the first returns to where the second begins.
"""

import json
import logging
import os
import sys
import time

os.environ["RAY_DEDUP_LOGS"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.pop("RAY_ADDRESS", None)

import numpy as np
import ray


@ray.remote(num_cpus=0)
class One:
    def make_all(self, size):
        self.payload = np.zeros(size, np.uint8)

    def send(self, other, size, n, gap_s):
        payload = np.zeros(size, np.uint8)
        for _ in range(n):
            other.take.remote((time.monotonic_ns(), payload))
            time.sleep(gap_s)

    def give(self, _):
        return time.monotonic_ns(), self.payload


@ray.remote(num_cpus=0)
class Other:
    def __init__(self):
        self.hops_ns = []

    def take(self, packet):
        now_ns = time.monotonic_ns()
        self.hops_ns.append(now_ns - packet[0])
        return 0

    def hops(self):
        found, self.hops_ns = self.hops_ns, []
        return found


def by_actor(sizes, n, gap_s):
    start_cluster()
    one, other = One.remote(), Other.remote()
    hops_ns = {}
    for size in sizes:
        ray.get(one.send.remote(other, size, n, gap_s))
        time.sleep(0.5)
        hops_ns[size] = ray.get(other.hops.remote())
    ray.shutdown()
    return hops_ns


def by_compiled_graph(sizes, n, gap_s):
    from ray.dag import InputNode

    hops_ns = {}
    for size in sizes:  # a second graph on the same cluster hangs
        start_cluster()
        one, other = One.remote(), Other.remote()
        ray.get(one.make_all.remote(size))
        with InputNode() as start:
            graph = other.take.bind(one.give.bind(start))
        compiled = graph.experimental_compile(_buffer_size_bytes=size + 100_000)
        for _ in range(n):
            ray.get(compiled.execute(0))
            time.sleep(gap_s)
        compiled.teardown()
        hops_ns[size] = ray.get(other.hops.remote())
        ray.shutdown()
    return hops_ns


def start_cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def main():
    sizes, n, gap_s, how = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    hops_ns = (by_actor if how == "actor" else by_compiled_graph)(sizes, n, gap_s)
    print(json.dumps({"version": ray.__version__, "hops_ns": hops_ns}))


main()
