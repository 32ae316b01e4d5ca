"""What the lane protocol promises, without SQL: what each move may change, and what receivers may see of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from app.domain.delivery import Lease, Owed, Settlement
from app.domain.ids import DeliveryKey, LaneId, ReplicaId, SubscriptionId
from tests.faults.lanes.stage import Seen, SeenRow, SetUp

Status = Literal["pending", "delivered", "dead", "cancelled"]
# From so many rows a look, what is due and may go is all in the answer; with fewer, others may stand in front.
WHOLE_LOOK: Final = 50


@dataclass(slots=True, kw_only=True)
class Debt:
    """A delivery, as it should be. `wait` is how long it may not be tried."""

    lane_id: LaneId
    subscription_id: SubscriptionId
    row_id: int = 0
    order_key: int | None = None
    status: Status = "pending"
    tries: int = 0
    failures: int = 0
    history: int = 0
    blocks: bool = False
    is_old: bool = False
    wait: float = 0.0
    accepted_under: list[tuple[LaneId, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ModelLane:
    """A lane, as it should be."""

    is_ordered: bool
    owner: ReplicaId | None = None
    fence: int = 0
    is_leased: bool = False
    is_stopped: bool = False
    suspended: float = 0.0

    @property
    def is_free(self) -> bool:
        """Whether anybody may lease it, if it is awake."""
        return not self.is_leased and not self.is_stopped and self.suspended <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A lane at the moment it was looked at: its rows, those its reader has in memory, those that could be sent."""

    rows: Sequence[SeenRow]
    leave_out: frozenset[int]
    fit: frozenset[int]
    is_ordered: bool


