"""Where a stage with several places is: what was measured, the decision, and what a move must not lose."""
