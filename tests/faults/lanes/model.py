"""What the lane protocol promises, without SQL: what each move may change, and what receivers may see of it."""

from collections.abc import Iterable, Sequence
from typing import Final

from app.domain.delivery import Lease, Owed, Settlement
from app.domain.event import Event
from app.domain.identity import delivery_key
from app.domain.ids import DeliveryKey, LaneId, ReplicaId, SubscriptionId
from app.domain.order import place_of
from tests.faults.lanes.ledger import Debt, ModelLane
from tests.faults.lanes.seen import Seen, SeenRow
from tests.faults.lanes.stage import TICK_SECONDS, SetUp
from tests.faults.lanes.turns import Look, heads, is_older

# From so many rows a look, what is due and may go is all in the answer; with fewer, others may stand in front.
WHOLE_LOOK: Final = 50


class Model:
    """Follows the moves; raises AssertionError where the database, or a receiver, sees something else."""

    def __init__(self, set_ups: Sequence[SetUp]) -> None:
        self.debts: dict[DeliveryKey, Debt] = {}
        self.lanes = {each.lane_id: ModelLane(terms=each.terms) for each in set_ups}
        self.lane_of = {each.subscription_id: each.lane_id for each in set_ups}
        self.deleted: set[SubscriptionId] = set()
        # Claims that were given back with nothing under way: what was accepted under them is written down.
        self.ended_well: set[tuple[LaneId, int]] = set()
        self.tick = 0
        # The newest place of each object that was accepted, and that this was written down of.
        self.accepted: dict[tuple[LaneId, int], bytes] = {}
        self.marks: dict[tuple[LaneId, int], bytes] = {}

    @property
    def living(self) -> list[SubscriptionId]:
        """Name the subscriptions that are there."""
        return [each for each in self.lane_of if each not in self.deleted]

    def holds(self, replica: ReplicaId, lease: Lease) -> bool:
        """Tell whether a claim is good: run out or not, as long as nobody took or gave up the lane since."""
        lane = self.lanes[lease.lane_id]
        return lane.owner == replica and lane.fence == lease.fence

    def record(self, events: Iterable[Event]) -> None:
        """Let new events owe a delivery to each subscription that is there."""
        for event in events:
            for wanted in self.living:
                lane_id = self.lane_of[wanted]
                terms, told = self.lanes[lane_id].terms, place_of(event)
                self.debts[delivery_key(event.id, wanted)] = Debt(
                    lane_id=lane_id,
                    subscription_id=wanted,
                    told=told,
                    place=told if terms.minds_places else None,
                    tick=self.tick,
                    wait=terms.window_seconds,
                )

    def lease(self, replica: ReplicaId, leases: Sequence[Lease], limit: int, before: Seen) -> None:
        """Check that whoever leases gets lanes that were free, each under a new fence, and as many as there are."""
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
        """End a claim that is good; a lost one changes nothing."""
        if self.holds(replica, lease):
            lane = self.lanes[lease.lane_id]
            lane.owner, lane.is_leased = None, False
            lane.suspended = max(lane.suspended, suspended) if suspended else lane.suspended
            self.ended_well.add((lease.lane_id, lease.fence))

    def settle(self, replica: ReplicaId, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """Count a success whoever reports it, the rest only under a good claim; gives the lanes that are lost."""
        held = self.renew(replica, [each.lease for each in settlements])
        # First what was accepted: of two claims of one replica, the older one may know better.
        for each in sorted(settlements, key=lambda one: one.verdict.status != "delivered"):
            if each.verdict.status == "delivered":
                self._try_in_vain(self.debts[each.owed.key], each)
                self._succeed(self.debts[each.owed.key])
                self._rise(self.marks, each.owed, each.reached)
            elif self.holds(replica, each.lease):
                self._try_in_vain(self.debts[each.owed.key], each)
                self._fail(self.debts[each.owed.key], each)
        return frozenset(each.lease.lane_id for each in settlements) - held

    def retry(self, key: DeliveryKey) -> None:
        """Owe anew what was given up, and let it be tried now. Not where nobody wants it any more."""
        debt = self.debts[key]
        if debt.subscription_id in self.deleted or debt.status not in ("pending", "dead"):
            return
        debt.wait = 0.0
        # What held up the others of its object goes before them; else those that came first do.
        debt.place = debt.place[:1] if debt.blocks and debt.place else None
        if debt.status == "dead":
            debt.failures = 0
            debt.is_old = False
            debt.status, debt.blocks = "pending", False
            debt.accepted_under.clear()

    def pass_time(self, *, keeps_leases: bool) -> None:
        """Bring everything nearer."""
        self.tick += 1
        for debt in self.debts.values():
            debt.wait -= TICK_SECONDS
        for lane in self.lanes.values():
            lane.suspended -= TICK_SECONDS
            lane.is_leased &= keeps_leases

    def absorb_sweep(self, seen: Seen) -> None:
        """Follow the sweep, which may cancel what was deleted and end what is too old, and does nothing else."""
        there = {row.key: row for row in seen.rows}
        for key, debt in self.debts.items():
            if key in there:
                if there[key].blocks and debt.status == "pending" and debt.is_old:
                    debt.status, debt.history, debt.blocks = "dead", debt.history + 1, True
                continue
            if debt.blocks and debt.subscription_id in self.deleted:
                debt.blocks = False
            elif debt.status == "pending" and debt.subscription_id in self.deleted and key not in seen.dead_letters:
                debt.status, debt.history = "cancelled", debt.history + 1
            elif debt.status == "pending" and debt.is_old:
                debt.status, debt.history = "dead", debt.history + 1
        for lane_id, lane in self.lanes.items():
            if lane_id not in seen.lanes and not lane.is_gone:
                assert lane.is_deleted, "a lane is gone whose endpoint is there"
                assert lane.deleted_at < self.tick, "a lane is gone as long as something may still be owed there"
                lane.is_gone, lane.owner, lane.is_leased = True, None, False

    def delete_endpoint(self, lane_id: LaneId) -> None:
        """Let nothing be owed to it any more, and no claim from now on send anything."""
        lane = self.lanes[lane_id]
        lane.last_fence, lane.deleted_at = lane.fence, self.tick
        self.deleted.update(each for each, its in self.lane_of.items() if its == lane_id)

    def look(self, lane_id: LaneId, leave_out: Sequence[int], seen: Seen) -> Look:
        """Say what a look at a lane may and must find at this moment."""
        rows = [row for row in seen.rows if row.lane_id == lane_id]
        fit = frozenset(row.id for row in rows if self._may_go(row) and row.id not in leave_out)
        return Look(rows=rows, leave_out=frozenset(leave_out), fit=fit, by_turn=self.lanes[lane_id].by_turn)

    def fetched(self, lane_id: LaneId, rows: Sequence[Owed], looks: Sequence[Look], limit: int) -> None:
        """Check what came of looks at a lane, some of them at what was put off in between."""
        lane = self.lanes[lane_id]
        for row in rows if lane.terms.late != "deliver" else ():
            mark = self.marks.get((lane_id, row.order_key or 0)) if self.debts[row.key].told else None
            assert row.mark == mark, "a holder was told wrongly of a mark"
        if lane.by_turn:
            self._fetched_by_turn(rows, looks, limit)
        else:
            # Looks and puttings off take turns, and the last look is what is answered. Marks are looked for after it.
            is_marked = bool(rows) and lane.terms.late != "deliver"
            steps = looks[:-1] if is_marked else looks
            self._fetched(rows, steps[-1 - (len(steps) + 1) % 2], limit, is_ordered=lane.terms.ordering != "none")

    def _fetched_by_turn(self, rows: Sequence[Owed], looks: Sequence[Look], limit: int) -> None:
        assert len({row.row_id for row in rows}) == len(rows) <= limit, "something was read twice"
        at_hand, left = set(looks[0].leave_out), list(looks)
        for row in rows:
            while left and not left[0].may_follow(row.row_id, at_hand):
                left.pop(0)
            assert left, "something was read that is not to be sent now, or before its turn"
            at_hand.add(row.row_id)
        if limit >= WHOLE_LOOK:
            following = {row.id for row in looks[0].heads(looks[0].leave_out)}
            assert following & looks[0].fit <= at_hand, "what goes next of its object was not read"

    def _fetched(self, rows: Sequence[Owed], look: Look, limit: int, *, is_ordered: bool) -> None:
        got = [row.row_id for row in rows]
        assert look.fit.issuperset(got), "something was read that is not to be sent now"
        assert len(got) == len(set(got)) <= limit, "something was read twice"
        at_hand = look.leave_out.union(got)
        for row in rows:
            before = {each.id for each in look.rows if each.order_key == row.order_key and each.id < row.row_id}
            assert row.order_key is None or before <= at_hand, "something was read before its turn"
        if not is_ordered:
            assert len(got) == min(limit, len(look.fit)), "something due was not read"
        elif limit >= WHOLE_LOOK:
            assert {row.id for row in look.heads(())} & look.fit <= set(got), "the first of its key was not read"

    def sent(self, lease: Lease, owed: Owed, seen: Seen, *, is_accepted: bool) -> None:
        """Check that a receiver sees nothing before its turn, and nothing twice without a cause."""
        last = self.lanes[owed.lane_id].last_fence
        assert last is None or lease.fence <= last, "something was sent under a claim on the lane of no endpoint"
        assert not self._overtaken(owed, seen), "a receiver saw a later event of an object before an earlier one"
        debt, claim = self.debts[owed.key], (lease.lane_id, lease.fence)
        assert claim not in debt.accepted_under, "one claim had a delivery accepted twice"
        earlier = {each for each in debt.accepted_under if each[1] < lease.fence}
        assert earlier.isdisjoint(self.ended_well), "a duplicate although the claim before ended well"
        if is_accepted:
            debt.accepted_under.append(claim)
            self._rise(self.accepted, owed, debt.told)

    def came(self, owed: Owed, *, is_late: bool, is_dropped: bool, known: bytes | None) -> None:
        """Check what a holder makes of a delivery in its turn; `known` is how far it was told its receiver has come."""
        debt, terms = self.debts[owed.key], self.lanes[owed.lane_id].terms
        accepted = self.accepted.get((owed.lane_id, owed.order_key or 0))
        assert not is_late or is_older(debt.told, accepted), "the newest that a receiver had was called late"
        is_known = is_older(debt.told, owed.mark) or is_older(debt.told, known)
        assert is_late or not is_known or terms.late == "deliver", "what was known to be late was not called so"
        assert is_dropped == (is_late and terms.late == "drop" and owed.place == debt.told), "dropped or not, wrongly"

    def _overtaken(self, owed: Owed, seen: Seen) -> list[DeliveryKey]:
        """Name what is owed that should have gone before; it may be over by now, or asked for."""
        debt, lane = self.debts[owed.key], self.lanes[owed.lane_id]
        overtaken = []
        for row in seen.rows:
            other = self.debts[row.key]
            is_of_object = row.lane_id == owed.lane_id and row.order_key == owed.order_key is not None
            if row.id == owed.row_id or not is_of_object or row.subscription_id in self.deleted:
                continue
            if row.id < owed.row_id:
                is_due_first = not (lane.by_turn and is_older(debt.told, other.told))
            else:
                is_due_first = (
                    lane.by_turn
                    and other.tick == debt.tick
                    and owed.failures == 0
                    and is_older(other.place, debt.place)
                    and not self._is_barred(row, owed)
                )
            if is_due_first:
                overtaken.append(row.key)
        return overtaken

    def _is_barred(self, row: SeenRow, owed: Owed) -> bool:
        """Tell whether something came between that cannot be compared."""
        return any(
            debt.lane_id == owed.lane_id
            and debt.order_key == owed.order_key
            and debt.row_id < row.id
            and debt.place is None
            for debt in self.debts.values()
        )

    def compare(self, seen: Seen) -> None:
        """Check that nothing is lost, that nothing is there that was never owed, and that each ending is there once."""
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
            assert (debt.order_key is None) == (self.lanes[debt.lane_id].terms.ordering == "none")
            assert debt.place == row.place
        assert seen.dropped == {key for key, debt in self.debts.items() if debt.is_late}
        assert seen.marks == self.marks
        assert seen.lanes.keys() == {lane_id for lane_id, lane in self.lanes.items() if not lane.is_gone}
        for lane_id, it in seen.lanes.items():
            lane = self.lanes[lane_id]
            assert (lane.owner, lane.fence, lane.is_leased) == (it.owner, it.fence, it.is_leased)
        self._compare_turns(seen)

    def _compare_turns(self, seen: Seen) -> None:
        """Check that whatever stands first is due as soon as its own wait is over, whatever it stood behind before."""
        first = [row for row in seen.rows if row.order_key is None]
        for lane_id, lane in self.lanes.items():
            first += heads((row for row in seen.rows if row.lane_id == lane_id), by_turn=lane.by_turn)
        for row in first:
            assert row.is_due == (not row.blocks and self.debts[row.key].wait <= 0), "not due in its turn"

    def _may_go(self, row: SeenRow) -> bool:
        debt = self.debts[row.key]
        return debt.wait <= 0 and not row.blocks and row.subscription_id not in self.deleted

    def _succeed(self, debt: Debt) -> None:
        if debt.status in ("pending", "dead"):
            debt.status, debt.blocks, debt.history = "delivered", False, debt.history + 1

    def _try_in_vain(self, debt: Debt, settlement: Settlement) -> None:
        """Keep what was tried of what was cancelled meanwhile, once."""
        if debt.status == "cancelled" and settlement.outcome is not None and settlement.owed.tries >= debt.tries:
            debt.history, debt.tries = debt.history + 1, settlement.owed.tries + 1

    def _fail(self, debt: Debt, settlement: Settlement) -> None:
        owed = settlement.owed
        is_there = debt.status == "pending" and debt.row_id == owed.row_id
        if not is_there or debt.tries != owed.tries:
            return
        tried = int(settlement.outcome is not None)
        debt.history += tried
        if settlement.verdict.status == "cancelled":
            debt.status, debt.is_late, debt.history = "cancelled", True, debt.history + 1
        elif settlement.verdict.status == "pending":
            debt.tries += tried
            debt.failures += tried
            debt.wait = settlement.verdict.delay_seconds
        else:
            debt.status, debt.blocks = "dead", settlement.blocks
            debt.tries += tried

    def _rise(self, marks: dict[tuple[LaneId, int], bytes], owed: Owed, place: bytes | None) -> None:
        if place is not None and owed.order_key is not None:
            at = (owed.lane_id, owed.order_key)
            marks[at] = max(place, marks.get(at, place))
