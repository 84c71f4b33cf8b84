"""Which zone people are in, and what is refused as one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import thalweg.deploy
from tests.deploy.server.hosts.test_front import ANSWER, coming, front_with
from thalweg.deploy.__main__ import cli
from thalweg.deploy.door.addresses import who
from thalweg.deploy.server.hosts.zones import zone_at, zone_of_network

FILE = Path(thalweg.deploy.__file__).parent / "examples" / "voice_chat.yaml"
TABLE = ("10.0.0.0/8=west", "10.7.0.0/16=east", "fd00::/32=south", "10.7.0.9=west")


@pytest.mark.parametrize(
    ("address", "zone"),
    [
        ("10.1.2.3", "west"),
        ("10.7.2.3", "east"),
        ("10.7.0.9", "west"),
        ("::ffff:10.7.2.3", "east"),
        ("192.0.2.1", "north"),
        ("fd00::1:2", "south"),
        ("fe80::1%eth0", "north"),
        ("not an address", "north"),
        ("", "north"),
    ],
)
def test_people_are_in_the_zone_of_the_longest_network_that_has_them_or_in_that_of_the_front(
    address: str, zone: str
) -> None:
    assert zone_at(who(address), [zone_of_network(text) for text in TABLE], "north") == zone


def test_people_are_put_on_a_host_of_their_own_zone_and_not_of_the_front() -> None:
    for networks, name in ((("10.0.0.0/24=west",), "host-1"), (("10.0.1.0/24=west",), "host-2"), ((), "host-2")):
        front, links = front_with(host_1=[ANSWER], host_2=[ANSWER])
        zones = tuple(zone_of_network(text) for text in networks)
        front.settings = replace(front.settings, zone="east", zones=zones)
        for link, where in zip(links.values(), ("west", "east"), strict=True):
            link.record = link.record.model_copy(update={"zone": where})
        asyncio.run(front.connect(coming()))
        assert [left for left, link in links.items() if not link.left] == [name]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--zone", "w" * 101, "at most 100 printable characters, found 101"),
        ("--zone", "a\x1b[2J", "at most 100 printable characters"),
        ("--zone-of", "10.0.0.0/8", "expected NETWORK=ZONE"),
        ("--zone-of", "10.0.0.0/8=", "expected NETWORK=ZONE"),
        ("--zone-of", f"10.0.0.0/8={'w' * 101}", "at most 100 printable characters, found 101"),
        ("--zone-of", "10.0.0.0/80=west", "is no address"),
        ("--zone-of", "fd00::/65=west", "the first 64 bits"),
    ],
)
def test_what_is_no_zone_is_refused_at_the_command_line(option: str, value: str, said: str) -> None:
    refused = CliRunner().invoke(cli, ["serve", str(FILE), "--on", "subprocess", option, value])
    assert refused.exit_code != 0
    assert said in f"{refused.output}{refused.exception}"


@pytest.mark.parametrize(
    ("option", "value"),
    [("--zone", "east"), ("--zone-of", "10.0.0.0/8=west"), ("--hosts", "2"), ("--address", "127.0.0.1:6379")],
)
def test_what_is_for_hosts_is_refused_without_them(option: str, value: str) -> None:
    refused = CliRunner().invoke(cli, ["serve", str(FILE), option, value])
    assert refused.exit_code == 2
    assert f"{option} is for --on" in refused.output


def test_the_address_of_a_ray_cluster_is_refused_without_ray() -> None:
    refused = CliRunner().invoke(cli, ["serve", str(FILE), "--on", "subprocess", "--address", "127.0.0.1:6379"])
    assert refused.exit_code == 2 and "--address is for --on ray" in refused.output
