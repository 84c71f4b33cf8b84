"""The certificate of a server: what is said of one that cannot be used, and renewing one while people are connected."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest

from thalweg.deploy.door.certificate import CertificateError, ServerCertificate
from thalweg.transports.grpc.tls import Certificates, make_certificates


def write(folder: Path, made: Certificates) -> tuple[Path, Path]:
    certificate, key = folder / "chain.pem", folder / "key.pem"
    certificate.write_bytes(made.certificate)
    key.write_bytes(made.key)
    return certificate, key


def shown(context: ssl.SSLContext) -> str:
    """The certificate with which a server of this context answers."""

    async def ask() -> str:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            anything = ssl.create_default_context()
            anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anything)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return ssl.DER_cert_to_PEM_cert(found)

    return asyncio.run(ask())


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old, new = make_certificates(), make_certificates()
    used = ServerCertificate(*write(tmp_path, old))
    assert shown(used.context) == old.certificate.decode()
    write(tmp_path, new)
    used.look()  # it may be half written
    assert shown(used.context) == old.certificate.decode()
    with caplog.at_level(logging.INFO):
        used.look()
        used.look()
    assert shown(used.context) == new.certificate.decode()
    assert caplog.text.count("was read again") == 1


def test_a_certificate_whose_key_has_not_come_yet_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = make_certificates(), make_certificates()
    certificate, key = write(tmp_path, old)
    used = ServerCertificate(certificate, key)
    certificate.write_bytes(new.certificate)
    for _ in range(3):
        used.look()
    assert shown(used.context) == old.certificate.decode()
    assert caplog.text.count("that of another certificate; the certificate that was read before is used on") == 1
    key.unlink()
    used.look()
    used.look()
    assert shown(used.context) == old.certificate.decode()
    key.write_bytes(new.key)
    used.look()
    used.look()
    assert shown(used.context) == new.certificate.decode()


def locked(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("no key", "its private key is not in it: name the file of that with --key"),
        ("other key", "key.pem is that of another certificate"),
        ("locked key", "has a pass phrase, .* `openssl pkey -in .*key.pem -out NEW`"),
        ("key is a certificate", "no private key is in .*key.pem; PEM is expected"),
        ("certificate is none", "chain.pem: no `-----BEGIN CERTIFICATE-----` is in it"),
        ("damaged", "OpenSSL refuses it with its key: "),
        ("key is missing", "cannot read .*key.pem, for TLS: No such file or directory"),
        ("certificate is missing", "cannot read .*chain.pem, for TLS: No such file or directory"),
    ],
)
def test_what_is_wrong_with_a_certificate_or_its_key_is_said(tmp_path: Path, wrong: str, said: str) -> None:
    made = make_certificates()
    certificate, key = write(tmp_path, made)
    if wrong == "other key":
        key.write_bytes(make_certificates().key)
    elif wrong == "locked key":
        key.write_bytes(locked(made.key))
    elif wrong == "key is a certificate":
        key.write_bytes(made.certificate)
    elif wrong == "certificate is none":
        certificate.write_bytes(made.key)
    elif wrong == "damaged":
        lines = made.certificate.splitlines(keepends=True)
        certificate.write_bytes(b"".join(lines[:3] + lines[4:]))
    elif wrong.endswith("is missing"):
        (key if wrong.startswith("key") else certificate).unlink()
    with pytest.raises(CertificateError, match=said):
        ServerCertificate(certificate, None if wrong == "no key" else key)


def test_a_name_beside_a_certificate_may_be_in_any_encoding(tmp_path: Path) -> None:
    certificate, key = write(tmp_path, made := make_certificates())
    certificate.write_bytes("friendlyName: Mühle\n".encode("latin-1") + made.certificate)
    assert shown(ServerCertificate(certificate, key).context) == made.certificate.decode()
