"""Spoken words seen and heard, all of it synthetic: synthesized voices, a rendered mouth that their phonemes drive.

`words` is the vocabulary, `voices` speaks it, `mouth` draws it, `degrade` makes both hard in measured ways,
`clips` puts them together into sets that share neither voices nor faces, `train` makes the weights.
"""
