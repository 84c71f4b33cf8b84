"""Decisions about hearing: what is decoded again when, what may be shown, what is settled. No audio is in them."""
