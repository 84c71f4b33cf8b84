"""What `thalweg serve` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from thalweg.deploy.door.addresses import Network
from thalweg.deploy.door.doorkeeper import DoorLimits
from thalweg.deploy.door.front_door import DoorSettings
from thalweg.deploy.door.listening import most_connections
from thalweg.pipeline.errors import ThalwegError


class SettingsError(ThalwegError):
    """A setting that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """A STUN or TURN server, for our side and for the page."""

    url: str
    username: str = ""
    credential: str = ""


def parse_ice(text: str) -> IceServer:
    """`turn:user:password@host:port?transport=tcp` → the address and, apart from it, the credentials."""
    scheme, _, rest = text.partition(":")
    if scheme not in ("stun", "stuns", "turn", "turns") or not rest:
        raise SettingsError("that is no STUN or TURN server, expected stun:HOST or turn:USER:PASSWORD@HOST")
    credentials, at, host = rest.rpartition("@")
    if scheme.startswith("turn") != bool(at):
        raise SettingsError(f"{scheme}: servers are given as {'turn:USER:PASSWORD@HOST' if not at else 'stun:HOST'}")
    username, _, credential = credentials.partition(":")
    return IceServer(url=f"{scheme}:{host}", username=username, credential=credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits guard against harm, not against use: each is far above what one conversation needs.

    `token`, `token_file`: a client must present the one, or one of the other (`deploy/door/tokens.py`); neither: no
    token is needed. `admin_token`, `admin_token_file`: open `/sessions` and `/metrics`; neither: the former is closed,
    the latter for this machine only. `metrics`: where else to serve those, `[HOST:]PORT`. `host_names`, `origins`,
    `proxies`: see `deploy/door`. `connections`: of HTTP, at most; 0: half of what this process may open. `sessions`:
    most conversations at once; 0: as many as keep up, that is as long as the loop is less late than `late_s`, less of
    the processors than `used` (0…1) is taken, and answers come as soon as in smaller crowds (`capacity.py`).
    `connecting`: most that are answered and not yet connected; 0: `newcomer.most_newcomers`. `resume_s`: how long a
    conversation waits for a visitor whose connection was lost. `zone`: where a front is; `zones`: where people of a
    network are instead: they are put on hosts of that zone before others, at equal room. `shrink_s`: how long a host
    has no one before it ends where it is not needed; 0: hosts stay.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str = ""
    token_file: Path | None = None
    admin_token: str = ""
    admin_token_file: Path | None = None
    metrics: str = ""
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()
    connections: int = 0
    ice: tuple[IceServer, ...] = field(default_factory=tuple)
    sessions: int = 0
    late_s: float = 0.06
    used: float = 0.85
    per_address: int = 4
    connecting: int = 0
    session_s: float = 3600.0
    resume_s: float = 60.0
    connect_s: float = 20.0
    drain_s: float = 30.0
    offer_bytes: int = 64_000
    requests_per_s: float = 20.0
    certificate: Path | None = None
    key: Path | None = None
    zone: str = ""
    zones: tuple[tuple[Network, str], ...] = ()
    shrink_s: float = 0.0

    def door(self) -> DoorSettings:
        """What of it the front door holds."""
        connections = self.connections or most_connections()
        limits = DoorLimits(
            connections=connections,
            per_address=min(128, connections // 2),
            request_s=self.connect_s + 20.0,
            requests_per_s=self.requests_per_s,
            total_per_s=20 * self.requests_per_s,
        )
        return DoorSettings(
            limits=limits,
            host_names=self.host_names,
            origins=self.origins,
            proxies=self.proxies,
            body_bytes=self.offer_bytes,
        )