class Model:
    """Follows the moves; raises AssertionError where the database, or a receiver, sees something else."""

    def __init__(self, set_ups: Sequence[SetUp]) -> None:
        self.debts: dict[DeliveryKey, Debt] = {}
        self.lanes = {each.lane_id: ModelLane(is_ordered=each.ordering != "none") for each in set_ups}
        self.lane_of = {each.subscription_id: each.lane_id for each in set_ups}
        self.deleted: set[SubscriptionId] = set()
        # Claims that were given back with nothing under way: what was accepted under them is written down.
        self.ended_well: set[tuple[LaneId, int]] = set()

    @property
    def living(self) -> list[SubscriptionId]:
        """Name the subscriptions that are there."""
        return [each for each in self.lane_of if each not in self.deleted]

    def holds(self, replica: ReplicaId, lease: Lease) -> bool:
        """Tell whether a claim is good: run out or not, as long as nobody took or gave up the lane since."""
        lane = self.lanes[lease.lane_id]
        return lane.owner == replica and lane.fence == lease.fence

    def record(self, owed: Iterable[tuple[DeliveryKey, SubscriptionId]]) -> None:
        """New events owe a delivery to each subscription that is there."""
        for key, subscription_id in owed:
            self.debts[key] = Debt(lane_id=self.lane_of[subscription_id], subscription_id=subscription_id)

    def lease(self, replica: ReplicaId, leases: Sequence[Lease], limit: int, before: Seen) -> None:
        """Whoever leases gets lanes that were free, each under a new fence, and as many as there are."""
        waiting = {each for each, lane in self.lanes.items() if lane.is_free and before.lanes[each].is_awake}
        got = {each.lane_id for each in leases}
        assert got <= waiting, "a lane was leased that was not to be had"
        assert len(leases) == len(got) == min(limit, len(waiting)), "a waiting lane was passed over"
        for each in leases:
            lane = self.lanes[each.lane_id]
            assert each.fence == lane.fence + 1, "a claim without a fence of its own"
            lane.owner, lane.fence, lane.is_leased = replica, each.fence, True

    def renew(self, replica: ReplicaId, leases: Iterable[Lease]) -> frozenset[LaneId]:
        """Give the lanes of claims that are good; what belongs to the replica is prolonged."""
        for each in leases:
            lane = self.lanes[each.lane_id]
            lane.is_leased |= lane.owner == replica
        return frozenset(each.lane_id for each in leases if self.holds(replica, each))

    def give_back(self, replica: ReplicaId, lease: Lease, *, suspended: float = 0.0) -> None:
        """A claim that is good ends; a lost one changes nothing."""
        if self.holds(replica, lease):
            lane = self.lanes[lease.lane_id]
            lane.owner, lane.is_leased = None, False
            lane.suspended = max(lane.suspended, suspended) if suspended else lane.suspended
            self.ended_well.add((lease.lane_id, lease.fence))

    def settle(self, replica: ReplicaId, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """A success counts whoever reports it, the rest only under a good claim; gives the lanes that are lost."""
        held = self.renew(replica, [each.lease for each in settlements])
        # First what was accepted: of two claims of one replica, the older one may know better.
        for each in sorted(settlements, key=lambda one: one.verdict.status != "delivered"):
            if each.verdict.status == "delivered":
                self._succeed(self.debts[each.owed.key])
            elif self.holds(replica, each.lease):
                self._fail(self.debts[each.owed.key], each)
        return frozenset(each.lease.lane_id for each in settlements) - held

    def retry(self, key: DeliveryKey) -> None:
        """A person has a delivery tried now; what was given up is owed anew. Not where nobody wants it any more."""
        debt = self.debts[key]
        if debt.subscription_id in self.deleted or debt.status not in ("pending", "dead"):
            return
        debt.wait = 0.0
        if debt.status == "dead":
            debt.failures = 0
            debt.is_old = False
            debt.status, debt.blocks = "pending", False
            debt.accepted_under.clear()

    def pass_time(self, seconds: float, *, keeps_leases: bool) -> None:
        """Everything comes nearer."""
        for debt in self.debts.values():
            debt.wait -= seconds
        for lane in self.lanes.values():
            lane.suspended -= seconds
            lane.is_leased &= keeps_leases

    def absorb_sweep(self, seen: Seen) -> None:
        """The sweep may cancel what was deleted and end what is too old; what else it does shows in the comparison."""
        there = {row.key: row for row in seen.rows}
        for key, debt in self.debts.items():
            if key in there:
                continue
            if debt.blocks and debt.subscription_id in self.deleted:
                debt.blocks = False
            elif debt.status == "pending" and debt.subscription_id in self.deleted and key not in seen.dead_letters:
                debt.status, debt.history = "cancelled", debt.history + 1
            elif debt.status == "pending" and debt.is_old:
                debt.status, debt.history = "dead", debt.history + 1

    def look(self, lane_id: LaneId, leave_out: Sequence[int], seen: Seen) -> Look:
        """Say what a look at a lane may and must find at this moment."""
        rows = [row for row in seen.rows if row.lane_id == lane_id]
        fit = frozenset(row.id for row in rows if self._may_go(row) and row.id not in leave_out)
        is_ordered = self.lanes[lane_id].is_ordered
        return Look(rows=rows, leave_out=frozenset(leave_out), fit=fit, is_ordered=is_ordered)

    def fetched(self, rows: Sequence[Owed], look: Look, limit: int) -> None:
        """What is read is due, wanted, new to the reader, and nothing before its turn; and it is all there is."""
        got = [row.row_id for row in rows]
        assert look.fit.issuperset(got), "something was read that is not to be sent now"
        assert len(got) == len(set(got)) <= limit, "something was read twice"
        at_hand = look.leave_out.union(got)
        for row in rows:
            before = {each.id for each in look.rows if each.order_key == row.order_key and each.id < row.row_id}
            assert row.order_key is None or before <= at_hand, "something was read before its turn"
        if not look.is_ordered:
            assert len(got) == min(limit, len(look.fit)), "something due was not read"
        elif limit >= WHOLE_LOOK:
            assert {row.id for row in _heads(look.rows)} & look.fit <= set(got), "the first of its key was not read"

    def sent(self, lease: Lease, owed: Owed, seen: Seen, *, is_accepted: bool) -> None:
        """A receiver sees nothing before what comes before it is over, and nothing twice without a cause."""
        if owed.order_key is not None:
            overtaken = [
                row.id
                for row in seen.rows
                if row.lane_id == owed.lane_id
                and row.order_key == owed.order_key
                and row.id < owed.row_id
                and row.subscription_id not in self.deleted
            ]
            assert not overtaken, "a receiver saw a later event of an object before an earlier one was over"
        debt, claim = self.debts[owed.key], (lease.lane_id, lease.fence)
        assert claim not in debt.accepted_under, "one claim had a delivery accepted twice"
        earlier = {each for each in debt.accepted_under if each[1] < lease.fence}
        assert earlier.isdisjoint(self.ended_well), "a duplicate although the claim before ended well"
        if is_accepted:
            debt.accepted_under.append(claim)

    def compare(self, seen: Seen) -> None:
        """Nothing is lost and nothing is there that was never owed; each ending stands in the history once."""
        there = {row.key: row for row in seen.rows}
        assert len(there) == len(seen.rows), "a delivery is owed twice"
        assert there.keys() == {key for key, debt in self.debts.items() if debt.status == "pending" or debt.blocks}
        assert seen.dead_letters == {key for key, debt in self.debts.items() if debt.status == "dead"}
        ends = {key: (debt.status,) for key, debt in self.debts.items() if debt.status != "pending"}
        assert ends == seen.endings, "not one visible end for each delivery that is over"
        assert {key: debt.history for key, debt in self.debts.items() if debt.history} == seen.history
        for key, row in there.items():
            debt = self.debts[key]
            expected = (debt.tries, debt.failures, debt.blocks, debt.lane_id)
            assert expected == (row.tries, row.failures, row.blocks, row.lane_id)
            debt.row_id, debt.order_key = row.id, row.order_key
            assert debt.order_key is not None or not self.lanes[debt.lane_id].is_ordered
        for lane_id, lane in self.lanes.items():
            it = seen.lanes[lane_id]
            assert (lane.owner, lane.fence, lane.is_leased) == (it.owner, it.fence, it.is_leased)
        self._compare_turns(seen)

    def _compare_turns(self, seen: Seen) -> None:
        """Whatever stands first is due as soon as its own wait is over, whatever it stood behind before."""
        alone = [row for row in seen.rows if row.order_key is None]
        for row in [*alone, *_heads(seen.rows)]:
            assert row.is_due == (not row.blocks and self.debts[row.key].wait <= 0), "not due in its turn"

    def _may_go(self, row: SeenRow) -> bool:
        debt = self.debts[row.key]
        return debt.wait <= 0 and not row.blocks and row.subscription_id not in self.deleted

    def _succeed(self, debt: Debt) -> None:
        if debt.status in ("pending", "dead"):
            debt.status, debt.blocks, debt.history = "delivered", False, debt.history + 1

    def _fail(self, debt: Debt, settlement: Settlement) -> None:
        owed = settlement.owed
        is_there = debt.status == "pending" and debt.row_id == owed.row_id
        if not is_there or debt.tries != owed.tries:
            return
        tried = int(settlement.outcome is not None)
        debt.history += tried
        if settlement.verdict.status == "pending":
            debt.tries += tried
            debt.failures += tried
            debt.wait = settlement.verdict.delay_seconds
        else:
            debt.status, debt.blocks = "dead", settlement.blocks
            debt.tries += tried


def _heads(rows: Iterable[SeenRow]) -> list[SeenRow]:
    first: dict[tuple[LaneId, int], SeenRow] = {}
    for row in rows:
        if row.order_key is not None:
            first.setdefault((row.lane_id, row.order_key), row)
    return list(first.values())
