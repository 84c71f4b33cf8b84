"""How files of strangers are opened with PyAV, whichever of its versions is here."""

from __future__ import annotations

from typing import Any

LARGEST_PIXELS = 8192 * 8192
"""Of a picture: a file of a megabyte can hold one that unpacks to a gigabyte."""


def bounded(container: Any) -> None:  # Any: PyAV's
    """Have the decoders of a container refuse pictures of more than `LARGEST_PIXELS`. Before anything is decoded."""
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = {"max_pixels": str(LARGEST_PIXELS)}


def closed() -> dict[str, Any]:
    """What `av.open` is told in addition to a file that is open: nothing that is named in it is opened, such as what a
    playlist lists, and names in it may be no valid text (from 19 on that needs no telling).
    """
    import av

    tolerant = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    return {"options": {"protocol_whitelist": "none", "max_pixels": str(LARGEST_PIXELS)}, **tolerant}


def live(transport: str, patience_s: float) -> dict[str, Any]:
    """What `av.open` is told of a stream from a camera: RTSP and what it carries, and nothing else that an answer might
    name. Connecting, and the wait for each piece, take `patience_s` at most.
    """
    options = {
        "protocol_whitelist": "rtsp,rtp,tcp,udp",
        "rtsp_transport": transport,
        "fflags": "nobuffer",
        "max_pixels": str(LARGEST_PIXELS),
    }
    return {"format": "rtsp", "options": options, "timeout": (patience_s, patience_s)}
