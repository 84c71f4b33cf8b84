"""`thalweg serve`: conversations with a pipeline over WebRTC, a page to hold them on, and what an operator needs.

One event loop holds the web server, every connection and every pipeline; the heavy work is on the threads of the
stages. Nothing of a connection is here (`transports/webrtc`), nothing of turns (`pipeline`).
"""
