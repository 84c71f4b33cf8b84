"""Which zone a person is in: that of the longest network of a table that has their address; else that of the front.

The table is the operator's, who knows which networks are near which hosts: `--zone-of 10.1.0.0/16=west`. Nothing is
measured: a front is told how long its own way to a host is, and that is not the way of a person who is elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from thalweg.deploy.door.addresses import Network, network_of
from thalweg.pipeline.errors import ThalwegError

MOST = 100
OF_ONE = 64
"""Bits of an IPv6 address that tell people apart: see `who`."""


class ZoneError(ThalwegError):
    """What is no zone, or no network of one."""


def zone_name(text: str) -> str:
    """The same. Raises ZoneError where it is too long, or cannot be printed."""
    if len(text) > MOST or not text.isprintable():
        raise ZoneError(f"the name of a zone has at most {MOST} printable characters, found {len(text)}: {text[:20]!r}")
    return text


def zone_of_network(text: str) -> tuple[Network, str]:
    """`10.1.0.0/16=west` as network and zone. Raises ZoneError, NetworkError."""
    network, equals, zone = text.partition("=")
    if not equals or not zone:
        raise ZoneError(f"expected NETWORK=ZONE, such as 10.1.0.0/16=west, found {text[:100]!r}")
    found = network_of(network)
    if found.version == 6 and found.prefixlen > OF_ONE:
        raise ZoneError(f"{network}: people are told apart by the first {OF_ONE} bits, so no network is smaller")
    return found, zone_name(zone)


def zone_at(address: str, networks: Sequence[tuple[Network, str]], own: str) -> str:
    """The zone of a person. `address`: as `who` of door/addresses.py says it; `own`: where no network has it."""
    try:
        there = ipaddress.ip_network(address)
    except ValueError:
        return own
    found = [
        (network.prefixlen, zone)
        for network, zone in networks
        if network.version == there.version and network.supernet_of(there)  # type: ignore[arg-type]
    ]
    return max(found, key=lambda one: one[0])[1] if found else own
