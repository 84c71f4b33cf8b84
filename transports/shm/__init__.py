"""Edges between processes of one host: records in shared memory, everything else over a Unix socket.

Theory of operation. The consumer's worker listens; the producer's connects and says who it is. The socket keeps
message borders (SOCK_SEQPACKET) and order, its name is in the kernel's abstract namespace, and so nothing of it is
ever left in a file system. Messages, by their first byte:

    down   h hello     version, edge, token, generation        up   w welcome   window u32, next, settled u64
           g ring      its descriptor comes along                   n no        why
           r           one more record is in the ring               c credit    packets that were taken, u32
           s signal                                                  u signal
           m           there is no room: say when there is           f           there is room
                                                                     o           lent views fill the ring: a new one
           e           end                                           e           all was taken
                                                                     k           packets acknowledged, u32

A producer that needs a larger ring makes one and hands it over; what is still in the old one is read first,
because messages keep their order. It also makes a new ring where the consumer holds packets, and with them the ring's
memory, for so long that none is free. The old ring is freed with its last packet; neither side waits for that.

What makes a hop quick: the packet is handed on within the callback that heard of it; credits are given back by half
windows and after the consumer has worked, because waking the producer gives it the processor; and the socket is read
once, because finding nothing there costs as much as the message, unless messages come in quick succession.
"""
