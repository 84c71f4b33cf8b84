"""Conversations with two versions of Thalweg by turns: `python .../two_versions.py BEFORE AFTER [ROUNDS]`.

Both are checkouts whose `.venv` has what they want. A round, with each recogniser: ten questions over WebRTC, each of
their answers interrupted, as `bench turn --webrtc` asks them, then four questions by one, and by two at once, as
`bench sessions` does. Prints medians and 95th percentiles over all rounds, in milliseconds. Each version is measured by
its own client.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

RECOGNISERS = ("whisper-base", "pocketsphinx")
QUESTIONS, IN_A_CROWD = 10, 4
MEASURED = {
    "first": "first audio",
    "interrupt": "interrupt",
    "crowd 1": "first audio alone",
    "crowd 2": "of two at once",
}


def main(checkouts: list[Path], rounds: int) -> None:
    """Print a row per recogniser and figure."""
    found: dict[tuple[str, str, Path], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for recogniser in RECOGNISERS:
            for checkout in checkouts:
                command = [checkout / ".venv/bin/python", Path(__file__).resolve(), "measure", recogniser]
                told = subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.PIPE, text=True).stdout
                for name, values in json.loads(told.splitlines()[-1]).items():
                    found[recogniser, name, checkout] += values
    for recogniser in RECOGNISERS:
        for name, title in MEASURED.items():
            each = [sorted(found[recogniser, name, checkout]) for checkout in checkouts]
            row = "".join(f"{_quantile(v, 0.5):7.0f} / {_quantile(v, 0.95):5.0f} (of {len(v)})" for v in each)
            print(f"{recogniser:13} {title:18} {row}")


def _quantile(values: list[float], q: float) -> float:
    return values[min(len(values) - 1, int(q * len(values)))] if values else float("nan")


def measure(recogniser: str) -> dict[str, list[float]]:
    """Of the version in the working directory."""
    sys.path.insert(0, str(Path.cwd()))
    from thalweg.deploy.bench.dialogue import sessions, turn, webrtc

    speaker = webrtc.Speaker()
    spoken = [speaker.say(question) for question in turn.QUESTIONS[:QUESTIONS]]
    settings = {"recogniser": recogniser, "end_of_turn": "silence", "silence": "300ms"}
    options = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    with webrtc.server(*options) as (url, _):
        turns = asyncio.run(webrtc.converse(url, spoken, speaker.say(webrtc.INTERRUPTION)))
    found = {"first": turns.first_audio, "interrupt": turns.interrupt}
    with webrtc.server("--per-address", "1000", *options) as (url, _):
        for n in (1, 2):
            together, _ = sessions._crowded(url, n, spoken[:IN_A_CROWD])
            found[f"crowd {n}"] = together.first_audio
    return found


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        print(json.dumps(measure(sys.argv[2])))
    else:
        main([Path(each).resolve() for each in sys.argv[1:3]], int(sys.argv[3]) if len(sys.argv) > 3 else 3)
