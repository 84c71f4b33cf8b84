"""Who a node is: its folder, keys and certificates, and the time it knows to be past.

    identity.json           the hub's address, this node's name, what manifests are checked with
    authority.pem           the hub's authority, pinned when it was enrolled
    working.pem             certificate and key in one file, 30 days: what it works with
    renewal.pem             likewise, 5 years: what it asks for another working one with
    lenders.json            where workers are lent, as the hub last said: for stages that may run elsewhere
    floor                   the latest time it has heard from its hub, seconds since 1970
    boot                    how often its agent was started
    local.json              what its operator decides here, and no hub: {"updates": "disarmed" | "always",
                            "spool_mb": 256}

The clock of a node may stand in 1970 or anywhere. It is not asked whether the hub's certificate is valid: that must not
have ended before `floor`, which only rises. Whether the node's own is valid the hub decides, by its clock.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.deploy.fleet import certificates as certs
from thalweg.deploy.fleet.codes import fits, read_code
from thalweg.deploy.fleet.errors import FleetError
from thalweg.deploy.fleet.node.asking import HubAddress, HubClient
from thalweg.deploy.fleet.node.disk import Disk
from thalweg.deploy.fleet.placing.lenders import LENDERS, Lender
from thalweg.models.store.home import user_folder
from thalweg.transports.fleet.durable import replace_file
from thalweg.transports.fleet.segment import BY_CHANCE

log = logging.getLogger(__name__)

UPDATES = ("disarmed", "always")


def default_folder() -> Path:
    """Where a node of this user lives unless told otherwise."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "thalweg" / "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What the operator of this node has decided. `updates`: when a release may be tried."""

    updates: str = "disarmed"
    spool_mb: int = 256


class Identity:
    """A node that was enrolled. Raises FleetError where it was not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            known = json.loads((folder / "identity.json").read_bytes())
            self.address = HubAddress.parse(known["hub"])
            self.name: str = known["name"]
            self.signing = bytes.fromhex(known["signing"])
        except FileNotFoundError:
            raise FleetError(
                f"{folder} is no node yet: `thalweg node enrol HUB CODE` makes it one; "
                "`thalweg hub enrol NAME` prints the code"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise FleetError(f"{folder / 'identity.json'} cannot be read: {error}; enrol this node again") from None
        self.disk = Disk(folder)
        self.instance = secrets.token_hex(8)
        self.floor_s = self._read_floor()
        self._valid_s: tuple[float, float] | None = None
        self._lenders: list[dict[str, Any]] | None = None

    def local(self) -> Local:
        """What the operator has decided, read anew. Raises FleetError on what cannot be."""
        path = self.folder / "local.json"
        try:
            found = Local(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return Local()
        except (OSError, ValueError, TypeError) as error:
            raise FleetError(f"{path} cannot be read: {error}") from None
        if found.updates not in UPDATES or type(found.spool_mb) is not int or not 1 <= found.spool_mb <= 1_000_000:
            raise FleetError(f"{path}: `updates` is one of {', '.join(UPDATES)}, `spool_mb` a number from 1 up")
        return found

    def next_boot(self) -> int:
        """One more than ever before, on the disk before it is used.

        If the disk cannot be written, it is a number that was never used: the pipeline must start all the same.
        """
        boot = _boot_in(self.folder) + 1
        if not self.disk.keep(self.folder / "boot", str(boot).encode()):
            return BY_CHANCE | secrets.randbits(31)
        return boot

    def client(self, kind: str = certs.WORKING, timeout_s: float = 10.0) -> HubClient:
        """A connection to the hub, by one of the certificates."""
        return HubClient(
            self.address,
            self.folder / "authority.pem",
            self.folder / f"{kind}.pem",
            floor_s=lambda: self.floor_s,
            timeout_s=timeout_s,
        )

    def heard(self, hub_s: float) -> None:
        """The hub has said what time it is. Written down once an hour: a disk wears out. One that does not take it
        holds up nothing.
        """
        if hub_s > self.floor_s:
            self.floor_s = hub_s
            if hub_s - self._read_floor() > 3600:
                self.disk.keep(self.folder / "floor", str(hub_s).encode())

    def lenders_are(self, told: Any) -> None:
        """The hub has said where workers are lent. Raises FleetError on what is no answer; a disk that does not take it
        is tried again with the next one, and holds up nothing.
        """
        try:
            found = [Lender.parse(each).plain() for each in told or ()]
        except (KeyError, TypeError, ValueError):
            raise FleetError("the hub answered something that is no hub's answer") from None
        if found != self._lenders and self.disk.keep(self.folder / LENDERS, json.dumps(found).encode()):
            self._lenders = found

    def renewal_due(self, now_s: float) -> bool:
        """Whether a third of its time is all that the working certificate has left, by the hub's clock."""
        if self._valid_s is None:
            self._valid_s = certs.times_of((self.folder / "working.pem").read_bytes())
        begin_s, end_s = self._valid_s
        return now_s > end_s - (end_s - begin_s) / 3

    def renew(self) -> None:
        """Get another working certificate, by the renewal one. Raises FleetError, OSError.

        Its key is on the disk before the hub is asked: of certificates that were given and could not be kept, a few
        are enough for the hub to forget the one in use.
        """
        kept = self.folder / f".{certs.WORKING}.new.key"
        key = _kept_key(kept)
        with self.client(certs.RENEWAL) as client:
            given = client.call("/v1/renew", {"request": certs.make_request(key)})
        replace_file(self.folder / "working.pem", given["working"] + key)
        kept.unlink(missing_ok=True)
        self._valid_s = None

    def _read_floor(self) -> float:
        try:
            return float((self.folder / "floor").read_bytes())
        except (FileNotFoundError, ValueError):
            return 0.0


def enrol(folder: Path, hub: str, code: str) -> str:
    """Make this machine a node of a hub; returns its name. Raises FleetError, with nothing changed.

    The hub's authority must be the one of the code before it is told the secret. Keys are made here and stay here.
    """
    address = HubAddress.parse(hub)
    pinned, secret = read_code(code)
    with HubClient(address, None, None, floor_s=lambda: 0.0) as client:
        authority = client.call("/v1/authority", {}).get("authority")
    if not isinstance(authority, bytes) or not fits(certs.fingerprint(authority), pinned):
        raise FleetError(f"{address} is not the hub that made this code: its authority is another one")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    asked_of = folder / ".authority.new.pem"  # another hub's stays until this one has taken the code
    replace_file(asked_of, authority)
    keys = {kind: _kept_key(folder / f".{kind}.new.key") for kind in (certs.WORKING, certs.RENEWAL)}
    requests = {kind: certs.make_request(key) for kind, key in keys.items()}
    with HubClient(address, asked_of, None, floor_s=lambda: 0.0) as client:
        given: dict[str, Any] = client.call("/v1/enrol", {"secret": secret, **requests})
    known = {"hub": str(address), "name": given["name"], "signing": given["signing"].hex()}
    for kind, key in keys.items():
        replace_file(folder / f"{kind}.pem", given[kind] + key)
    boot = given.get("boot", 0)
    if isinstance(boot, int) and boot > _boot_in(folder):  # another device had the name: what it has sent is not ours
        replace_file(folder / "boot", str(boot).encode())
    asked_of.replace(folder / "authority.pem")
    replace_file(folder / "identity.json", json.dumps(known).encode())
    for kind in keys:
        (folder / f".{kind}.new.key").unlink(missing_ok=True)
    return str(given["name"])


def _boot_in(folder: Path) -> int:
    try:
        return int((folder / "boot").read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _kept_key(path: Path) -> bytes:
    """A new key, the same one where an enrolment before was cut short: then the code is good once more."""
    if path.exists():
        return path.read_bytes()
    key = certs.make_key()
    replace_file(path, key)
    os.chmod(path, 0o600)
    return key
