"""The seams: what the two halves need from sources, store and destinations. Each method states its promise."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from app.domain.configuration import Configuration, Endpoint, SourceState
from app.domain.delivery import Fetched, InOrder, LaneSurvey, Lease, Owed, Settlement
from app.domain.ids import LaneId, SourceId
from app.domain.message import Heard, Message, Pushed, QueueMeasure, Recorded
from app.domain.outcome import Outcome
from app.domain.pulse import Pulse


class PullSource(Protocol):
    """A place that hands out messages, hides them for a while, and takes acknowledgements."""

    @property
    def visibility_seconds(self) -> float:
        """How long a message stays hidden from others after it was received or extended."""

    @property
    def full_poll(self) -> int:
        """How many messages one poll brings at most; one that brings so many says that more wait."""

    @property
    def max_polls(self) -> int:
        """How many polls may be under way at once, at most."""

    async def receive(self) -> Sequence[Message]:
        """Wait for messages, at most as long as the source's own poll; none is a normal answer.

        Raises SourceError. Cancelling may strand messages until their visibility ends; it loses none.
        """

    async def ack(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Acknowledge what was committed and give back those the source refused to forget.

        Raises SourceError. A message not acknowledged comes again and is recognised as a duplicate.
        """

    async def extend(self, messages: Sequence[Message]) -> None:
        """Keep messages invisible to others for another visibility span. Raises SourceError."""

    async def measure(self) -> QueueMeasure:
        """Tell what waits in the source, as well as it knows. Changes nothing. Raises SourceError."""

    async def aclose(self) -> None:
        """Free the connections; whatever is not acknowledged comes again."""


class PushSource(Protocol):
    """A place that hands its messages over by itself: vouches for what comes in its name. One instance a source."""

    async def accept(self, pushed: Pushed) -> Message | None:
        """Vouch for a push and give the message to record; None when it was dealt with and says nothing to record.

        Raises Unauthorized, Forged, and SourceError when it cannot tell for now: the sender should try again.
        Cancelled: nothing was recorded; what was asked of others may have been done.
        """

    async def aclose(self) -> None:
        """Free the connections within a bound."""


class EventStore(Protocol):
    """The left half's end: where events and what they owe are written down."""

    async def record(self, batch: Sequence[Heard]) -> Recorded:
        """Write a batch down in one transaction.

        That is: new events once, their deliveries to every subscription that matches under the configuration as
        committed, quarantine, signs of life of the sources. When it returns, all of it is durable.
        Raises StoreRefused when the database refuses the data (nothing is then written), StoreUnavailable otherwise
        (it may or may not have been written: recording again is safe). Cancelled: as StoreUnavailable.
        """

    async def note_source(self, source_id: SourceId, state: SourceState, error: str | None) -> None:
        """Keep a source's state and last error for people to see. Raises StoreUnavailable."""


class PulseStore(Protocol):
    """Where a process says what it measured of its sources lately. What it does not repeat is soon taken for old."""

    async def note(self, pulses: Sequence[Pulse]) -> None:
        """Keep pulses in the place of what this process noted of the same sources before; none is no call at all.

        Raises StoreUnavailable. Cancelled: some may have been kept.
        """

    async def leave(self) -> None:
        """Take out what this process noted: it measures no more. Raises StoreUnavailable."""


class ConfigurationStore(Protocol):
    """Where the set-up is read from."""

    async def epoch(self) -> int:
        """Give the number of the newest committed change. Raises StoreUnavailable."""

    async def load(self) -> Configuration:
        """Give the whole set-up at one moment. Raises StoreUnavailable."""


class Outbox(Protocol):
    """The right half's end: lanes and what they owe, by the database's clock. All of it may raise StoreUnavailable."""

    async def survey(self) -> LaneSurvey:
        """Look at the lanes without changing anything, and note that this replica lives."""

    async def lease(self, limit: int) -> Sequence[Lease]:
        """Claim up to `limit` waiting lanes, longest unserved first; no two replicas get the same one.

        Of lanes on trial a replica gets no more than it then holds TRIALS_HELD of.
        """

    async def renew(self, leases: Sequence[Lease]) -> frozenset[LaneId]:
        """Prolong leases; the answer names those still held, every other one is lost."""

    async def make_way(self, lease: Lease) -> None:
        """Cancel what was deleted and would be in the way of the next fetch, for a second at most.

        A fetch looks past so much of it and no more.
        """

    async def fetch(self, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Sequence[Owed]:
        """Read what the lane owes and is due, oldest due first, without the rows in `leave_out`. Changes nothing."""

    async def fetch_in_order(self, lease: Lease, *, limit: int, leave_out: Sequence[int], how: InOrder) -> Fetched:
        """Read the same by turn: nothing is given before what it must come after.

        Unless that stands in `leave_out` or earlier in the answer. What waits is parked until what it waits for is out
        of the way: an answer without rows that is not all has parked some, and the next one comes further. Cancelled:
        some are parked.
        """

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """Write down what tries gave, in one transaction, and give the lanes whose lease turned out to be lost.

        A success counts whoever reports it; a retry or a death only under a lease still held. Settling twice is safe.
        Cancelled: may or may not be written.
        """

    async def rest(self, lease: Lease) -> bool:
        """Say that a held lane looks empty; False when something became due meanwhile, so look again."""

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give lanes back at once; what they owe and is due can be leased by anyone. Lost leases are ignored."""

    async def suspend(self, lease: Lease, *, seconds: float) -> None:
        """Give a lane back and let nobody have it before that many seconds are over. A lost lease is ignored."""

    async def sweep(self) -> int:
        """Wake lanes that have something due and sleep; end, in slices, what was deleted or is too old.

        Also lets go what waits for nothing any more, disables endpoints that fail for days, and looks for stalls.

        The guarantee behind every hint; one replica at a time does it. Gives the number of lanes woken.
        """

    async def retire(self) -> None:
        """Say that this replica takes no more lanes: the others share all there are; what it holds stays its own.

        A later survey says that it is back.
        """

    async def leave(self) -> None:
        """Say that this replica is gone, so that the others take its share at once."""


class Destination(Protocol):
    """A kind of target. One instance serves every endpoint of its kind in the process."""

    @property
    def batch_limit(self) -> int:
        """How many deliveries one send takes at most; each send is one of an endpoint's `max_in_flight`."""

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Try to deliver each of the batch; one outcome each, in order, within the endpoint's time limit.

        Never raises for what a receiver or a network does. Every `Owed` has its event. Cancelled: unknown whether
        anything arrived; the deliveries are still owed.
        """

    async def aclose(self) -> None:
        """Free connections within a bound, also while the other side is down."""


Wake = Callable[[frozenset[LaneId]], None]
"""Tell the relay of this process that lanes have something owed: a hint, never a promise."""

Now = Callable[[], datetime]
"""Tell the time, in UTC: the database's, whatever this machine's clock says."""

Sleep = Callable[[float], Awaitable[None]]
"""Wait for a span in seconds; tests hand in their own."""
