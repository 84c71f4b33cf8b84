"""Folders of the user, also of one that has no home: an arbitrary user id in a container."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from thalweg.deploy.ops.keeping.deployments import DeploymentFolder, KeepingError, every
from thalweg.models.errors import ModelError
from thalweg.models.store.home import expanded, user_folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "THALWEG_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"thalweg-{os.getuid()}"


def test_without_a_home_everything_lies_in_a_folder_of_the_users_alone(homeless: Path) -> None:
    assert user_folder("XDG_CACHE_HOME", ".cache") == homeless / ".cache"
    assert every() == []
    assert stat.S_IMODE(homeless.stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_not_used_without_a_home(homeless: Path) -> None:
    homeless.mkdir()
    homeless.chmod(0o777)
    with pytest.raises(ModelError, match=r"is open to other users. Set XDG_CACHE_HOME, or HOME"):
        user_folder("XDG_CACHE_HOME", ".cache")


def test_a_link_of_somebody_else_is_not_followed_without_a_home(homeless: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    homeless.symlink_to(tmp_path / "theirs")
    with pytest.raises(ModelError, match="is open to other users"):
        user_folder("XDG_STATE_HOME", ".local/state")


@pytest.mark.parametrize("home", ["", "relative/home"])
def test_a_home_that_is_no_absolute_path_is_none(homeless: Path, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert user_folder("XDG_CACHE_HOME", ".cache") == homeless / ".cache"


def test_the_environment_names_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert user_folder("XDG_STATE_HOME", ".local/state") == tmp_path


@pytest.mark.usefixtures("homeless")
def test_a_path_in_a_home_that_is_not_there_stays_as_it_is() -> None:
    assert expanded("~/model.nemo") == Path("~/model.nemo")


@pytest.mark.parametrize("held", ["a file", "nothing that can be written"])
def test_a_state_folder_that_cannot_be_used_names_the_variable(
    held: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    taken = tmp_path / "state"
    taken.write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/self" if held != "a file" else str(taken))
    with pytest.raises(KeepingError, match="name another folder in XDG_STATE_HOME"):
        DeploymentFolder("kiosk").take()
    assert every() == []
