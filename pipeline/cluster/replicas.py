"""Several replicas of a stage share the packets of a stream; their output has the order of a single stage.

Theory of operation. A splitter feeds the replicas, and one merger per output stream collects their packets. The
splitter numbers packets from 0 and sends each to one replica, followed by a mark. A replica forwards the mark to every
output stream after all outputs for the packet. So the `index` on every edge to and from a replica never falls, and a
mark closes an index even if the packet itself was dropped on the way (stale, too late, or failed). Marks belong to no
turn and have no deadline; a mark is lost only with its replica.

    which replica gets a packet
    stateless   one that is ready for another, in turn
    keyed       that of the packet's key, ready or not: the same for as long as there are as many replicas
    sent again  after the death of the splitter's worker, once all replicas have reported what they received: one
                without a packet of this or a higher index, since it would take that for a duplicate; if all have one,
                all of them, and each drops it unless it is started again

    the merger waits for the index `due`; of each replica it sees the next packet, its head
    a head of `due`                         taken; passed on unless that item of it was before (after a restart two
                                            replicas may have worked on the same packet)
    a mark of `due`                         taken; `due` + 1
    a head below `due`                      taken, dropped: it was here before
    every open replica has a head above     lost with a replica: `due` is the lowest of them
    else                                    wait: the replica that is at it will come

The last row but one needs a head from idle replicas, too. So an idle splitter sends each replica a mark that no packet
below the next index will come that way; a needless mark does no harm.

A merger holds one packet of each replica. Further packets that are ahead of their turn wait in the channels and block
their replica. What a replica gives at the end of its stream comes behind everything else, replica by replica.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence

from thalweg.pipeline.payload import Numbered
from thalweg.pipeline.signal import Signal

END_INDEX = 1 << 48
"""The index of what the first replica emits at its end; that of the second is one higher, and so on."""
SEQ_STRIDE = 4
"""Distance between the numbers of successive indices on an edge, with room for data, mark and pause mark."""
_REMEMBERED = 64


def seq_of(numbered: Numbered) -> int:
    """The number of a packet on the edge to a replica: the same when it is sent again, and rising."""
    if numbered.payload is not None:
        return numbered.index * SEQ_STRIDE
    return numbered.index * SEQ_STRIDE + (1 if numbered.item >= 0 else -2)


def is_pause(numbered: Numbered) -> bool:
    """Whether this is the mark of an idle splitter: nothing below its index will come this way."""
    return numbered.item < 0


class Dealer:
    """Which of `replicas` gets the next packet, `index`. Replicas are numbered from 0."""

    def __init__(self, replicas: int) -> None:
        self.index = 0
        self.turn = 0
        self._had = [-1] * replicas

    def had(self, replica: int, last_seq: int) -> None:
        """A replica has had the packets up to this number on its edge."""
        self._had[replica] = max(self._had[replica], last_seq // SEQ_STRIDE)

    def renew(self) -> None:
        """The next packet is a new one, not sent again: give it an index that no replica has seen."""
        self.index = max(self.index, max(self._had) + 1)

    @property
    def repeats(self) -> bool:
        """Whether the next index was given out before, by an earlier incarnation."""
        return self.index <= max(self._had)

    def without(self) -> list[int]:
        """The replicas that get an index which is sent again."""
        return [i for i, had in enumerate(self._had) if had < self.index][:1] or list(range(len(self._had)))

    def ready_one(self, ready: Sequence[bool]) -> int | None:
        """The next ready replica, in turn; None if none is ready."""
        count = len(ready)
        return next((i % count for i in range(self.turn, self.turn + count) if ready[i % count]), None)

    def of_key(self, key: object) -> int:
        """The replica of this key, the same on every machine."""
        return zlib.crc32(str(key).encode()) % len(self._had)

    def given(self, replica: int) -> None:
        """The next packet was given to `replica`."""
        self.index += 1
        self.turn = (replica + 1) % len(self._had)


class Reunion:
    """The merger's decisions. `lost`: indices of which nothing will come; `repeated`: items that came twice."""

    def __init__(self) -> None:
        self.due = 0
        self.item = 0
        self.lost = 0
        self.repeated = 0

    def choose(self, heads: Sequence[Numbered | None], ended: Sequence[bool]) -> int | None:
        """The replica whose head to take; None: wait. `heads`: the next packet of each replica, None if there is none
        yet; `ended`: whether no more will come.
        """
        waits, chosen, lowest = False, None, 0
        for i, head in enumerate(heads):
            if head is None:
                waits = waits or not ended[i]
            elif head.index <= self.due:
                return i
            elif chosen is None or head.index < lowest:
                chosen, lowest = i, head.index
        if waits or chosen is None:
            return None
        if lowest < END_INDEX:
            self.lost += lowest - self.due
        self.due, self.item = lowest, 0
        return chosen

    def take(self, head: Numbered) -> bool:
        """Take the chosen head. Returns whether to forward it."""
        if is_pause(head):
            return False
        if head.payload is None:
            if head.index == self.due:
                self.due, self.item = self.due + 1, 0
            return False
        if head.index < self.due or head.item < self.item:
            self.repeated += 1
            return False
        self.item = head.item + 1
        return True


class Echoes:
    """Removes duplicates of a signal that went through all replicas and arrives once from each.

    The nth arrival by one way is forwarded if the signal has arrived fewer than n times by every other.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[str, dict[str, int]] = OrderedDict()

    def first(self, signal: Signal, way: str) -> bool:
        """Whether a signal that comes by `way` is to go on."""
        counts = self._counts.setdefault(repr(signal), {})
        self._counts.move_to_end(repr(signal))
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        most = max(counts.values(), default=0)
        counts[way] = counts.get(way, 0) + 1
        return counts[way] > most
