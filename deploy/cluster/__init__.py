"""Many workers: launchers, hosts, links between them, heartbeats, restarts."""
