"""Conversations over WebRTC: media and messages of one person as packets, through aiortc.

What belongs to a connection is here; signalling over HTTP is the server's (`deploy/server`), and what is decided about
turns and play-out is in `pipeline`. Nothing here knows stages or models.
"""

from thalweg.transports.webrtc.call import Call
from thalweg.transports.webrtc.offer import Offer, read_offer
from thalweg.transports.webrtc.peer import Peer
from thalweg.transports.webrtc.sections import OfferError

__all__ = ["Call", "Offer", "OfferError", "Peer", "read_offer"]
