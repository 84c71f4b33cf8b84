"""Language models on this machine and sentence embeddings."""
