"""What a replica of the relay believes: the lanes it holds, what it has read of them, what it has sent and not settled.

Its memory is the relay's own; what it does next, and when, is the test's to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from app.domain.configuration import Endpoint
from app.domain.delivery import InOrder, Lease, Owed, Settlement
from app.domain.ids import LaneId
from app.domain.verdict import LATE, Verdict
from app.relay.attempts import reached_with
from app.relay.memory import Memory
from app.relay.window import Window
from app.store.outbox import SqlOutbox
from tests.bed.stored import BROKEN, Stored, delivered

# Shorter than a tick of a play, and longer than any play.
LEASE_SECONDS: Final = 5_000.0
# So few that other moves come in between slices.
CANCELLED_AT_ONCE: Final = 2


@dataclass(slots=True, kw_only=True, eq=False)
class Sent:
    """A delivery that is under way or has its answer; `settlement` is what is to be written down of it."""

    owed: Owed
    settlement: Settlement


@dataclass(slots=True, kw_only=True, eq=False)
class Holding:
    """A lane as its holder knows it. One known to be lost sends nothing more; what is under way is still settled."""

    lease: Lease
    in_order: InOrder | None
    window: Window = field(default_factory=lambda: Window(Memory()))
    sent: list[Sent] = field(default_factory=list)
    is_lost: bool = False
    # How far it was told that its receiver has come, by object.
    reached: dict[int | None, bytes] = field(default_factory=dict)
    # Reading and resting take turns: the name of the one under way.
    turn: str | None = None

    def take_in(self, rows: Sequence[Owed], there: Iterable[bytes]) -> None:
        """Keep what was read."""
        living = [each for each in rows if each.subscription_id in set(there)]
        self.window.queue(self.window.take_in(living), in_order=self.in_order is not None)

    def lose(self) -> None:
        """Learn that the lease is lost."""
        self.is_lost = True
        self.window.forget_queue()

    def settled(self, sent: Sent, *, is_kept: bool) -> None:
        """Learn that something is written down."""
        if not is_kept:
            self.lose()
        self.window.settled([sent.owed], [sent.settlement])
        key, reached = sent.owed.order_key, sent.settlement.reached
        if reached is not None:
            self.reached[key] = max(reached, self.reached.get(key, reached))
        self.sent.remove(sent)


class Replica:
    """One replica; after a crash it comes back as another."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self.holdings: list[Holding] = []
        self.outbox: SqlOutbox
        self.crash()

    def crash(self) -> None:
        """Forget everything."""
        self.outbox = self._stored.outbox(lease_seconds=LEASE_SECONDS, cancelled_at_once=CANCELLED_AT_ONCE)
        self.id = self.outbox._replica
        self.holdings = []

    def take_over(self, leases: Sequence[Lease], *, orders: Mapping[LaneId, InOrder]) -> None:
        """Work on lanes just leased; an older claim on the same lane is then known to be lost."""
        for lease in leases:
            for each in self.holdings:
                if each.lease.lane_id == lease.lane_id:
                    each.lose()
            self.holdings = [each for each in self.holdings if each.sent or not each.is_lost]
            self.holdings.append(Holding(lease=lease, in_order=orders.get(lease.lane_id)))

    async def fetch(self, holding: Holding, *, limit: int) -> Sequence[Owed]:
        """Read what a lane owes beyond what is in memory, as its order asks."""
        window = holding.window
        if holding.in_order is None:
            return await self.outbox.fetch(holding.lease, limit=limit, leave_out=window.row_ids)
        how = replace(holding.in_order, crowded=window.crowded)
        fetched = await self.outbox.fetch_in_order(holding.lease, limit=limit, leave_out=window.row_ids, how=how)
        return fetched.rows


def settlement_of(lease: Lease, endpoint: Endpoint, owed: Owed, verdict: Verdict | None) -> Settlement:
    """Settle what a receiver accepted, where there is no verdict, or refused."""
    if verdict is None:
        return replace(delivered(lease, owed), reached=reached_with(endpoint, owed))
    blocks = verdict.status == "dead" and endpoint.on_dead == "block"
    return Settlement(lease=lease, owed=owed, outcome=BROKEN, verdict=verdict, started_seconds_ago=0.5, blocks=blocks)


def settlement_of_late(lease: Lease, owed: Owed) -> Settlement:
    """Settle what is not sent because it comes late."""
    return Settlement(lease=lease, owed=owed, outcome=None, verdict=LATE, started_seconds_ago=0.0)
