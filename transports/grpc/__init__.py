"""Edges between hosts: one gRPC stream per edge, as `edge.proto` describes it.

Theory of operation. The producer's worker connects and says who it is; the consumer's answers with its window and
with how many records it has. From then on:

    state       event               next        what the producer does
    CONNECTED   connection breaks   WAITING     keeps what was not taken, at most the window; tries again, slower
                                                and slower, for `patience_s`
    WAITING     welcome             CONNECTED   sends what the consumer has not received, then goes on
    WAITING     patience is over    LOST        tells its worker; what was not received is there for the next link
    CONNECTED   end answered        DONE

The consumer drops duplicates, so that every record arrives exactly once and in order across broken connections. A
record counts against the window until its consumer's channel has taken it, over all connections: a `block` edge holds
up its producer across hosts. Received is not taken: a consumer that is slow when the connection comes back has a full
window still. Each edge has a connection of its own, so a full one holds up no other. Nothing is compressed: media is
already, and the rest is small.
"""
