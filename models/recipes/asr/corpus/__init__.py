"""What the recogniser is trained on: texts, voices that speak them, what is done to their sound, and batches of it."""
