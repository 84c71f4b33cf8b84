"""Command line, launchers, servers and example pipelines: where the parts are put together."""
