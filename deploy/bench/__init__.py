"""Benchmarks that every user can run: `thalweg bench NAME`. Peers run in environments of their own, in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.pipeline.errors import ThalwegError

if TYPE_CHECKING:
    from thalweg.deploy.bench.result import Result


class BenchError(ThalwegError):
    """An option that a benchmark does not have."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark: `measure(result, quick, …)` of a module of this package.

    `instead`: what an option's value puts in its place, `module:function`. `takes`: options of `measure`, not of
    what is in its place.
    """

    about: str
    measure: str
    instead: Mapping[tuple[str, Any], str] = field(default_factory=dict)
    takes: tuple[str, ...] = ()


BENCHES: Mapping[str, Bench] = {
    "aging": Bench(
        "what checkpoints, interrupts, sound and memory cost after 10 to 100,000 turns; PART: turns or up",
        "core.aging:measure",
        takes=("part",),
    ),
    "inprocess": Bench(
        "cost per stage hop in one process, and how much a flood gets through", "core.inprocess:measure"
    ),
    "failover": Bench(
        "standstill after kill -9 of a worker, what is lost, how soon interrupts act", "core.failover:measure"
    ),
    "freshness": Bench(
        "age of camera frames at a consumer that is three times too slow",
        "core.freshness:measure",
        {("across", "processes"): "core.across:measure_processes", ("across", "hosts"): "core.across:measure_hosts"},
    ),
    "hop": Bench(
        "one-way latency between two processes, 8 B to 4 MB; PART: some of the systems, with commas between",
        "core.hop:measure",
        takes=("part", "csv"),
    ),
    "glass": Bench("age of a picture decoded at the other end of WebRTC, next to plain aiortc", "video.glass:measure"),
    "hosts": Bench(
        "conversations on one to three hosts behind a front, which die or are emptied; "
        "PART: crowds, loss, drain or upgrade",
        "dialogue.hosts:measure",
        takes=("part",),
    ),
    "replicas": Bench(
        "what a second replica of a stage brings, what splitting and merging cost", "core.replicas:measure"
    ),
    "sessions": Bench(
        "conversations at once over WebRTC, until the server refuses; what visits leave; PART: crowds or visits",
        "dialogue.sessions:measure",
        takes=("part",),
    ),
    "hour": Bench(
        "an hour of a server under visitors, with its dashboard drawn; needs Prometheus",
        "dialogue.hour:measure",
        takes=("minutes", "json_path"),
    ),
    "siege": Bench(
        "latency of a visitor while others attack the server, and in peace; PART: one kind of attack",
        "dialogue.siege:measure",
        takes=("part",),
    ),
    "soak": Bench(
        "memory, files and shared memory of workers at full speed; a link cut every second; PART: speed or reconnects",
        "core.soak:measure",
        takes=("minutes", "part"),
    ),
    "edge": Bench(
        "deadlines missed by placement that follows the link, in simulated flights; a stage moved for real; "
        "PART: flights, geotag, moved or flapping",
        "fleet.placing:measure",
        takes=("part",),
    ),
    "turn": Bench(
        "end of speech to first partial, final, first token and first audio",
        "dialogue.turn:measure",
        {("webrtc", True): "dialogue.webrtc:measure_turns", ("peer", "pipecat"): "dialogue.headtohead:measure"},
        takes=("model",),
    ),
    "answers": Bench(
        "how often language models are right about 60 plain questions, and how soon they begin",
        "language.answers:measure",
        takes=("model", "json_path", "minutes"),
    ),
    "threads": Bench(
        "what a second thread of a language model brings, alone and beside a busy one",
        "language.threads:measure",
        takes=("model",),
    ),
    "handoff": Bench(
        "language models that die, stall or are late; PART: deaths, pings, learning, links, cascade, seams",
        "language.handoff:measure",
        takes=("part",),
    ),
    "wer": Bench(
        "word errors, processor time and edits of recognisers, streamed, in noise, over a telephone, from afar",
        "speech.wer:measure",
        takes=("model", "json_path", "minutes"),
    ),
    "long": Bench("an hour of speech into a file, next to faster-whisper's batched pipeline", "speech.long:measure"),
    "nothing": Bench(
        "words that recognisers make out of silence, noise, a keyboard, music and far babble",
        "speech.nothing:measure",
        takes=("model", "json_path", "minutes"),
    ),
    "endofturn": Bench(
        "which turns with pauses inside silences, Smart Turn and ours cut off, and how long others wait",
        "dialogue.endofturn:measure",
        takes=("json_path", "minutes"),
    ),
    "multimodal": Bench(
        "blocking, pipelined, tuned and cut-short decisions from two modalities; PART: systems or budgets",
        "senses.multimodal:measure",
        takes=("part",),
    ),
    "asr": Bench(
        "streaming recognition next to NeMo, same weights; PART: steps, streams, flow or pipeline",
        "speech.asr:measure",
        takes=("part", "model"),
    ),
    "video": Bench(
        "what a machine reads in video against the bits it costs; PART: curves, traces, loss, cost or sockets",
        "video:measure",
        takes=("part", "minutes", "json_path"),
    ),
}


def run_bench(
    name: str, json_path: Path | None, quick: bool, *, limit_s: float | None = None, **options: Any
) -> Result:
    """Run one benchmark, print its tables and write its rows. `options`: those of the command that were given.

    `limit_s`: how long a round of one system may take, in place of the limits that rounds have of their own. What was
    found before something failed is printed and written, too. Raises BenchError on an option that this benchmark does
    not have, RoundError where a round of ours does not end.
    """
    bench = BENCHES[name]
    where, taken = bench.measure, {"json_path": json_path} if "json_path" in bench.takes else {}
    for option, value in options.items():
        if (option, value) in bench.instead:
            where = bench.instead[option, value]
        elif option in bench.takes:
            taken[option] = value
        else:
            raise BenchError(f"bench {name} has no {'parts' if option == 'part' else f'--{option}'}")
    if where != bench.measure and (beside := taken.keys() - {"json_path"}):
        raise BenchError(f"bench {name} takes --{', --'.join(sorted(beside))} alone")
    from thalweg.deploy.bench.result import Result
    from thalweg.stages.io.terminal import say

    module, _, function = where.partition(":")
    result = Result(bench=name, limit_s=limit_s)
    measure = getattr(import_module(f"thalweg.deploy.bench.{module}"), function)
    try:
        with result.rounds.shown():
            lines = measure(result, quick, **taken)
    except BaseException as error:
        if result.rows:
            result.notes.append(f"not complete: {error or type(error).__name__}")
            result.finish(json_path)
        raise
    result.finish(json_path)
    for line in lines or ():
        say(line)
    return result


__all__ = ["BENCHES", "BenchError", "run_bench"]
