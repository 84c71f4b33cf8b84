"""The worker: it runs the stages of a graph, with their channels, bridges, checkpoints and problems."""
