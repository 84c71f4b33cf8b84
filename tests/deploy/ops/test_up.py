"""Deployments that stay, in real processes: up, seen, heard, down, and nothing left in any case."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.ops.conftest import TICKING, Thalweg
from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError
from thalweg.deploy.ops.keeping.logs import log_lines, trim

pytestmark = pytest.mark.real


def lives(pid: int) -> bool:
    """Whether a process is there, and not only a dead one that nobody has asked after."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_deployment_comes_up_is_seen_and_heard_and_goes_down_without_a_trace(thalweg_apart: Thalweg) -> None:
    thalweg = thalweg_apart
    up = thalweg("up", TICKING, "--name", "clock")
    assert up.returncode == 0, up.stderr
    assert "clock is up" in up.stdout
    folder = DeploymentFolder("clock")
    pids = folder.processes()
    (listed,) = json.loads(thalweg("ps", "--json").stdout)
    assert [listed["name"]] == [one["name"] for one in json.loads(thalweg("ps", "clock", "--json").stdout)]
    assert "there is no deployment 'clok'" in thalweg("ps", "clok").stderr
    assert listed["state"] == "ready"
    assert {name: worker["state"] for name, worker in listed["workers"].items()} == {
        "local": "running",
        "middle": "running",
    }
    known = {listed["pid"], *(worker["pid"] for worker in listed["workers"].values())}
    assert len(known) == 3
    assert known <= set(pids), "beside them there may be a process in reserve for one that is lost"
    seen = json.loads(thalweg("top", "clock", "--json").stdout)
    rates = {stage["stage"]: stage["rate"] for stage in seen["stages"]}
    assert rates["clock"] > 0 and rates["relay"] > 0
    screen = thalweg("top").stdout
    assert "clock.tick -> relay.tick" in screen and "middle" in screen
    assert "relayed 1" in thalweg("logs", "clock", "--worker", "middle").stdout
    assert "ready" in thalweg("logs", "clock", "--worker", "supervisor").stdout
    down = thalweg("down", "clock")
    assert "0 error(s)" in down.stdout, down.stderr
    assert not folder.path.exists()
    assert not [pid for pid in pids if lives(pid)]
    assert "nothing is up" in thalweg("ps").stdout


