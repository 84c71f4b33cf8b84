"""A vehicle over a place to land, simulated: a camera that sees it at once, a range scanner that sweeps over it."""
