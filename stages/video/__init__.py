"""Video: files, encoding, decoding, emulated links, rate control."""
