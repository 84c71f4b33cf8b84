"""Nobody is believed without a certificate that an authority has signed."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest

from tests.conftest import require_package
from thalweg.models.http import Address, HttpClient, HttpError, HttpErrorKind


def certificate(folder: Path, host: str = "localhost") -> Path:
    """A file with one that no authority has signed, and its key."""
    require_package("cryptography", "grpc")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    whose = x509.DNSName(host) if host == "localhost" else x509.IPAddress(ipaddress.ip_address(host))
    builder = builder.add_extension(x509.SubjectAlternativeName([whose]), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return pem


def self_signed(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(folder))
    return context


def test_a_server_with_a_certificate_of_its_own_making_hears_neither_question_nor_key(tmp_path: Path) -> None:
    require_package("httpx", "language")
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1000))
        writer.close()

    async def main() -> HttpError:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self_signed(tmp_path))
        client = HttpClient(Address.parse(f"https://localhost:{server.sockets[0].getsockname()[1]}"), key="sk-SECRET")
        with pytest.raises(HttpError) as caught:
            async with client.post("x", b"{}"):
                pass
        await client.close()
        server.close()
        return caught.value

    error = asyncio.run(main())
    assert error.kind is HttpErrorKind.UNREACHABLE
    assert "certificate cannot be trusted" in str(error)
    assert not any(heard)