def test_what_a_deployment_wrote_yesterday_is_there_today_and_grows_where_it_is_seen(
    thalweg: Thalweg, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    file = tmp_path / "rows.yaml"
    text = Path(TICKING).read_text(encoding="utf-8")
    shutil.copy(Path(TICKING).with_name("ticking_stages.py"), tmp_path)
    added = f"  rows: {{use: sink.jsonl, path: {rows}}}\nconnections:\n  - relay -> rows.any"
    file.write_text(text.replace("connections:", added), encoding="utf-8")
    for _ in range(2):
        up = thalweg("up", str(file), "--name", "rows")
        assert up.returncode == 0, up.stderr
        wait_until(lambda: rows.exists() and rows.read_text(encoding="utf-8").count("\n") >= 2, "rows are seen")
        assert thalweg("down", "rows").returncode == 0
    assert len(list(tmp_path.glob("rows*.jsonl"))) == 2


def test_a_name_that_is_up_is_not_brought_up_twice(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    again = thalweg("up", TICKING)
    assert again.returncode == 2
    assert "ticking is up already: end it with `thalweg down ticking`, or give this one a --name" in again.stderr
    assert thalweg("up", TICKING, "--name", "second").returncode == 0
    assert "there are several deployments, say which: second, ticking" in thalweg("top").stderr


def test_what_cannot_start_says_why_and_leaves_no_process(thalweg: Thalweg) -> None:
    failed = thalweg("up", TICKING, "--set", "broken=true")
    assert failed.returncode == 2
    assert "ticking did not come up: stage clock: the clock has no battery" in failed.stderr
    assert "Traceback" not in failed.stderr
    folder = DeploymentFolder("ticking")
    assert folder.processes() == []
    assert "failed" in thalweg("ps").stdout
    assert thalweg("up", TICKING).returncode == 0, "a failed one is no obstacle"


def test_a_source_that_raises_at_once_is_a_deployment_that_failed(thalweg: Thalweg) -> None:
    failed = thalweg("up", TICKING, "--set", "fails=10.0.0.7 answers nothing")
    assert failed.returncode == 2
    assert "ticking did not come up: clock: 10.0.0.7 answers nothing" in failed.stderr
    assert re.search(r"failed.*10\.0\.0\.7", " ".join(thalweg("ps").stdout.split()))


def test_what_comes_to_its_end_is_listed_as_ended_until_it_is_cleared(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING, "--set", "n=20").returncode == 0
    folder = DeploymentFolder("ticking")
    wait_until(lambda: folder.state["state"] == "ended", "the stream has twenty ticks")
    wait_until(lambda: not folder.processes(), "its processes end with it")
    assert "came to its end" in thalweg("ps").stdout
    assert "2 turns, 0 error(s)" in thalweg("down", "ticking").stdout


def test_after_a_crash_of_the_supervising_process_nothing_runs_on_and_the_name_is_free(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    folder = DeploymentFolder("ticking")
    os.kill(folder.state["pid"], signal.SIGKILL)
    wait_until(lambda: not folder.processes(), "workers do not outlive it")
    assert "lost" in thalweg("ps").stdout
    assert "ticking is not up" in thalweg("top", "ticking").stderr
    assert thalweg("up", TICKING).returncode == 0
    assert "0 error(s)" in thalweg("down", "ticking").stdout


def test_the_worker_of_a_stage_is_restarted_and_works_again(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    (before,) = json.loads(thalweg("ps", "--json").stdout)
    assert "worker middle runs again, with relay" in thalweg("restart", "relay").stdout
    (after,) = json.loads(thalweg("ps", "--json").stdout)
    assert after["workers"]["middle"]["pid"] != before["workers"]["middle"]["pid"]
    assert after["workers"]["middle"]["restarts"] == 1
    assert after["workers"]["local"] == before["workers"]["local"]
    wait_until(lambda: rate_of_relay(thalweg) > 0, "it relays again")
    assert "there is no stage or worker 'rellay' (did you mean 'relay'?)" in thalweg("restart", "rellay").stderr
    assert thalweg("down", "ticking").returncode == 0


def rate_of_relay(thalweg: Thalweg) -> float:
    stages = json.loads(thalweg("top", "--json").stdout)["stages"]
    rate: float = next(stage["rate"] for stage in stages if stage["stage"] == "relay")
    return rate


def test_a_worker_that_dies_is_seen_dead_and_the_rest_goes_down_well(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    (seen,) = json.loads(thalweg("ps", "--json").stdout)
    os.kill(seen["workers"]["middle"]["pid"], signal.SIGKILL)
    wait_until(lambda: "dead" in thalweg("ps").stdout, "its policy is to stay dead")
    assert "its process was killed by SIGKILL" in thalweg("logs", "--worker", "supervisor").stdout
    assert thalweg("down", "ticking").returncode == 0


def test_a_worker_that_is_to_come_back_does_and_is_counted(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING, "--set", "restart=on_failure").returncode == 0
    (seen,) = json.loads(thalweg("ps", "--json").stdout)
    os.kill(seen["workers"]["middle"]["pid"], signal.SIGKILL)

    def worker() -> dict[str, object]:
        found: dict[str, object] = json.loads(thalweg("ps", "--json").stdout)[0]["workers"]["middle"]
        return found

    wait_until(lambda: worker()["state"] == "running" and worker()["restarts"] == 1, "it is started again")
    assert thalweg("down", "ticking").returncode == 0


def test_what_the_file_leaves_local_comes_back_too(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    (seen,) = json.loads(thalweg("ps", "--json").stdout)
    os.kill(seen["workers"]["local"]["pid"], signal.SIGKILL)
    wait_until(
        lambda: json.loads(thalweg("ps", "--json").stdout)[0]["workers"]["local"]["restarts"] == 1, "it comes back"
    )
    wait_until(lambda: rate_of_relay(thalweg) > 0, "and ticks")
    assert thalweg("down", "ticking").returncode == 0


def test_what_takes_too_long_to_open_is_ended(thalweg: Thalweg) -> None:
    slow = thalweg("up", TICKING, "--set", "open_s=60", "--within", "3")
    assert slow.returncode == 2
    assert "ticking was not ready within 3 s and was ended" in slow.stderr
    assert DeploymentFolder("ticking").processes() == []
    assert not DeploymentFolder("ticking").is_up


def test_in_the_foreground_it_prints_and_ends_with_the_pipeline(thalweg_apart: Thalweg) -> None:
    done = thalweg_apart("up", TICKING, "--set", "n=20", "--foreground")
    assert done.returncode == 0, done.stderr
    assert "relayed 1" in done.stdout
    assert "INFO ready" in done.stderr
    assert "runs in the foreground and prints where it was started" in thalweg_apart("logs", "ticking").stderr
    failed = thalweg_apart("up", TICKING, "--set", "broken=true", "--foreground")
    assert failed.returncode == 2
    assert "did not come up: stage clock: the clock has no battery" in failed.stderr


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(
    state: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "n"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        command = [sys.executable, "-m", "thalweg.deploy", "up", TICKING, "--foreground"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            assert systemd.recv(100) == b"READY=1"
            process.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert process.wait(30) == 0


def test_one_whose_folder_was_removed_ends_when_it_is_told_to(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    folder = DeploymentFolder("ticking")
    pid = folder.state["pid"]
    shutil.rmtree(folder.path)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not folder.processes(), "it was told to end")


def test_one_that_cannot_write_its_report_says_why_when_it_is_taken_down(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING).returncode == 0
    report = DeploymentFolder("ticking").report
    report.mkdir()
    done = thalweg("down", "ticking")
    assert f"it ended without a report: cannot write {report}: Is a directory" in done.stdout
    assert done.returncode == 0 and not report.exists()


def test_a_log_that_has_grown_is_begun_anew_and_followed_across_the_cut(
    state: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thalweg.deploy.ops.keeping.logs.MOST_BYTES", 100)
    folder = DeploymentFolder("long")
    held = folder.take()
    assert held is not None
    folder.logs.mkdir()
    log = folder.logs / "w.log"
    with log.open("ab", buffering=0) as writing:
        writing.write(b"old line\n" * 20)
        following = log_lines(folder, "w", 1, follow=True)
        assert next(following) == "old line"
        trim(log)
        writing.write(b"new line\n")
        assert next(following) == "new line"
    assert log.read_bytes() == b"new line\n"
    assert log.with_name("w.log.1").read_bytes() == b"old line\n" * 20
    os.close(held)


def test_lines_of_a_ray_worker_are_found_among_those_of_the_supervising_process(state: None) -> None:
    folder = DeploymentFolder("ray")
    held = folder.take()
    assert held is not None
    folder.write_state({"state": "ready", "workers": ["ears", "mouth"]})
    folder.supervisor_log.write_text(
        "\x1b[36m(ears pid=7, ip=10.0.0.2)\x1b[0m I hear\n(mouth pid=8) I say\n"
        "2026-11-24 INFO ready\n(ears pid=7) more\n"
    )
    assert list(log_lines(folder, "ears", 10, follow=False)) == ["I hear", "more"]
    with pytest.raises(KeepingError, match=r"has no worker 'eras' \(did you mean 'ears'\?\)"):
        list(log_lines(folder, "eras", 10, follow=False))
    os.close(held)


def test_metrics_of_all_workers_are_served_and_say_which_is_dead(thalweg: Thalweg) -> None:
    require_package("prometheus_client", "metrics")

    def scraped() -> str:
        with urllib.request.urlopen(folder.state["metrics"], timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    up = thalweg("up", TICKING, "--metrics", "0")
    folder = DeploymentFolder("ticking")
    assert f"metrics at {folder.state['metrics']}" in up.stdout
    assert 'thalweg_worker_up{worker="middle"} 1.0' in scraped()
    assert "cannot serve metrics" in thalweg("up", TICKING, "--name", "second", "--metrics", port_of(folder)).stderr
    (seen,) = [status for status in json.loads(thalweg("ps", "--json").stdout) if status["name"] == "ticking"]
    os.kill(seen["workers"]["middle"]["pid"], signal.SIGKILL)
    wait_until(lambda: 'thalweg_worker_up{worker="middle"} 0.0' in scraped(), "it does not answer")
    assert 'thalweg_worker_up{worker="local"} 1.0' in scraped()
    assert thalweg("down", "ticking").returncode == 0


def port_of(folder: DeploymentFolder) -> str:
    return str(urllib.parse.urlsplit(folder.state["metrics"]).port)


def test_one_that_is_still_coming_up_can_be_taken_down(thalweg: Thalweg) -> None:
    command = [sys.executable, "-m", "thalweg.deploy", "up", TICKING, "--set", "open_s=60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as coming:
        wait_until(lambda: len(DeploymentFolder("ticking").processes()) >= 3, "its workers open their stages")
        assert thalweg("down", "ticking", "--within", "1").returncode == 0
        _, said = coming.communicate(timeout=30)
    assert coming.returncode == 2
    assert re.search("it was (told to end before it was ready|stopped before everything had started)|died", said)
    assert DeploymentFolder("ticking").processes() == []


def test_a_lock_file_without_a_holder_is_not_taken_for_a_deployment_that_is_up(thalweg: Thalweg) -> None:
    folder = DeploymentFolder("ticking")
    held = folder.take()
    assert held is not None
    folder.write_state({"state": "ready", "pid": 1, "since": 0.0, "workers": ["local"]})
    os.close(held)  # as a reboot leaves it: process 1 lives, and is somebody else
    assert "lost" in thalweg("ps").stdout
    assert "it was lost before" in thalweg("down", "ticking").stdout
    assert not folder.path.exists()


def test_logs_are_followed_until_the_end(thalweg: Thalweg) -> None:
    assert thalweg("up", TICKING, "--set", "n=300").returncode == 0
    followed = thalweg("logs", "ticking", "--follow").stdout
    assert "relayed 201" in followed
    assert "ended, with 0 error(s)" in followed


def test_a_stage_that_never_gives_back_is_given_up_when_the_time_is_over(thalweg: Thalweg, tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.yaml"
    text = (
        Path(TICKING)
        .read_text(encoding="utf-8")
        .replace("ticking_stages:Relay", "ticking_stages:Stuck")
        .replace(', fail: "${fail}"', "")
    )
    stuck.write_text(text)
    (tmp_path / "ticking_stages.py").write_text((Path(TICKING).parent / "ticking_stages.py").read_text())
    assert thalweg("up", str(stuck)).returncode == 0
    pids = DeploymentFolder("ticking").processes()
    assert thalweg("down", "ticking", "--within", "0.5").returncode == 0
    assert not [pid for pid in pids if lives(pid)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["down", "nobody"], "there is no deployment 'nobody'; `thalweg up FILE` makes one"),
        (["top"], "nothing is up; `thalweg up FILE` begins a deployment that stays"),
        (["logs"], "nothing is up"),
        (["up", TICKING, "--name", "../x"], "'../x' cannot name a deployment"),
        (["up", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["up", TICKING, "--set", "gap=3"], "there is no variable 'gap' (did you mean 'gap_ms'?)"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_message(thalweg: Thalweg, arguments: list[str], message: str) -> None:
    done = thalweg(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_of_up_shows_the_way_from_beginning_to_end(thalweg: Thalweg) -> None:
    said = thalweg("up", "--help").stdout
    assert all(f"thalweg {command}" in said for command in ("ps", "top", "logs", "restart", "down"))


def test_replicas_are_seen_heard_and_restarted_each_and_together(thalweg: Thalweg) -> None:
    replicas = str(Path(__file__).parents[1] / "failing" / "replicas.yaml")
    assert thalweg("up", replicas, "--name", "many", "--set", "n=1000000", "--set", "gap=10").returncode == 0

    def restarts() -> dict[str, int]:
        told = json.loads(thalweg("ps", "--json").stdout)[0]["workers"]
        return {name: worker["restarts"] for name, worker in told.items() if name.startswith("pool")}

    seen = json.loads(thalweg("top", "many", "--json").stdout)
    assert [stage["worker"] for stage in seen["stages"] if stage["stage"] == "work"] == ["pool.1", "pool.2", "pool.3"]
    assert "worker pool.2 runs again, with work" in thalweg("restart", "many", "pool.2").stdout
    assert restarts() == {"pool.1": 0, "pool.2": 1, "pool.3": 0}
    assert "worker pool.1, pool.2, pool.3 runs again" in thalweg("restart", "many", "work").stdout
    assert restarts() == {"pool.1": 1, "pool.2": 2, "pool.3": 1}
    assert thalweg("logs", "many", "--worker", "pool").returncode == 0
    assert "has no worker 'pond'" in thalweg("logs", "many", "--worker", "pond").stderr
    assert "0 error(s)" in thalweg("down", "many").stdout
