"""Benchmarks run, and their rows have the names that are part of the interface. No test looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.deploy.bench import BenchError, run_bench
from thalweg.deploy.bench.core.hop import SIZES
from thalweg.deploy.bench.result import Result, quantile


def rows(name: str, folder: Path) -> dict[tuple[str, str], float]:
    run_bench(name, folder / "b.json", quick=True)
    found = json.loads((folder / "b.json").read_text())
    assert found.keys() == {"bench", "machine", "versions", "rows", "notes"}
    return {(row["case"], row["metric"]): row["value"] for row in found["rows"] if row["system"] == "thalweg"}


def test_inprocess_has_its_rows(tmp_path: Path) -> None:
    found = rows("inprocess", tmp_path)
    assert {("stages=1", "hop_p50"), ("stages=1", "hop_p99"), ("stages=20", "flood")} <= found.keys()


def test_freshness_drops_two_of_three_frames_and_keeps_the_newest(tmp_path: Path) -> None:
    found = rows("freshness", tmp_path)
    assert 55 <= found["process", "dropped"] <= 62
    assert found["process", "age_p50"] < found["process", "age_max"]


def test_hop_has_a_row_for_every_size_and_transport_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("grpc", "cryptography"):
        require_package(module, "grpc")
    monkeypatch.setenv("THALWEG_PEERS", str(tmp_path / "nobody"))
    result = run_bench("hop", tmp_path / "b.json", quick=True, csv=True)
    found = {(row.case, row.system, row.metric) for row in result.rows}
    for system in ("thalweg", "thalweg-unix", "thalweg-tcp", "thalweg-tls"):
        assert {(str(size), system, metric) for size in SIZES for metric in ("p50", "p99")} <= found
    assert "dora is left out: it is not installed (`make bench-peers`)" in result.notes
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("latency,")]
    assert len(printed) == 4 * len(SIZES) and printed[0].startswith("latency,8,thalweg,18,")


def test_replicas_has_its_rows_and_loses_nothing(tmp_path: Path) -> None:
    result = run_bench("replicas", tmp_path / "b.json", quick=True)
    metrics = {"rate_1", "rate_2", "age_p50_1", "age_p99_1", "age_p50_2", "age_p99_2", "speedup"}
    assert {(row.case, row.metric) for row in result.rows} == {
        (case, metric) for case in ("even", "cost") for metric in metrics
    }
    assert not any("lost or doubled" in note for note in result.notes)


@pytest.mark.usefixtures("voice_demo")
def test_turn_measures_every_milestone_and_its_parts_add_up(tmp_path: Path) -> None:
    found = rows("turn", tmp_path)
    order = [found["file", f"{m}_p50"] for m in ("first_partial", "final", "first_token", "first_audio")]
    assert order == sorted(order)
    drafts = {metric: value for (case, metric), value in found.items() if case == "file" and "draft" in metric}
    assert drafts.get("draft_hits", 0) + drafts.get("draft_misses", 0) >= 2  # one that never came is not listed


@pytest.mark.usefixtures("voice_demo")
def test_next_to_pipecat_ours_is_measured_also_where_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_PEERS", str(tmp_path / "nobody"))
    result = run_bench("turn", tmp_path / "b.json", quick=True, peer="pipecat")
    found = {row.metric: row.value for row in result.rows if row.system == "thalweg"}
    assert found["first_audio_p50"] > 0 and found["words_wrong"] < 50 and found["missed"] < 3
    assert found["processor"] > 0 and found["model_processor"] > 0 and found["memory"] > 100
    assert "pipecat is left out: it is not installed (`make bench-peers`)" in result.notes


def test_multimodal_has_its_systems_and_skipping_saves_time_and_units(tmp_path: Path) -> None:
    require_package("onnxruntime", "multimodal")
    run_bench("multimodal", tmp_path / "b.json", quick=True)
    found = json.loads((tmp_path / "b.json").read_text())
    values = {(row["case"], row["system"], row["metric"]): row["value"] for row in found["rows"]}
    case = "vehicle r=0.5 clean"
    systems = {row["system"] for row in found["rows"] if row["case"] == case}
    assert systems >= {"thalweg", "blocking", "pipelined", "cutoff", "random-skip", "oracle"}
    assert values[case, "pipelined", "latency_p50"] < values[case, "blocking", "latency_p50"]
    assert values[case, "thalweg", "latency_p50"] <= values[case, "pipelined", "latency_p50"]
    assert values[case, "thalweg", "unsensed"] > 0
    assert values[case, "pipelined", "accuracy"] == values[case, "blocking", "accuracy"]


def test_aging_makes_checkpoints_no_larger_and_goes_up_and_down(tmp_path: Path) -> None:
    found = rows("aging", tmp_path)
    assert found["turns=1000", "checkpoint_size"] < 1.2 * found["turns=10", "checkpoint_size"]
    metrics = {"rss_local", "rss_a", "checkpoint_p50", "interrupt_p50", "age_p50", "age_p95", "turns_a_second"}
    assert {(f"turns={n}", metric) for n in (10, 100, 1000) for metric in metrics} <= found.keys()
    assert {("up 0.05 h", "rss_local"), ("up 0.05 h", "rss_a")} <= found.keys()


def test_another_way_of_a_benchmark_does_not_take_what_the_first_does(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="bench turn takes --model alone"):
        run_bench("turn", tmp_path / "b.json", quick=True, model="smollm2-135m-instruct", webrtc=True)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("aging", "turns, up"),
        ("multimodal", "systems, budgets"),
        ("soak", "speed, reconnects"),
        ("asr", "steps, streams, flow, pipeline"),
        ("sessions", "crowds, visits"),
    ],
)
def test_a_benchmark_names_its_parts_where_one_is_asked_for_that_it_has_not(name: str, parts: str) -> None:
    with pytest.raises(BenchError, match=f"it has {parts}"):
        run_bench(name, None, quick=True, part="ablation")


def test_a_table_shows_the_ratio_to_each_peer(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(bench="b")
    result.add("c", "thalweg", 1, "µs", hop=5.0)
    result.add("c", "pipecat", 1, "µs", hop=20.0)
    result.finish(None)
    assert "0.250" in capsys.readouterr().out


def test_a_quantile_is_an_observation() -> None:
    assert [quantile([3.0, 1.0, 2.0], q) for q in (0.0, 0.5, 1.0)] == [1.0, 2.0, 3.0]


def test_failover_loses_and_doubles_nothing_and_no_stale_packet_is_delivered(tmp_path: Path) -> None:
    found = rows("failover", tmp_path)
    assert {found["subprocess", name] for name in ("lost", "doubled", "miscounted")} == {0}
    assert found["interrupt", "delivered"] == 0
    assert {("subprocess", "resume_p50"), ("subprocess", "resume_p95"), ("interrupt", "stale_p95")} <= found.keys()


def test_soak_at_full_speed_neither_files_nor_shared_memory_grow(tmp_path: Path) -> None:
    found = rows("soak", tmp_path)
    growing = {case: found[case, "open_files_growth"] + found[case, "segments_growth"] for case in ("local", "a", "b")}
    assert growing == {"local": 0, "a": 0, "b": 0}
    assert max(found[case, "rss_growth"] for case in ("local", "a", "b")) < 25
    assert {found["all", name] for name in ("lost", "doubled", "miscounted")} == {0}


def test_a_link_that_is_cut_every_second_loses_nothing_however_slow_the_consumer(tmp_path: Path) -> None:
    for module in ("grpc", "cryptography"):
        require_package(module, "grpc")
    result = run_bench("soak", tmp_path / "b.json", quick=True, part="reconnects")
    found = {(row.case, row.metric): row.value for row in result.rows}
    for chain in ("block", "at_least_once"):
        assert {found[chain, name] for name in ("lost", "doubled", "miscounted")} == {0}
        assert found[chain, "sent"] > 20
    assert found["all", "cuts"] > 10
