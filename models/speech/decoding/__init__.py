"""Decoders of frame probabilities: CTC, RNN-T, n-grams, tokens, hypotheses."""
