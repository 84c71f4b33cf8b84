"""Certificates for one deployment: a certificate authority of the same lifetime, and one key for its workers.

Every worker presents the same certificate and accepts only that authority's, both ways. No other peer can connect, and
no key needs configuration or renewal or is of use after the run.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from thalweg.transports.link import TransportError

NAME = "worker.thalweg"
_VALID_DAYS = 366


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM texts: the authority's certificate, and a certificate and its key, good for both ends."""

    authority: bytes
    certificate: bytes
    key: bytes


def make_certificates(valid_days: int = _VALID_DAYS) -> Certificates:
    """Fresh ones. Raises TransportError where the package `cryptography` is missing."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError:
        raise TransportError("edges between hosts need certificates: pip install 'thalweg[grpc]'") from None

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    start, end = now - datetime.timedelta(days=1), now + datetime.timedelta(days=valid_days)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = (
        x509.CertificateBuilder()
        .subject_name(name("Thalweg deployment"))
        .issuer_name(name("Thalweg deployment"))
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(NAME))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Certificates(
        authority=authority.public_bytes(pem),
        certificate=certificate.public_bytes(pem),
        key=key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
