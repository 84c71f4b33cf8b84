"""Whisper (arXiv 2212.04356) on CTranslate2: features, tokens, one decode, and an engine that many streams share.

Nothing here knows of turns or of what was shown before: which audio is decoded when is decided in
`pipeline/speech/`.
"""
