"""Hostile inputs, by kind, each of them one test: `pytest tests/hostile`. The cases of a review, and more of each.

What is harmful about an input is its name. Elsewhere are those that need more around them: archives
(`tests/models/speech/test_hostile_archives.py`), model servers (`tests/models/language`, `tests/models/http`), floods
(`tests/bench/test_siege.py`), media (`tests/transports/webrtc/test_guard.py`), and what chance finds (`tests/fuzz`).
"""
