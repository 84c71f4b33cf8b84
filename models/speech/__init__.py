"""Speech models: voice activity, recognisers, synthesis, log-mel features."""
