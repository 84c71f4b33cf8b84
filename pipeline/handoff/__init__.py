"""Decisions about language-model backends: which one answers, when another takes over, what may go where.

No connection, clock or model lives here; `stages/language/pool/pool.py` carries out what is decided.
"""
