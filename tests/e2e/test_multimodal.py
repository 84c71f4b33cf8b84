"""The multimodal examples as a user runs them: one process, several, profiled, and on clips in LRW's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import EXAMPLES, require_package
from thalweg.deploy.commands.recording.rehearsal import rehearse
from thalweg.deploy.commands.run import Outputs, run_file
from thalweg.deploy.ops.keeping.operating import PIPELINE
from thalweg.deploy.reading import read_spec
from thalweg.models.senses.lrw import LrwClips
from thalweg.models.senses.packs import open_samples, write_pack
from thalweg.models.senses.samples import SampleError, Track
from thalweg.models.store.fingerprint import fingerprint
from thalweg.pipeline.file.spec import load_spec
from thalweg.pipeline.senses.configuring import ConfigureError, Kind, Knob, Profile, Row, unit_key

MS = 1_000_000
PACK = str(EXAMPLES / "avwords.npz")


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_package("onnxruntime", "multimodal")


def decisions(file: Path, folder: Path, **settings: str) -> list[dict[str, Any]]:
    output = folder / "decisions.jsonl"
    settings |= {"output": str(output)}
    assert run_file(file, settings, Outputs(), live=False, quiet=True) == 0
    return [json.loads(line) for line in output.read_text().splitlines()]


def variant(folder: Path, text: str) -> Path:
    """The example on several workers, with something else about where it runs."""
    file = folder / "variant.yaml"
    file.write_text(f"include: [{EXAMPLES / 'avwords_processes.yaml'}]\nname: variant\n{text}")
    return file


def assert_skips(found: list[dict[str, Any]]) -> None:
    assert [d["epoch"] for d in found] == [1, 2, 3]
    assert any(d["reason"] == "skipped" and d["used"]["video"] < 24 for d in found)


@pytest.mark.parametrize("name", ["avwords.yaml", "avwords_processes.yaml"])
def test_the_word_example_skips_the_end_of_the_camera_also_across_workers(name: str, tmp_path: Path) -> None:
    assert_skips(decisions(EXAMPLES / name, tmp_path, samples=PACK, limit="3", camera_lag="600ms"))


def test_a_skip_goes_up_edges_that_are_grpc(tmp_path: Path) -> None:
    require_package("grpc", "grpc")
    edges = ("microphone.unit -> ear.unit", "camera.unit -> eye.unit", "eye.features -> decide.features")
    text = "transports:\n" + "".join(f'  "{edge}": grpc\n' for edge in edges)
    assert_skips(decisions(variant(tmp_path, text), tmp_path, samples=PACK, limit="3", camera_lag="600ms"))


def test_the_vehicle_example_reuses_every_stage(tmp_path: Path) -> None:
    from thalweg.models.recipes.vehicle.pack import make_pack

    pack = tmp_path / "vehicle.npz"
    make_pack(pack, "test", 21, "clean")
    spec = read_spec(EXAMPLES / "vehicle.yaml", {"samples": str(pack), "limit": "21"})
    done = rehearse(spec.graph, lambda modality, size, unit: 20 * MS)
    assert done.accuracy > 0.8
    assert done.sensors["scanner"].unsensed > 21
    assert done.problems == []


def profile(path: Path, latency_ms: dict[str, float], **other_hardware: str) -> str:
    """Four combinations; the accuracies are made up, so the bundle's predictor is what decides."""
    knobs = (
        Knob("ear.size", Kind.MODEL_SIZE, ("s", "l"), "audio"),
        Knob("eye.size", Kind.MODEL_SIZE, ("s", "l"), "video"),
    )
    rows = tuple(
        Row({"ear.size": ear, "eye.size": eye}, 0.5, (latency_ms[ear] + latency_ms[eye],) * 2)
        for ear in ("s", "l")
        for eye in ("s", "l")
    )
    made = Profile(
        pipeline="avwords", made="2026-01-01", fingerprint=fingerprint() | other_hardware, knobs=knobs,
        slow_downs=(1.0, 2.0), unit_ms={}, rows=rows,
    )  # fmt: skip
    path.write_text(json.dumps(made.plain()), encoding="utf-8")
    return str(path)


