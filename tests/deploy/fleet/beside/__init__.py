"""What others use in place of a node's spool, under the same outage and power cuts: NATS, and a plain queue."""
