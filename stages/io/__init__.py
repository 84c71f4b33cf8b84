"""Sources and sinks of this machine: audio files, microphones, terminal, files."""
