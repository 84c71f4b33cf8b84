"""Conversations over WebRTC: media and messages of one person as packets, through aiortc.

What belongs to a connection is here; signalling over HTTP is the server's (`deploy/server`), and what is decided about
turns and play-out is in `pipeline`. Nothing here knows stages or models.
"""

from thalweg.transports.webrtc.call import Call
from thalweg.transports.webrtc.peer import OfferError, Peer

__all__ = ["Call", "OfferError", "Peer"]
