"""Speech: voice activity, recognisers, sentence pieces, synthesis."""
