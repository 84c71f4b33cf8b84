"""Tokens of a file: several at a time, until their day, exchanged while a server runs."""

from __future__ import annotations

import ast
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from thalweg.deploy.commands import secrets
from thalweg.deploy.commands.secrets import ice_servers, known_token
from thalweg.deploy.door.tokens import MOST_TOKENS, AccessTokens, TokenError, same_secret, tokens_of

ROOT = Path(__file__).parents[3]
NEW_YEAR_S = 1_798_761_600.0
"""The first moment of 2027, UTC."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "tokens"
    made.touch(mode=0o600)
    return made


def test_each_token_of_a_file_opens_and_nothing_else(path: Path) -> None:
    path.write_text("# of the house\nfirst-token   # the tablet\n\nsecond-token\n", encoding="utf-8")
    tokens = AccessTokens(path=path)
    assert tokens.open("first-token") and tokens.open("second-token")
    assert not any(
        tokens.open(other) for other in ("", "first", "first-token ", "#", "tablet", "FIRST-TOKEN", "é\udcff")
    )


@pytest.mark.parametrize(
    ("until", "last_s"),
    [
        ("2026-12-31", NEW_YEAR_S - 1),
        ("2026-12-31T23:59:59", NEW_YEAR_S - 2),
        ("2026-12-31T23:59:59Z", NEW_YEAR_S - 2),
        ("2027-01-01T01:00+01:00", NEW_YEAR_S - 1),
    ],
)
def test_a_token_opens_until_its_time_and_not_a_second_longer(path: Path, until: str, last_s: float) -> None:
    path.write_text(f"until-then {until}\n", encoding="utf-8")
    now_s = [last_s]
    tokens = AccessTokens(path=path, now_s=lambda: now_s[0])
    assert tokens.open("until-then")
    now_s[0] += 1
    assert not tokens.open("until-then")


def test_a_token_is_exchanged_while_the_server_runs(path: Path) -> None:
    path.write_text("old-token\n", encoding="utf-8")
    tokens = AccessTokens(path=path)
    path.write_text("old-token\nnew-token\n", encoding="utf-8")
    assert tokens.open("old-token") and tokens.open("new-token")
    beside = path.with_name("beside")
    beside.write_text("new-token\n")
    beside.replace(path)
    assert tokens.open("new-token") and not tokens.open("old-token")


def test_changes_that_cannot_be_read_change_nothing_and_each_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text("good-token\n", encoding="utf-8")
    tokens = AccessTokens(path=path)
    path.write_text("good-token tomorrow\n", encoding="utf-8")
    assert tokens.open("good-token") and tokens.open("good-token")
    path.unlink()
    assert tokens.open("good-token") and tokens.open("good-token")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 2 and "line 1" in said[0] and "good-token" not in said[0] and "No such file" in said[1]
    path.write_text("other-token\n", encoding="utf-8")
    assert tokens.open("other-token") and not tokens.open("good-token")


def test_a_file_that_may_be_read_again_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("good-token\n", encoding="utf-8")
    tokens = AccessTokens(path=path)
    with monkeypatch.context() as forbidden:  # root, who runs tests, may read anything

        def refuse(*_: object) -> str:
            raise PermissionError(13, "Permission denied")

        forbidden.setattr("thalweg.deploy.door.tokens.read_text_at_most", refuse)
        path.write_text("other-token\n", encoding="utf-8")
        assert tokens.open("good-token")
    path.chmod(0o640)
    assert tokens.open("other-token") and not tokens.open("good-token")


def test_an_empty_file_lets_nobody_in_and_no_file_everybody(path: Path) -> None:
    assert AccessTokens(path=path).wanted
    assert not AccessTokens(path=path).open("")
    assert not AccessTokens().wanted
    assert AccessTokens("given-token", path).open("given-token")


@pytest.mark.parametrize(
    "text",
    ["short\n", "é" * 10, "a-good-token 2026-13-01", "a-good-token 2026-12-31 x", "tok-\x1b[2J-en", "x" * 70_000],
)
def test_a_file_of_something_else_is_refused_without_its_content(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TokenError) as refused:
        AccessTokens(path=path)
    assert str(path) in str(refused.value) and text.split()[0] not in str(refused.value)


def test_what_is_no_file_or_lists_too_much_is_refused(path: Path) -> None:
    with pytest.raises(TokenError):
        tokens_of(Path("/dev/zero"))
    with pytest.raises(TokenError):
        tokens_of(path.with_name("missing"))
    path.write_text("one-of-many\n" * (MOST_TOKENS + 1), encoding="utf-8")
    with pytest.raises(TokenError):
        tokens_of(path)


def test_a_file_that_others_may_read_is_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("stun:a.example\n", encoding="utf-8")
    ice_servers((), path)
    assert not caplog.records
    path.chmod(0o644)
    ice_servers((), path)
    assert "chmod" in caplog.text


def test_a_client_gives_the_first_token_of_its_file_that_is_still_good(path: Path) -> None:
    path.write_text("# mine\nold-token 2024-12-31\nfirst-token 2026-12-31\nsecond-token\n", encoding="utf-8")
    in_2026 = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    assert known_token("", path, in_2026) == "first-token"
    assert known_token("", path, in_2026 + 365 * 86_400) == "second-token"
    assert known_token("given", path) == "given"
    path.write_text("", encoding="utf-8")
    with pytest.raises(TokenError):
        known_token("", path)


@click.command()
@secrets.TOKEN
@secrets.ADMIN_TOKEN
@secrets.ICE
def command(**given: object) -> None:
    """Takes secrets, and nothing else."""


def ran(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(command, arguments, env=environment)


@pytest.mark.parametrize("option", ["--token", "--admin-token", "--ice"])
def test_a_secret_among_the_arguments_is_warned_of_and_never_repeated(option: str) -> None:
    said = ran(option, "turn:user:s3cret@turn.example").output
    assert f"{option}: every user" in said and f"{option}-file" in said and "s3cret" not in said


@pytest.mark.parametrize("arguments", [[], ["--token", "of-the-house", "--ice", "turn:user:s3cret@turn.example"]])
def test_a_secret_of_the_environment_is_not_passed_on_to_processes_that_are_started(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THALWEG_TOKEN", "of-the-house")
    monkeypatch.setenv("THALWEG_ICE", "turn:user:s3cret@turn.example")

    @click.command()
    @secrets.TOKEN
    @secrets.ICE
    def serving(**given: object) -> None:
        assert given["token"] == "of-the-house" and given["ice"] == ("turn:user:s3cret@turn.example",)
        assert not {"THALWEG_TOKEN", "THALWEG_ICE"} & os.environ.keys()

    assert CliRunner().invoke(serving, arguments).exit_code == 0


SECRET = re.compile(r"(^|_)(token|secret|password|credential)s?$")
PLACE = "deploy/door/tokens.py"
"""Here `same_secret` asks whether there is one."""


@pytest.mark.parametrize("room", ["transports", "deploy"])
def test_no_secret_is_compared_in_a_time_that_tells_where_it_differs(room: str) -> None:
    found = set()
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and any(isinstance(how, ast.Eq | ast.NotEq) for how in node.ops):
                sides = [getattr(side, "attr", getattr(side, "id", "")) for side in (node.left, *node.comparators)]
                if any(map(SECRET.search, sides)) and not name.startswith(("deploy/bench/", PLACE)):
                    found.add(f"{name}:{node.lineno}")
    assert found == set(), "use thalweg.deploy.door.tokens.same_secret"


def test_nothing_is_no_secret_that_could_be_known() -> None:
    assert not same_secret("", "") and same_secret("a", "a")


def test_what_is_no_secret_or_comes_otherwise_is_not_warned_of(path: Path) -> None:
    path.write_text("stun:a.example\n", encoding="utf-8")
    done = ran(
        "--ice", "stun:a.example", "--ice-file", str(path), THALWEG_TOKEN="a-secret", THALWEG_ADMIN_TOKEN="another"
    )
    assert done.exit_code == 0 and not done.output
