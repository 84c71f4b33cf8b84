"""For operators: deployments that stay, what is known of runs, pictures."""
