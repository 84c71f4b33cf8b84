"""The hub's authority and what it signs: certificates of nodes, and manifests.

    authority   one per hub, 20 years; its fingerprint is part of every enrolment code, so a node knows it before it
                says anything
    hub         the certificate the hub answers with, made anew at each of its starts; its name is `HUB_NAME`, wherever
                it is reached
    renewal     of a node, 5 years: good for nothing but asking for a working one
    working     of a node, 30 days
    lender      of a node that lends workers, made anew at each start of its lender; its name is `LENDER_NAME`

Keys are made where they are used and never leave it. Manifests are signed with Ed25519, by a key of its own, so that
a hub which only serves them need not have it.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from thalweg.deploy.fleet.errors import FleetError

if TYPE_CHECKING:
    from cryptography import x509

HUB_NAME: Final = "hub.thalweg"
LENDER_NAME: Final = "lender.thalweg"
COMMAND_SALT: Final = b"thalweg command 1\0"
"""Before a command where it is signed: the signature of a manifest is good for no command."""
WORKING, RENEWAL, LENDER = "working", "renewal", "lender"
DAYS: Final = {WORKING: 30, RENEWAL: 5 * 365, LENDER: 366, "hub": 366, "authority": 20 * 365}
_ANSWERS: Final = {"hub": HUB_NAME, LENDER: LENDER_NAME}
"""Kinds that others connect to, and the name that each is asked for by."""
NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME, which Python's ssl has no name for."""
_MISSING = "nodes and hubs need the package cryptography: pip install 'thalweg[edge]'"


def _x509() -> Any:  # Any: a module; it takes 8 MB, and a node needs it about once a month
    try:
        from cryptography import x509
    except ImportError:
        raise FleetError(_MISSING) from None
    return x509


def make_key() -> bytes:
    """A private key for TLS, PEM."""
    _x509()
    from cryptography.hazmat.primitives.asymmetric import ec

    return _pem(ec.generate_private_key(ec.SECP256R1()))


def make_signing_key() -> bytes:
    """A private key for manifests, PEM."""
    _x509()
    from cryptography.hazmat.primitives.asymmetric import ed25519

    return _pem(ed25519.Ed25519PrivateKey.generate())


def make_request(key: bytes) -> bytes:
    """A signing request, PEM. The authority sets the name, from the code or the certificate of the client."""
    x509 = _x509()
    from cryptography.hazmat.primitives import hashes

    return _text(x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(_key(key), hashes.SHA256()))


def make_authority(name: str) -> tuple[bytes, bytes]:
    """A certificate that signs others, and its key, PEM."""
    x509 = _x509()
    key = make_key()
    subject = _name(x509, name, "authority")
    constraint = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(x509, subject, subject, _key(key).public_key(), "authority")
    return _signed(builder.add_extension(constraint, critical=True), key), key


def issue(
    authority: bytes, key: bytes, request: bytes, name: str, kind: str, now_s: float | None = None
) -> tuple[bytes, int]:
    """A certificate for the key of `request`, PEM, and its serial number. `now_s`: since when it is valid, but for an
    hour; default: by this machine's clock. Raises FleetError on a bad request.
    """
    x509 = _x509()
    try:
        asked = x509.load_pem_x509_csr(request)
        valid = asked.is_signature_valid
    except ValueError:
        valid = False
    if not valid:
        raise FleetError("that is no signing request whose signature fits it")
    ours = x509.load_pem_x509_certificate(authority)
    builder = _builder(x509, ours.subject, _name(x509, name, kind), asked.public_key(), kind, now_s)
    answers = _ANSWERS.get(kind)
    use = x509.ExtendedKeyUsageOID.CLIENT_AUTH if answers is None else x509.ExtendedKeyUsageOID.SERVER_AUTH
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=True)
    if answers is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(answers)]), critical=False)
    certificate = _signed(builder, key)
    return certificate, x509.load_pem_x509_certificate(certificate).serial_number


def fingerprint(certificate: bytes) -> bytes:
    """SHA-256 of a certificate, 32 bytes. Raises FleetError on something else."""
    x509 = _x509()
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return hashlib.sha256(x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)).digest()
    except ValueError:
        raise FleetError("that is no certificate") from None


def times_of(certificate: bytes) -> tuple[float, float]:
    """When a certificate becomes and ceases to be valid, seconds since 1970."""
    found = _x509().load_pem_x509_certificate(certificate)
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def public_of(key: bytes) -> bytes:
    """The public half of a signing key, 32 bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public: bytes = _key(key).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return public


def sign(key: bytes, data: bytes) -> bytes:
    """The signature of `data`, 64 bytes."""
    signature: bytes = _key(key).sign(data)
    return signature


def check_signature(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `data` was signed by the owner of `public`."""
    _x509()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def names_of(subject: Sequence[Sequence[Sequence[str]]]) -> tuple[str, str]:
    """Name and kind from the `subject` of `ssl.SSLSocket.getpeercert`."""
    found = {pair[0]: pair[1] for group in subject for pair in group}
    return found.get("commonName", ""), found.get("organizationalUnitName", "")


def _name(x509: Any, name: str, kind: str) -> Any:
    oid = x509.NameOID
    return x509.Name(
        [x509.NameAttribute(oid.COMMON_NAME, name), x509.NameAttribute(oid.ORGANIZATIONAL_UNIT_NAME, kind)]
    )


def _builder(
    x509: Any, issuer: Any, subject: Any, public: Any, kind: str, now_s: float | None = None
) -> x509.CertificateBuilder:
    now = datetime.datetime.fromtimestamp(time.time() if now_s is None else now_s, datetime.UTC)
    return (  # type: ignore[no-any-return]
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS[kind]))
    )


def _signed(builder: Any, key: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes

    return _text(builder.sign(_key(key), hashes.SHA256()))


def _text(thing: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    text: bytes = thing.public_bytes(Encoding.PEM)
    return text


def _key(key: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(key, password=None)


def _pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem
