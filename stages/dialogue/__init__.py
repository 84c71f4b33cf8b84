"""Conversations with a person: microphone, speaker, captions and turns of a call."""
