"""Which ciphers a connection is encrypted with: those of aiortc, and the same for certificates made with RSA.

GStreamer's webrtcbin, and what is built on it (cameras, drones, Jetsons), has an RSA certificate; aiortc by itself
offers suites for ECDSA only, and the two share none.
"""

from __future__ import annotations

from typing import Any

from aiortc.rtcdtlstransport import RTCCertificate

CIPHERS = ":".join(
    f"ECDHE-{kind}-{suite}"
    for suite in ("AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA")
    for kind in ("ECDSA", "RSA")
)
_CERTIFICATES = "_RTCPeerConnection__certificates"


class Certificate(RTCCertificate):
    """aiortc's own kind, with more ciphers."""

    def _create_ssl_context(self, *args: Any, **options: Any) -> Any:  # Any: OpenSSL, whose types come and go
        context = super()._create_ssl_context(*args, **options)
        context.set_cipher_list(CIPHERS.encode())
        return context


def take_all_certificates(peer_connection: Any) -> None:
    """Let a connection agree with certificates of either kind; before it is described. Raises RuntimeError."""
    if not hasattr(peer_connection, _CERTIFICATES) or not hasattr(RTCCertificate, "_create_ssl_context"):
        raise RuntimeError("this release of aiortc keeps its certificate elsewhere; use aiortc 1.9 to 1.16")
    setattr(peer_connection, _CERTIFICATES, [Certificate.generateCertificate()])
