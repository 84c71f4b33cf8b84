"""Decisions about video for a machine: bit rate, quantiser map, regions, frame rate, network model."""