def tuned(path: str, budget_ms: int, foreign: str = "refuse") -> Any:
    """The word example with a profile, rehearsed on three samples."""
    text = (EXAMPLES / "avwords.yaml").read_text()
    text = text.replace(
        "patience: 2s", f'patience: 2s, profile: "{path}", budget: {budget_ms}ms, foreign: {foreign}, predict: true'
    )
    spec = load_spec(text, settings={"samples": PACK, "limit": "3", "skip": "false", "camera_lag": "0ms"})
    used: set[tuple[str, str]] = set()

    def cost(modality: str, size: str, unit: Any) -> int:
        if unit.index > 2:
            used.add((modality, size))
        return MS

    return rehearse(spec.graph, cost), used


@pytest.mark.parametrize(("budget_ms", "sizes"), [(30, {"s"}), (1000, {"s", "l"})])
def test_the_first_units_configure_the_rest_within_the_budget(budget_ms: int, sizes: set[str], tmp_path: Path) -> None:
    done, used = tuned(profile(tmp_path / "p.json", {"s": 10.0, "l": 100.0}), budget_ms)
    assert {size for _, size in used} <= sizes
    assert len(done.decide.tuner.chosen) == 3
    assert all(choice.latency_ms <= 0.9 * budget_ms for choice in done.decide.tuner.chosen.values())


def test_samples_are_of_one_kind_and_follow_the_load_from_one_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    knobs = (
        Knob("ear.size", Kind.MODEL_SIZE, ("s", "l"), "audio"),
        Knob("microphone.unit", Kind.UNIT_LENGTH, ("80ms", "40ms"), "audio"),
    )
    cheap, dear = {"ear.size": "s", "microphone.unit": "80ms"}, {"ear.size": "l", "microphone.unit": "40ms"}
    rows = (Row(cheap, 0.5, (10.0, 20.0)), Row(dear, 0.9, (50.0, 100.0)))
    made = Profile(
        pipeline="avwords", made="2026-01-01", fingerprint=fingerprint(), knobs=knobs, slow_downs=(1.0, 2.0),
        unit_ms={unit_key("audio", size, values): 1.0 for size in "sl" for values in (640, 1280)}, rows=rows,
    )  # fmt: skip
    path.write_text(json.dumps(made.plain()))
    text = (EXAMPLES / "avwords.yaml").read_text().replace("    first: s\n", "")
    text = text.replace("patience: 2s", f'patience: 2s, profile: "{path}", budget: 80ms')
    settings = {"samples": PACK, "limit": "6", "skip": "false", "camera_lag": "0ms"}
    heard: list[tuple[str, int]] = []

    def cost(modality: str, size: str, unit: Any) -> int:
        if modality == "audio":
            heard.append((size, unit.values.size))
        return 2 * MS if modality == "audio" and len(heard) > 3 * 24 + 4 else 1 * MS

    done = rehearse(load_spec(text, settings=settings).graph, cost)
    assert heard[: 3 * 24] == [("l", 640)] * 3 * 24
    assert heard[-12:] == [("s", 1280)] * 12
    assert [done.decide.tuner.chosen[epoch].settings for epoch in (1, 3, 6)] == [dear, dear, cheap]  # type: ignore[union-attr]


def test_an_infeasible_budget_is_said_once_and_gets_the_fastest(tmp_path: Path) -> None:
    done, used = tuned(profile(tmp_path / "p.json", {"s": 10.0, "l": 100.0}), 5)
    assert used == {("audio", "s"), ("video", "s")}
    assert done.problems == ["infeasible because of the budget of 5 ms: the fastest takes 20 ms"]
    assert len(done.decisions) == 3


def test_a_profile_of_other_hardware_is_refused_or_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = profile(tmp_path / "p.json", {"s": 10.0, "l": 100.0}, cpu="another")
    with pytest.raises(ConfigureError, match="other hardware"):
        tuned(path, 100)
    done, _ = tuned(path, 100, foreign="warn")
    assert len(done.decisions) == 3
    assert "other hardware" in caplog.text


