"""Matching packets of several streams by their capture times.

Theory of operation. A join holds what each port has received and may still be wanted. A port's watermark is a
promise: nothing with an earlier capture time will come there. Packets of a port come in time order, so each one
moves the watermark to its own time; the end of the stream moves it to infinity. A set is given out as soon as the
watermarks prove that no packet still to come could change it, and not before: which sets there are, and in which
order, depends on the capture times alone, not on which port was served first.

    kind      a set is                                          decided when
    Exact     one packet per port, all of one time              each port has one
    Nearest   each packet of `reference`, and of every other    every other watermark has come as far beyond the
              port the nearest one, at most `tolerance` away    reference as its nearest packet lies from it
    Latest    each packet of `trigger`, and of every other      every other port has a packet of that time or
              port the newest one at or before its time         later, or its watermark has passed it
    Window    all packets with times in [k·hop, k·hop + size)   every watermark has reached the end

    kind      dropped as UNMATCHED
    Exact     a packet whose time the watermark of some other port has passed
    Nearest   a reference without a partner within the tolerance on some port; a partner that no reference took
    Latest    a trigger before every other port has had a packet; another packet that was newest for no trigger
    Window    none

Equal times: packets of one port are taken in order of arrival. Exact and Latest pair the first of each port, then the
second, and so on; Nearest takes the first. Of two equally near packets Nearest takes the earlier one.

Epochs: a set never holds two epochs besides AMBIENT. AMBIENT packets match any epoch; if one leads, the set gets the
newest epoch among the packets that it would match without this rule. Exact: of heads with equal times, those of older
epochs are dropped. Latest: a port that has received an epoch never uses older ones. Window: one set per epoch, oldest
first, each with all AMBIENT packets, or one set of these alone if there is no other epoch.

Two settings of a join make the outcome depend on the order of arrival. `capacity`: at most this many packets are held
per port, then the oldest one is dropped as OVERFLOW, so that a silent port cannot make memory grow. `patience_ns`: the
join no longer waits for a port this far behind the foremost watermark, and drops its later packets as LATE. Without it
(the default, because a wrong pair is worse than a late one for most fusion) a silent port blocks the others until it
ends or sends again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thalweg.pipeline.joins.joined import END, JoinDrop, JoinError, PacketSet
from thalweg.pipeline.joins.matching import ExactJoin, LatestJoin, WindowJoin
from thalweg.pipeline.joins.nearest import NearestJoin
from thalweg.pipeline.packet import Packet

__all__ = ["END", "Exact", "Join", "JoinDrop", "JoinError", "JoinSpec", "Latest", "Nearest", "PacketSet", "Window"]


class Join(Protocol):
    """A running join. After every event call `pop` until it returns None, so that few packets are held.

    `pushed == held + delivered + sum(drops.values())` after every call; `delivered` counts packets that were in at
    least one set and are no longer held. Raises JoinError on a port that it was not started with.
    """

    ports: tuple[str, ...]
    pushed: int
    delivered: int
    held: int

    @property
    def drops(self) -> Mapping[JoinDrop, int]:
        """Packets dropped so far, with every reason."""
        ...

    @property
    def open_ports(self) -> tuple[str, ...]:
        """The ports that were not closed."""
        ...

    def push(self, port: str, packet: Packet) -> None:
        """Take a packet. One before its port's watermark, or after its end, is dropped as LATE."""
        ...

    def close(self, port: str) -> None:
        """Nothing will come on `port` any more. Idempotent."""
        ...

    def watermark(self, port: str, time_ns: int) -> None:
        """No packet with a time before `time_ns` will come on `port`. A lower value than the last is ignored."""
        ...

    def pop(self) -> PacketSet | None:
        """The oldest decided set, or None. Once all ports have ended, None means that no packet is held."""
        ...

    def raise_epoch(self, epoch: int) -> int:
        """From now on packets of an epoch below `epoch` are stale, the held ones too; AMBIENT ones never are.

        Returns how many were dropped at once. Lower epochs than the highest seen are ignored.
        """
        ...

    def snapshot(self) -> dict[str, Any]:
        """The whole state, as a tree of plain values and packets that shares nothing with this join."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a snapshot.

        Raises JoinError, without a change, if the snapshot is from another declaration or other ports.
        """
        ...


