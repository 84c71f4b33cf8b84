"""What limits count as one client: an IPv4 address, or an IPv6 /64 network, which one customer gets.

Behind a trusted proxy it is the last address of `X-Forwarded-For` that is not such a proxy. Addresses to its left were
written by the client and are ignored.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from thalweg.pipeline.errors import ThalwegError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_FORWARDED = 20


class NetworkError(ThalwegError):
    """A text that is no address and no network."""


def network_of(text: str) -> Network:
    """`10.0.0.7`, `10.0.0.0/8` or `fd00::/8` as a network. Raises NetworkError."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise NetworkError(f"{text!r} is no address, expected one such as 10.0.0.7 or a network, 10.0.0.0/8") from None


def who(address: str) -> str:
    """The address itself, or the first 64 bits of one of IPv6. A text that is no address stays as it is."""
    found = _parsed(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return address if found is None else str(found)


def forwarded(peer: str, header: str, proxies: Sequence[Network]) -> str:
    """The client of a request that arrived from `peer`: see above."""
    chain = [part.strip() for part in header.split(",")[-MAX_FORWARDED:]] if header else []
    address = peer
    while chain and trusted(address, proxies):
        said = _parsed(chain.pop())
        if said is None:
            break
        address = str(said)
    return who(address)


def trusted(address: str, proxies: Sequence[Network]) -> bool:
    """Whether an address is one of the proxies."""
    found = _parsed(address)
    return found is not None and any(found.version == network.version and found in network for network in proxies)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
