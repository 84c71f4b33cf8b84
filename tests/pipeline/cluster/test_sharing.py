"""Workers that many runs share: what a file may say of them."""

from __future__ import annotations

import pytest

from thalweg.pipeline.cluster.supervision import RestartWhen
from thalweg.pipeline.file import worker_options
from thalweg.pipeline.file.plan import WorkerPlan
from thalweg.pipeline.file.source import SpecError
from thalweg.pipeline.file.spec import Spec, load_spec

FILE = """
stages:
  file: {{use: audio.file, path: a.wav}}
  vad: speech.vad
  heard: {{use: speech.pocketsphinx}}
  sink: {{use: sink.jsonl, path: b}}
connections:
  - file -> vad -> heard -> sink
workers:
  pool: {worker}
placement:
  {stage}: pool
"""


def load(worker: str, stage: str = "heard") -> Spec:
    return load_spec(FILE.format(worker=worker, stage=stage))


def pool(worker: str) -> WorkerPlan:
    return load(worker).plan.workers["pool"]


def problem(worker: str, stage: str = "heard") -> str:
    with pytest.raises(SpecError) as caught:
        load(worker, stage)
    ((place, message),) = caught.value.problems
    assert place.line == 10
    return message


def test_a_shared_worker_comes_back_unless_the_file_says_otherwise() -> None:
    shared = pool("{shared: true}")
    assert shared.shared
    assert shared.restart.when is RestartWhen.ON_FAILURE
    assert pool("{shared: true, restart: never}").restart.when is RestartWhen.NEVER
    assert not pool("{launcher: subprocess}").shared
    assert pool("{shared: false}").restart.when is RestartWhen.NEVER
    limited = pool("{shared: {runs: 8}}")
    assert (limited.shared, limited.runs, limited.restart.when) == (True, 8, RestartWhen.ON_FAILURE)
    assert shared.runs == 0


def test_no_process_waits_in_reserve_for_a_worker_that_is_shared() -> None:
    assert pool("{restart: on_failure}").has_spare
    assert not pool("{shared: true}").has_spare


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        ("{shared: 3}", "shared: expected true, false or {runs: NUMBER} with a whole number from 1, found 3"),
        ("{shared: {runs: 0}}", "shared: expected true, false or {runs: NUMBER} with a whole number from 1, found {"),
        ("{shared: {runs: true}}", "shared: expected true, false or {runs: NUMBER} with a whole number from 1, found"),
        ("{shared: {runs: 2, x: 1}}", "shared: expected true, false or {runs: NUMBER} with a whole number from 1, "),
        ("{launcher: local, shared: {runs: 2}}", "shared: the launcher local starts a worker for each run, only "),
        ("{launcher: local, shared: true}", "shared: the launcher local starts a worker for each run, only "),
        ("{launcher: acme, shared: true}", "shared: the launcher acme starts a worker for each run, only "),
    ],
)
def test_what_cannot_be_shared_is_refused(worker: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_options, "LAUNCHERS", (*worker_options.LAUNCHERS, "acme"))
    assert problem(worker).startswith(said)


def test_a_worker_is_shared_or_replicated() -> None:
    with pytest.raises(SpecError) as caught:
        load("{shared: true, replicas: 2}")
    assert "a worker is either shared by several runs, or has several replicas in one" in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("file", "stage 'file' (audio.file) cannot be on a shared worker: it is a source"),
        ("sink", "stage 'sink' (sink.jsonl) cannot be on a shared worker: it keeps something of people ("),
    ],
)
def test_a_stage_whose_state_is_not_its_own_is_refused(stage: str, said: str) -> None:
    assert problem("{shared: true}", stage).startswith(said)


def test_a_stage_of_which_there_may_be_one_is_refused() -> None:
    text = """
stages:
  lone: {use: "tests.deploy.cluster.shared_stages:Alone"}
workers:
  pool: {shared: true}
placement:
  lone: pool
"""
    with pytest.raises(SpecError) as caught:
        load_spec(text)
    assert "cannot be on a shared worker: there may be one of it only" in str(caught.value)
