"""The certificate of a server: read at its start, and again when its files have changed, without ending a connection.

Certificates of public authorities are renewed every few weeks. A connection that stands keeps the one it began with.
Renewing writes two files, one after the other, so files that have just changed are read once they have stayed the same
from one look to the next. Files that cannot be used change nothing: what was read before is shown on, and the log says
so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

from thalweg.models.store.bounded import read_at_most
from thalweg.pipeline.errors import ThalwegError

log = logging.getLogger(__name__)

LOOK_S = 5.0
MOST_BYTES = 1_000_000


class CertificateError(ThalwegError):
    """A certificate or key that a server cannot use. Never says what stands in it."""


class ServerCertificate:
    """`key`: None where the file of the certificate holds it, too. Raises CertificateError where they are of no use."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._marks = self._now()
        self._read = self._marks
        self.context = _context(certificate, key)

    async def run(self) -> None:
        """Look at the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Read the files again where they have changed and the look before found them as they are now."""
        before, self._marks = self._marks, self._now()
        if self._marks == self._read or self._marks != before:
            return
        self._read = self._marks
        try:
            _context(self._certificate, self._key)  # a pair that does not fit would spoil the context that is in use
            _load(self.context, self._certificate, self._key)
            log.info("the certificate %s was read again", self._certificate)
        except CertificateError as error:
            log.error("%s; the certificate that was read before is used on", error)

    def _now(self) -> tuple[tuple[int, ...], ...]:
        """What is another where a file has changed, or is gone."""
        return tuple(_mark(path) for path in (self._certificate, self._key) if path is not None)


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """A context that shows the certificate. Raises CertificateError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Raises CertificateError."""
    where = f"cannot use the certificate {certificate}"
    if b"CERTIFICATE-----" not in _bytes(certificate):
        raise CertificateError(f"{where}: no `-----BEGIN CERTIFICATE-----` is in it; PEM is expected")
    if b"PRIVATE KEY-----" not in _bytes(key or certificate):
        if key is None:
            raise CertificateError(f"{where}: its private key is not in it: name the file of that with --key")
        raise CertificateError(f"{where}: no private key is in {key}; PEM is expected")
    asked: list[None] = []

    def password() -> str:
        asked.append(None)
        return ""

    try:
        context.load_cert_chain(certificate, key, password)
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        if asked:
            reason = (
                "its key has a pass phrase, which a server cannot ask for; "
                f"`openssl pkey -in {key or certificate} -out NEW` writes it without"
            )
        elif getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            reason = f"the key in {key or certificate} is that of another certificate"
        else:
            reason = f"OpenSSL refuses it with its key: {getattr(error, 'reason', None) or error}"
        raise CertificateError(f"{where}: {reason}") from None


def _bytes(path: Path) -> bytes:
    """Raises CertificateError."""
    try:
        return read_at_most(path, MOST_BYTES)
    except OSError as error:
        raise CertificateError(f"cannot read {path}, for TLS: {error.strerror or error}") from None


def _mark(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
