"""Wheels among the files of a release: what is unpacked where, what is refused, and a stage that lies in one."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import require_package
from tests.deploy.fleet.hubs import hub_at
from tests.deploy.fleet.processes import ROOT, Fleet
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.given import check_wheels
from thalweg.deploy.fleet.node.releases import ReleaseRefused, Releases
from thalweg.deploy.fleet.node.running import PACKAGES_VARIABLE
from thalweg.deploy.fleet.wheels import check_wheel, unpack
from thalweg.deploy.reading import PACKAGES, module_folders
from thalweg.pipeline.fleet.gate import Gate
from thalweg.pipeline.fleet.rollout import Record

NAME = "towel-1.0-py3-none-any.whl"
ROOM = 1 << 30
STAGE = """
from thalweg.pipeline.payload import Token

open({trace!r}, "a").write("ran ")

class Towel:
    outputs = {{"token": Token}}

    async def run(self, ctx):
        while True:
            if {speaks}:
                await ctx.send(Token(text=__file__ + " {version}"), time=ctx.now_ns())
            await ctx.sleep_until(ctx.now_ns() + 50_000_000)
"""


@pytest.fixture(autouse=True)
def packages() -> None:
    for package in ("cryptography", "aiohttp", "packaging"):
        require_package(package, "hub")


def wheel(folder: Path, files: dict[str, bytes], name: str = NAME, modes: dict[str, int] | None = None) -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, data in files.items():
            entry = zipfile.ZipInfo(inside)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (modes or {}).get(inside, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
    return path


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_belongs_among_modules_is_unpacked_and_scripts_are_not(tmp_path: Path) -> None:
    files = {
        "towel/__init__.py": b"raise SystemExit",
        "towel-1.0.dist-info/METADATA": b"",
        "towel-1.0.data/purelib/more.py": b"x = 1",
        "towel-1.0.data/scripts/towel": b"#!/bin/sh",
    }
    path = wheel(tmp_path, files)
    check_wheel(path, NAME)
    unpack(path, NAME, tmp_path / "packages", ROOM)
    assert set(unpacked(tmp_path / "packages")) == {"towel/__init__.py", "towel-1.0.dist-info/METADATA", "more.py"}
    assert all(p.stat().st_mode & 0o177 == 0 for p in (tmp_path / "packages").rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("inside", "mode"),
    [
        ("../evil.py", stat.S_IFREG),
        ("/etc/evil.py", stat.S_IFREG),
        ("a/../../evil.py", stat.S_IFREG),
        ("a\\..\\evil.py", stat.S_IFREG),
        ("c:evil.py", stat.S_IFREG),
        ("towel-1.0.data/purelib/../../../evil.py", stat.S_IFREG),
        ("link.py", stat.S_IFLNK),
        ("pipe.py", stat.S_IFIFO),
    ],
)
def test_a_wheel_that_leads_out_of_its_folder_or_holds_no_file_is_refused(
    tmp_path: Path, inside: str, mode: int
) -> None:
    path = wheel(tmp_path, {"good.py": b"", inside: b"/etc/passwd"}, modes={inside: mode | 0o644})
    for refused in (lambda: check_wheel(path, NAME), lambda: unpack(path, NAME, tmp_path / "packages", ROOM)):
        with pytest.raises(FleetError, match="leads out of its folder or is no file"):
            refused()
    assert unpacked(tmp_path / "packages") == {}


@pytest.mark.parametrize(
    "name", ["towel.whl", "towel-1.0.whl", "towel-1.0-py3-none.whl", "../towel-x-py3-none-any.whl"]
)
def test_what_is_not_named_as_a_wheel_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FleetError, match="no name of a wheel"):
        check_wheel(wheel(tmp_path, {}), name)


def test_a_wheel_for_another_platform_is_refused_where_it_would_be_unpacked(tmp_path: Path) -> None:
    path = wheel(tmp_path, {"a.py": b""})
    for name in ("towel-1.0-cp27-cp27m-win32.whl", "towel-1.0-py3-none-musllinux_1_2_riscv64.whl"):
        check_wheel(path, name)
        with pytest.raises(FleetError, match="another Python or platform"):
            unpack(path, name, tmp_path / "packages", ROOM)


@pytest.mark.parametrize("cut", [0, 10, 100])
def test_garbage_and_what_was_cut_off_are_refused(tmp_path: Path, cut: int) -> None:
    path = wheel(tmp_path, {"a.py": b"x" * 5000})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FleetError, match="no wheel, or damaged"):
        check_wheels({NAME: path})


def test_a_wheel_that_unpacks_to_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, {"zeros.bin": bytes(5_000_000)})
    assert path.stat().st_size < 50_000
    with pytest.raises(FleetError, match=r"unpacks to 5\.0 MB"):
        unpack(path, NAME, tmp_path / "packages", 4_000_000)
    assert unpacked(tmp_path / "packages") == {}


def test_two_wheels_that_hold_the_same_file_are_refused(tmp_path: Path) -> None:
    for name in (NAME, "other-1.0-py3-none-any.whl"):
        path = wheel(tmp_path, {"towel.py": name.encode()}, name)
        if name == NAME:
            unpack(path, name, tmp_path / "packages", ROOM)
    with pytest.raises(FleetError, match="another wheel, or itself, does, too"):
        unpack(path, name, tmp_path / "packages", ROOM)
    assert unpacked(tmp_path / "packages") == {"towel.py": NAME.encode()}


def test_a_node_refuses_a_release_with_a_bad_wheel_and_leaves_nothing_of_it(tmp_path: Path) -> None:
    async def case() -> None:
        async with hub_at(tmp_path) as hub:
            identity = await hub.node("drone-7")
            (tmp_path / "p.yaml").write_text("name: p", encoding="utf-8")
            files = {"p.yaml": tmp_path / "p.yaml", NAME: wheel(tmp_path, {"good.py": b"", "../evil.py": b""})}
            hub.state.roll_out("p.yaml", hub.state.keep(files), {}, Gate(), [])
            releases = Releases(identity.folder, identity.signing)

            def fetch() -> None:
                with identity.client() as client:
                    releases.fetch(client, *releases.ask(client))

            with pytest.raises(ReleaseRefused, match="leads out of its folder"):
                await asyncio.to_thread(fetch)
            releases.tidy(Record())
            assert list((identity.folder / "releases").iterdir()) == []
            assert list((identity.folder / "artefacts").iterdir()) == []

    asyncio.run(case())


def test_modules_of_wheels_are_looked_for_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGES_VARIABLE == PACKAGES
    before = module_folders(tmp_path / "p.yaml")
    monkeypatch.setenv(PACKAGES, "/packages")
    assert module_folders(tmp_path / "p.yaml") == [*before, "/packages"]


def rolled_out(fleet: Fleet, version: str, trace: Path, *, speaks: bool = True) -> int:
    """A pipeline whose source lies in a wheel."""
    folder = fleet.folder / f"wheels{version}"
    folder.mkdir()
    source = STAGE.format(trace=str(trace), speaks=speaks, version=version).encode()
    name = f"towel-{version}-py3-none-any.whl"
    path = wheel(folder, {"towel/__init__.py": source, f"towel-{version}.dist-info/METADATA": b""}, name)
    pipeline = folder / "towel.yaml"
    pipeline.write_text(
        "name: towel\nstages:\n  towel: {use: 'towel:Towel'}\n  up: {use: fleet.uplink, kind: events}\n"
        "connections:\n  - towel -> up\n",
        encoding="utf-8",
    )
    told = fleet.hub("rollout", str(pipeline), "--file", str(path), "--watch", "2", "--open", "60")
    return int(told.split()[1])


def newest(fleet: Fleet) -> str:
    return fleet.hub("events", "drone-7").partition("\n")[0]


@pytest.mark.real
def test_a_stage_runs_from_the_wheel_of_its_release_and_goes_back_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # a pipeline runs in the folder of its release
    trace = tmp_path / "trace"
    with Fleet(tmp_path) as fleet:
        fleet.start_hub()
        fleet.enrol()
        fleet.start_node()
        assert rolled_out(fleet, "1.0", trace) == 1 and not trace.exists()  # nothing of it runs at the hub
        fleet.seen(lambda row: row["current"] == 1 and row["received"].get("events", 0) > 20)
        first = str(tmp_path / "node/releases/1/packages/towel/__init__.py")
        assert f"{first} 1.0" in newest(fleet)

        wanted = rolled_out(fleet, "2.0", trace, speaks=False)
        row = fleet.seen(lambda row: row["last"] == wanted)
        assert "nothing has come out" in row["reason"] and row["current"] == 1
        before = fleet.seen(lambda row: row["pipeline"] == "ready")["received"]["events"]
        fleet.seen(lambda row: row["received"]["events"] > before + 20)
        assert f"{first} 1.0" in newest(fleet)
        assert [path.name for path in (tmp_path / "node/releases").iterdir()] == ["1"]

        third = rolled_out(fleet, "3.0", trace)
        fleet.seen(lambda row: row["current"] == third)
        before = fleet.seen(lambda row: row["pipeline"] == "ready")["received"]["events"]
        fleet.seen(lambda row: row["received"]["events"] > before + 20)
        assert f"releases/{third}/packages/towel/__init__.py 3.0" in newest(fleet)
    found = subprocess.run([sys.executable, "-c", "import towel"], capture_output=True, check=False, timeout=60)
    assert found.returncode and b"No module named 'towel'" in found.stderr
