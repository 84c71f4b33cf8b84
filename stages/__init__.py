"""Sensing, encoding, speech, vision, language and sinks: each a stage.

May import `thalweg.pipeline` and `thalweg.models`. Heavy libraries are imported when a stage is built, not
when its module is, so that listing stages needs none of them.
"""
