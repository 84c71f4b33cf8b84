"""What is noted of a run while it goes: turns with their milestones, spans of work, histograms of durations."""
