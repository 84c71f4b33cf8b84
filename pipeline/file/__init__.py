"""From YAML text to a checked graph and a plan, and the names that a pipeline file uses."""
