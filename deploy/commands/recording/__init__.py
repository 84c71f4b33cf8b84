"""Recording what crosses connections, playing it back, and rehearsing a pipeline on what was recorded."""