class JoinSpec(Protocol):
    """How inputs are matched: the type of the class attribute `join` of a stage."""

    def start(self, ports: Sequence[str]) -> Join:
        """A running join of these ports. Raises JoinError where the declaration does not fit them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """`capacity`: packets held per port, at least 1. `patience_ns`: see the head of this file; None: no timeout.

    When in doubt, keep the default `capacity`: 256 is five seconds of 20 ms units, and costs memory only for packets
    that wait.
    """

    capacity: int = 256
    patience_ns: int | None = None

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise JoinError(f"{self}: capacity is {self.capacity}, expected at least 1 packet")
        if self.patience_ns is not None and self.patience_ns < 0:
            raise JoinError(f"{self}: patience_ns is {self.patience_ns}, expected 0 or more, or None")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact(_Limits):
    """Packets of equal times: for streams that derive from the same units."""

    def start(self, ports: Sequence[str]) -> Join:
        """A running join of these ports."""
        return ExactJoin(repr(self), ports, self.capacity, self.patience_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(_Limits):
    """For each packet of `reference` the nearest of every other port, at most `tolerance_ns` before or after it.

    A packet may be the partner of several references, or of none. Raises JoinError on a negative tolerance.
    """

    reference: str
    tolerance_ns: int

    def __post_init__(self) -> None:
        _Limits.__post_init__(self)
        if self.tolerance_ns < 0:
            raise JoinError(f"{self}: tolerance_ns is {self.tolerance_ns}, expected 0 or more")

    def start(self, ports: Sequence[str]) -> Join:
        """A running join of these ports. Raises JoinError if `reference` is none of them."""
        _expect_port(self, "reference", self.reference, ports)
        return NearestJoin(
            repr(self),
            ports,
            self.capacity,
            self.patience_ns,
            reference=self.reference,
            tolerance_ns=self.tolerance_ns,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest(_Limits):
    """Each packet of `trigger` with the newest of every other port at or before its time.

    Without a trigger every packet of any port triggers a set; packets of equal times trigger one together. "Newest" is
    by capture time, not by arrival; `patience_ns` bounds the wait for a port that lags.
    """

    trigger: str | None = None

    def start(self, ports: Sequence[str]) -> Join:
        """A running join of these ports. Raises JoinError if `trigger` is none of them."""
        if self.trigger is not None:
            _expect_port(self, "trigger", self.trigger, ports)
        triggers = tuple(ports) if self.trigger is None else (self.trigger,)
        return LatestJoin(repr(self), ports, self.capacity, self.patience_ns, triggers=triggers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(_Limits):
    """Windows of `size_ns`, one every `hop_ns`, counted from time 0; without `hop_ns` they do not overlap.

    Empty windows give no set. Raises JoinError unless 0 < hop_ns ≤ size_ns: with a longer hop packets between two
    windows would belong to none.
    """

    size_ns: int
    hop_ns: int | None = None

    def __post_init__(self) -> None:
        _Limits.__post_init__(self)
        if not 0 < self._hop_ns <= self.size_ns:
            raise JoinError(f"{self}: hop is {self._hop_ns} ns, expected more than 0 and at most size_ns")

    def start(self, ports: Sequence[str]) -> Join:
        """A running join of these ports."""
        return WindowJoin(repr(self), ports, self.capacity, self.patience_ns, size_ns=self.size_ns, hop_ns=self._hop_ns)

    @property
    def _hop_ns(self) -> int:
        return self.size_ns if self.hop_ns is None else self.hop_ns


def _expect_port(spec: JoinSpec, field: str, name: str, ports: Sequence[str]) -> None:
    if name not in ports:
        raise JoinError(f"{spec}: {field} is {name!r}, expected one of its ports: {', '.join(ports)}")
