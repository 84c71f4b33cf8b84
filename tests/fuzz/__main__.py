"""`python -m tests.fuzz TARGET… --count N`: see the package. Ends with 1 where anything was found.

With `--state FOLDER` a run that was stopped goes on where it was, and what it found is kept there. `--collect` adds
inputs that went somewhere new to the corpus, the shortest first.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

from tests.fuzz.engine import Findings, fuzz, peak_mb
from tests.fuzz.targets import TARGETS, corpus, write_corpus

MEMORY = 4 << 30


def main() -> int:
    """Run the targets that were named, all of them without a name."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; all if left out")
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="a folder to keep what is found in, and to go on from")
    parser.add_argument("--collect", action="store_true", help="add to tests/fuzz/corpus")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.targets) - set(TARGETS)):
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if asked.state is not None:
        asked.state.mkdir(parents=True, exist_ok=True)
    bad = False
    for name in asked.targets or TARGETS:
        found = _run(name, asked.count, asked.seed, asked.state)
        bad = bad or bool(found.unexpected)
        if asked.collect:
            write_corpus(name, [bytes.fromhex(one) for one in found.pool])
    return int(bad)


def _run(name: str, count: int, seed: int, state: Path | None) -> Findings:
    path = None if state is None else state / f"{name}.json"
    found = Findings(seed) if path is None else Findings.read(path, seed)
    before_mb = peak_mb()
    for _ in fuzz(name, TARGETS[name], count, found, corpus(name)):
        if path is not None:
            found.write(path)
        print(f"{name}: {found.done:,}", end="\r", file=sys.stderr, flush=True)
    print(
        f"{name}: {found.done:,} inputs, {found.accepted:,} accepted, {len(found.unexpected)} kinds of unexpected, "
        f"{found.hangs} hangs, worst {found.worst_ms:.1f} ms, {found.done / max(found.seconds, 1e-9):,.0f}/s, "
        f"peak {peak_mb():.0f} MB (before {before_mb:.0f})",
        flush=True,
    )
    for what, data in found.unexpected.items():
        print(f"  {what}\n    {data[:400]}", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