def test_a_profile_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{}")
    with pytest.raises(ConfigureError, match="no profile"):
        tuned(str(tmp_path / "p.json"), 100)


def test_profiling_covers_every_combination_and_says_what_units_cost(tmp_path: Path) -> None:
    from thalweg.deploy.commands.profiling import profile as measure

    settings = {"samples": PACK, "limit": "1", "skip": "false", "camera_lag": "0ms", "cost_l": "48ms"}
    made, measured = measure(read_spec(EXAMPLES / "avwords.yaml", settings), samples=1, repeats=3)
    assert len(made.rows) == 81
    assert made.foreign(fingerprint()) == []
    units = [("audio", values) for values in (640, 960, 1280)] + [("video", 1024)]
    assert set(made.unit_ms) == {unit_key(m, size, values) for m, values in units for size in "sml"}
    assert measured is not None
    assert made.unit_ms["audio:l:640"] >= 48


def write_clip(path: Path, frames: np.ndarray[Any, Any], audio: np.ndarray[Any, Any]) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width = video.height = 256
        video.pix_fmt = "yuv420p"
        sound = out.add_stream("aac", rate=16_000, layout="mono")
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=2), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        chunk = av.AudioFrame.from_ndarray(audio[None], format="flt", layout="mono")
        chunk.sample_rate = 16_000
        out.mux(sound.encode(chunk))
        out.mux(sound.encode(None))


def test_a_folder_in_lrw_layout_plays_as_a_pack_does(tmp_path: Path) -> None:
    require_package("av", "audio")
    tone = (0.3 * np.sin(np.arange(18_560) * 0.3)).astype(np.float32)
    for word, grey in (("BAT", 60), ("PAT", 180)):
        write_clip(tmp_path / word / "test" / f"{word}_00001.mp4", np.full((29, 256, 256), grey, np.uint8), tone)
    clips = LrwClips(tmp_path)
    assert clips.labels == ("BAT", "PAT")
    assert clips.ticks(0, "audio").shape == (48, 320)
    assert clips.ticks(1, "video").shape == (24, 32, 32)
    assert abs(float(clips.ticks(1, "video").mean()) - 180) < 8
    spec = read_spec(EXAMPLES / "avwords.yaml", {"samples": str(tmp_path), "limit": "2"})
    assert len(rehearse(spec.graph, None).decisions) == 2


@pytest.mark.parametrize("name", ["avwords.yaml", "vehicle.yaml"])
def test_an_example_runs_by_its_bare_name_without_a_checkout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_file(PIPELINE.convert(name, None, None), {"limit": "1"}, Outputs(), live=False, quiet=True) == 0
    assert len((tmp_path / "decisions.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_a_pack_of_ones_own_goes_before_the_one_of_that_name_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(open_samples(Path("avwords.npz")).labels) > 1
    with pytest.raises(SampleError, match="does not exist"):
        open_samples(Path("./here/avwords.npz"))
    write_pack(
        Path("avwords.npz"), {"audio": Track(20 * MS, "concatenate")}, ["pat"], {"audio": np.zeros((1, 48, 320))}
    )
    assert open_samples(Path("avwords.npz")).labels == ("pat",)


def test_a_folder_without_clips_and_a_clip_without_sound_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match="has no clips"):
        LrwClips(tmp_path)
    (tmp_path / "BAT" / "test").mkdir(parents=True)
    (tmp_path / "BAT" / "test" / "BAT_00001.mp4").write_bytes(b"not a clip")
    with pytest.raises(SampleError, match="cannot be read"):
        LrwClips(tmp_path).ticks(0, "audio")


def test_a_sensor_of_a_modality_that_was_not_recorded_is_refused(tmp_path: Path) -> None:
    from thalweg.deploy.errors import StartError

    pack = tmp_path / "x.npz"
    write_pack(pack, {"audio": Track(20 * MS, "concatenate")}, ["pat"], {"audio": np.zeros((1, 48, 320), np.float32)})
    spec = read_spec(EXAMPLES / "avwords.yaml", {"samples": str(pack)})
    with pytest.raises(StartError, match="has no 'video'"):
        rehearse(spec.graph, None)
