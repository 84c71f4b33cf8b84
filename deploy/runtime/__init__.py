"""Workers, wherever they are: what runs stages, launchers, links, restarts."""
