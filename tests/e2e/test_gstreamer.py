"""A WHIP sender that is not ours: GStreamer's webrtcbin, as cameras, drones and Jetsons send."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import numpy as np

from tests.conftest import QUESTION, require, require_lab
from tests.e2e.server import LISTENER, serve
from tests.netlab import lab

PYTHON = "/usr/bin/python3"  # the system's, whose packages are Debian's
PACKAGES = (
    "apt-get install python3-gi python3-gst-1.0 gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
)
PRESENT = """
import gi
gi.require_version("Gst", "1.0"); gi.require_version("GstWebRTC", "1.0"); gi.require_version("GstSdp", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("webrtcbin", "opusenc", "rtpopuspay", "nicesrc", "wavparse"))
"""
# Offers, posts the offer once its candidates are there, takes the answer, plays the file, and says what its state is
SEND = (
    PRESENT
    + """
import sys, threading, urllib.request
from gi.repository import GLib

url, wav = sys.argv[1:]
said = "audioconvert ! audioresample ! audio/x-raw,rate=48000,channels=1 ! identity sync=true ! opusenc"
line = Gst.parse_launch(
    f"webrtcbin name=w bundle-policy=max-bundle filesrc location={wav} ! wavparse ! {said} ! rtpopuspay pt=97 ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! w."
)
w, loop, posted, kept = line.get_by_name("w"), GLib.MainLoop(), threading.Event(), []

def described(kind, text):
    _, message = GstSdp.SDPMessage.new_from_text(text)
    return GstWebRTC.WebRTCSessionDescription.new(kind, message)

def post():
    sdp = w.get_property("local-description").sdp.as_text().encode()
    request = urllib.request.Request(url, sdp, {"Content-Type": "application/sdp"})
    answer = urllib.request.urlopen(request, timeout=20).read().decode()
    w.emit("set-remote-description", described(GstWebRTC.WebRTCSDPType.ANSWER, answer), Gst.Promise.new())

def gathered(*_):
    done = w.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE
    if done and not posted.is_set():
        posted.set()
        threading.Thread(target=post).start()

def offered(promise, *_):
    promise.wait()
    kept.append(promise.get_reply())
    offer = kept[0]["offer"] if hasattr(kept[0], "__getitem__") else kept[0].get_value("offer")
    text = offer.sdp.as_text()
    w.emit("set-local-description", described(GstWebRTC.WebRTCSDPType.OFFER, text), Gst.Promise.new())

w.connect("notify::ice-gathering-state", gathered)
w.connect("notify::connection-state", lambda *_: print(w.get_property("connection-state").value_nick, flush=True))
w.connect("on-negotiation-needed", lambda *_: w.emit("create-offer", None, Gst.Promise.new_with_change_func(offered)))
line.set_state(Gst.State.PLAYING)
GLib.timeout_add_seconds(60, loop.quit)
loop.run()
"""
)


def question_later(path: Path) -> Path:
    """The recorded question between silences, as gstreamer's `wavparse` reads it."""
    from tests.conftest import write_wav

    with av.open(str(QUESTION)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        parts = [part.to_ndarray()[0] for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    silence = np.zeros(48_000 * 3, np.float32)
    return write_wav(path, np.concatenate([silence, *parts, silence, silence]), 48_000)


def test_gstreamer_connects_and_its_question_is_heard(tmp_path: Path) -> None:
    require_lab()
    present = subprocess.run([PYTHON, "-c", PRESENT], capture_output=True, check=False, timeout=60)
    require(present.returncode == 0, PACKAGES)
    file, script = tmp_path / "listener.yaml", tmp_path / "send.py"
    file.write_text(LISTENER, encoding="utf-8")
    script.write_text(SEND, encoding="utf-8")
    wav = question_later(tmp_path / "question.wav")
    with lab("server", "client") as net, serve(net, file, tmp_path / "serve.log") as server:
        sending = net.client.popen(
            [PYTHON, str(script), f"{server.url}whip", str(wav)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        try:
            server.until(lambda: any(session["turns"] for session in server.sessions()))
        finally:
            sending.kill()
            said = sending.communicate()[0].decode()
    assert "connected" in said
