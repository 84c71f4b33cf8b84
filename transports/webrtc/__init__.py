"""Conversations over WebRTC: media and messages of one visitor as packets, through aiortc.

This folder holds the connection. Signalling over HTTP is in `deploy/server`, the decisions about turns and play-out are
in `pipeline`. Nothing here depends on stages or models.
"""

from thalweg.transports.webrtc.call import Call
from thalweg.transports.webrtc.offer import Offer, read_offer
from thalweg.transports.webrtc.peer import Peer
from thalweg.transports.webrtc.sections import OfferError

__all__ = ["Call", "Offer", "OfferError", "Peer", "read_offer"]
