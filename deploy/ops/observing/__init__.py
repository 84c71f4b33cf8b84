"""What is known of running workers and of finished runs: counts, rates, reports, metrics, spans."""
