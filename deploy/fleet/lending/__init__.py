"""The lending side: machines in fog and cloud that start workers for nodes, over mutual TLS, by lease."""
