"""The outbox in memory, with the semantics of the one in the database: leases, fences, rest, settle.

One FakeOutbox is the database; `for_replica` gives what one relay sees of it. Time is the loop's.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import takewhile
from typing import Final

from app.domain.delivery import (
    AT_HAND_LIMIT,
    LONGEST_TRIAL_SECONDS,
    TRIALS_HELD,
    Fetched,
    Health,
    InOrder,
    LaneSurvey,
    Lease,
    Owed,
    Settlement,
)
from app.domain.errors import StoreRefused, StoreUnavailable
from app.domain.ids import EndpointId, LaneId, ReplicaId
from app.domain.order import family_of, place_of
from app.domain.ports import Wake
from app.domain.turns import Standing, in_turn
from tests.unit.relay.virtual_time import moment, now

FAR: Final = float("inf")
BUGS: Final = 3
# As in the database: a replica counts for so much of a lease after it was last seen.
LIVE_SHARE: Final = 0.75


@dataclass(slots=True)
class Lane:
    """A row of the lane table."""

    id: LaneId
    endpoint_id: EndpointId
    owner: ReplicaId | None = None
    fence: int = 0
    lease_until: float = 0.0
    wake_at: float = FAR
    last_served: float = 0.0
    breaker_until: float = 0.0
    health: Health = field(default_factory=Health)
    failing_since: float | None = None
    recovering_until: float = 0.0
    is_stopped: bool = False

    @property
    def is_on_trial(self) -> bool:
        """Tell whether it was suspended since it began to fail."""
        return self.failing_since is not None and self.breaker_until >= self.failing_since

    def counts_as_trial(self, at: float) -> bool:
        """Tell whether it takes one of a replica's places for lanes on trial."""
        return self.is_on_trial and (self.lease_until <= at or self.last_served > at - LONGEST_TRIAL_SECONDS)

    def is_waiting(self, at: float) -> bool:
        """Tell whether it may be leased."""
        return not self.is_stopped and max(self.lease_until, self.wake_at, self.breaker_until) <= at


@dataclass(slots=True)
class Debt:
    """A row of the outbox table."""

    owed: Owed
    due_at: float
    owed_at: float
    is_parked: bool = False

    def handed_out(self) -> Owed:
        """Give it with its age as of now."""
        return replace(self.owed, age_seconds=max(0.0, now() - self.owed_at))


@dataclass(slots=True)
class Ended:
    """A delivery that is owed no more, and how it ended."""

    owed: Owed
    status: str
    reason: str | None


@dataclass(slots=True)
class FakeOutbox:
    """What all replicas share. `away` makes every call fail, `failing` only calls of these names.

    `refuses` tells which settlements are data the database does not take. `bugs_after` makes a few calls of a name
    break, from that one on, in a way nobody foresaw.
    """

    lease_seconds: float = 10.0
    away: bool = False
    failing: set[str] = field(default_factory=set)
    latency_seconds: float = 0.001
    lanes: dict[LaneId, Lane] = field(default_factory=dict)
    debts: dict[int, Debt] = field(default_factory=dict)
    rows_of: dict[LaneId, set[int]] = field(default_factory=lambda: defaultdict(set))
    ended: dict[bytes, Ended] = field(default_factory=dict)
    seen_at: dict[ReplicaId, float] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    refuses: Callable[[Settlement], bool] = field(default=lambda _: False)
    bugs_after: dict[str, int] = field(default_factory=dict)
    settled: list[Settlement] = field(default_factory=list)
    unheld: list[Settlement] = field(default_factory=list)
    deleted_endpoints: set[EndpointId] = field(default_factory=set)
    marks: dict[tuple[LaneId, int | None, int], bytes] = field(default_factory=dict)

    def add_lane(self, lane_id: LaneId, endpoint_id: EndpointId) -> None:
        """Set a lane up, asleep."""
        self.lanes[lane_id] = Lane(id=lane_id, endpoint_id=endpoint_id)

    def owe(self, *owed: Owed, wake: Wake | None = None, window_seconds: float = 0.0) -> None:
        """Commit deliveries, due now or after a window, and wake their lanes; `wake` is the hint to who wrote them."""
        for each in owed:
            since_then = replace(each, owed_at=moment() + timedelta(seconds=window_seconds))
            self.debts[each.row_id] = Debt(
                owed=since_then, due_at=now() + window_seconds, owed_at=now() + window_seconds
            )
            self.rows_of[each.lane_id].add(each.row_id)
            lane = self.lanes[each.lane_id]
            lane.wake_at = min(lane.wake_at, now())
        if wake:
            wake(frozenset(each.lane_id for each in owed))

    def for_replica(self, name: str) -> "ReplicaOutbox":
        """Give the port as one replica's life sees it; each start of a process needs a new name."""
        return ReplicaOutbox(self, ReplicaId(name.encode()))

    def statuses(self) -> Counter[str]:
        """Count the deliveries that ended, by how."""
        return Counter(each.status for each in self.ended.values())

    def holders(self) -> Counter[ReplicaId]:
        """Count the lanes under a valid lease, by owner."""
        return Counter(lane.owner for lane in self.lanes.values() if lane.owner and lane.lease_until > now())

    @contextmanager
    def outage(self, *names: str) -> Iterator[None]:
        """Be away; with names, only for these calls."""
        self.away, self.failing = not names, set(names)
        try:
            yield
        finally:
            self.away, self.failing = False, set()

    def may_be_sent(self, lane_id: LaneId) -> list[Debt]:
        """Give what a lane owes through subscriptions that are still there, by due time."""
        if self.lanes[lane_id].endpoint_id in self.deleted_endpoints:
            return []
        rows = self.rows_of[lane_id] = {each for each in self.rows_of[lane_id] if each in self.debts}
        mine = [self.debts[each] for each in rows]
        return sorted(mine, key=lambda debt: (debt.due_at, debt.owed.row_id))

    def before(self, owed: Owed) -> Debt | None:
        """Give what comes right before a delivery that has an order key, and is still owed."""
        if owed.order_key is None:
            return None
        earlier = [
            debt
            for debt in self.debts.values()
            if (debt.owed.lane_id, debt.owed.order_key) == (owed.lane_id, owed.order_key)
            and debt.owed.row_id < owed.row_id
        ]
        return max(earlier, key=lambda debt: debt.owed.row_id, default=None)

    def line(self, lane_id: LaneId, order_key: int | None) -> list[int]:
        """Name what a lane owes of one object, as it came."""
        found = [debt.owed for debt in self.debts.values() if debt.owed.lane_id == lane_id]
        return sorted(owed.row_id for owed in found if owed.order_key == order_key)

    def park(self, row_ids: Iterable[int]) -> None:
        """Let rows that are due wait until something of their object is out of the way."""
        for row_id in row_ids:
            debt = self.debts[row_id]
            if debt.due_at <= now():
                debt.due_at, debt.is_parked = FAR, True

    def wake_behind(self, owed: Owed) -> None:
        """Make due what waited for a delivery that is out of the way."""
        if owed.order_key is None:
            return
        for row_id in self.line(owed.lane_id, owed.order_key)[:AT_HAND_LIMIT]:
            debt = self.debts[row_id]
            if debt.is_parked:
                debt.due_at, debt.is_parked = now(), False


class ReplicaOutbox:
    """The port Outbox for one replica. While `moving` is not set, its calls reach the database late."""

    def __init__(self, shared: FakeOutbox, replica: ReplicaId) -> None:
        """Take the shared state and who asks."""
        self._shared = shared
        self._replica = replica
        self.moving = asyncio.Event()
        self.moving.set()

    async def survey(self) -> LaneSurvey:
        """See the port."""
        await self._travel("survey")
        shared, at = self._shared, now()
        shared.seen_at[self._replica] = at
        lanes = shared.lanes.values()
        live = [each for each, seen in shared.seen_at.items() if seen > at - LIVE_SHARE * shared.lease_seconds]
        waiting = [each for each in lanes if each.is_waiting(at)]
        active = [each for each in lanes if each.lease_until > at or each.is_waiting(at)]
        on_trial = sum(each.counts_as_trial(at) for each in active)
        return LaneSurvey(
            waiting=len(self._may_have(waiting, at)),
            awake=frozenset(
                each.id
                for each in lanes
                if each.owner == self._replica and each.lease_until > at and each.wake_at <= at
            ),
            active=len(active) - on_trial + min(on_trial, TRIALS_HELD * len(live)),
            replicas=len(live),
            rank=sum(each < self._replica for each in live),
            suspended=sum(each.breaker_until > at for each in lanes),
        )

    async def lease(self, limit: int) -> Sequence[Lease]:
        """See the port."""
        await self._travel("lease")
        at = now()
        waiting = [each for each in self._shared.lanes.values() if each.is_waiting(at)]
        taken = self._may_have(waiting, at)[:limit]
        for lane in taken:
            lane.owner, lane.fence, lane.last_served = self._replica, lane.fence + 1, at
            lane.lease_until = at + self._shared.lease_seconds
        return [
            Lease(
                lane_id=each.id,
                endpoint_id=each.endpoint_id,
                fence=each.fence,
                health=each.health,
                failing_seconds=0.0 if each.failing_since is None else at - each.failing_since,
                is_on_trial=each.is_on_trial,
                is_recovering=each.recovering_until > at,
            )
            for each in taken
        ]

    def _may_have(self, waiting: Sequence[Lane], at: float) -> list[Lane]:
        """Give what may be leased, longest unserved first, and of lanes on trial as many as there is room for."""
        lanes = self._shared.lanes.values()
        held = sum(each.owner == self._replica and each.lease_until > at and each.counts_as_trial(at) for each in lanes)
        in_order = sorted(waiting, key=lambda each: (each.last_served, each.id))
        on_trial = [each for each in in_order if each.counts_as_trial(at)][: max(0, TRIALS_HELD - held)]
        tried_next = {each.id for each in on_trial}
        return [each for each in in_order if not each.counts_as_trial(at) or each.id in tried_next]

    async def renew(self, leases: Sequence[Lease]) -> frozenset[LaneId]:
        """See the port."""
        await self._travel("renew")
        return self._renew(leases, self._shared.lease_seconds)

    async def make_way(self, lease: Lease) -> None:
        """See the port; here nothing that was deleted is in the way."""

    async def fetch(self, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Sequence[Owed]:
        """See the port; the lease is not looked at, as in the database."""
        await self._travel("fetch")
        return self._due(lease, set(leave_out))[:limit]

    async def fetch_in_order(self, lease: Lease, *, limit: int, leave_out: Sequence[int], how: InOrder) -> Fetched:
        """See the port: one look, which parks all that waits."""
        await self._travel("fetch")
        left_out = set(leave_out)
        due = self._due(lease, left_out)
        look = self._by_turn if how.is_reordered else self._in_line
        rows = look(due[:limit], left_out, how.crowded)
        if how.with_marks:
            rows = [self._marked(owed) for owed in rows]
        return Fetched(rows=rows, is_all=len(due) < limit)

    def _due(self, lease: Lease, left_out: Container[int]) -> list[Owed]:
        return [
            debt.handed_out()
            for debt in self._shared.may_be_sent(lease.lane_id)
            if debt.due_at <= now() and debt.owed.row_id not in left_out
        ]

    def _by_turn(self, due: Sequence[Owed], at_hand: set[int], crowded: Container[int]) -> list[Owed]:
        """Choose as the database does; all that stand in line are looked through."""
        debts = self._shared.debts
        may_go = []
        for key in dict.fromkeys(owed.order_key for owed in due):
            line = self._shared.line(due[0].lane_id, key)
            turns = in_turn([self._standing(debts[each]) for each in line if each not in at_hand], are_all=True)
            chain = [each.row_id for each in takewhile(lambda each: each.is_due, turns)]
            chain = [] if key in crowded else chain[:AT_HAND_LIMIT]
            may_go += [debts[row_id].handed_out() for row_id in chain]
            self._shared.park(owed.row_id for owed in due if owed.order_key == key and owed.row_id not in chain)
        return may_go

    def _standing(self, debt: Debt) -> Standing:
        return Standing(
            row_id=debt.owed.row_id,
            place=debt.owed.place,
            is_held=debt.owed.failures > 0,
            is_due=debt.is_parked or debt.due_at <= now(),
        )

    def _marked(self, owed: Owed) -> Owed:
        place = place_of(owed.stored.event) if owed.stored else None
        if place is None:
            return owed
        return replace(owed, mark=self._shared.marks.get((owed.lane_id, owed.order_key, family_of(place))))

    def _in_line(self, due: Sequence[Owed], at_hand: set[int], crowded: Container[int]) -> list[Owed]:
        may_go: list[Owed] = []
        for owed in sorted(due, key=lambda each: each.row_id):
            before = self._shared.before(owed)
            is_next = before is None or before.owed.row_id in at_hand
            if is_next and owed.order_key not in crowded:
                at_hand.add(owed.row_id)
                may_go.append(owed)
            else:
                self._shared.park([owed.row_id])
        return may_go

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """See the port."""
        await self._travel("settle")
        if any(map(self._shared.refuses, settlements)):
            raise StoreRefused
        claims = [each.lease for each in settlements]
        held = self._renew(claims, self._shared.lease_seconds)
        for each in settlements:
            is_held = self._holds(each.lease)
            if is_held and each.health is not None:
                self._note_health(self._shared.lanes[each.lease.lane_id], each.health)
            if each.verdict.status == "delivered":
                self._end(each)
            elif not is_held:
                self._shared.unheld.append(each)
            elif each.verdict.status == "pending":
                self._postpone(each)
            else:
                self._end(each)
        return frozenset(each.lane_id for each in claims) - held

    async def rest(self, lease: Lease) -> bool:
        """See the port: in two halves, and a delivery that comes between them wakes the lane."""
        await self._travel("rest")
        if not self._holds(lease):
            return True
        lane = self._shared.lanes[lease.lane_id]
        lane.wake_at = FAR
        await self._travel("rest")
        following = next(iter(self._shared.may_be_sent(lease.lane_id)), None)
        if following is None:
            return True
        if self._holds(lease):
            lane.wake_at = min(lane.wake_at, following.due_at)
        return following.due_at > now()

    async def suspend(self, lease: Lease, *, seconds: float) -> None:
        """See the port."""
        await self._travel("suspend")
        if self._holds(lease):
            lane = self._shared.lanes[lease.lane_id]
            lane.owner, lane.lease_until, lane.wake_at = None, now(), now()
            lane.breaker_until = now() + seconds

    async def release(self, leases: Sequence[Lease]) -> None:
        """See the port."""
        await self._travel("release")
        for lease in leases:
            if self._holds(lease):
                lane = self._shared.lanes[lease.lane_id]
                lane.owner, lane.lease_until = None, now()

    async def sweep(self) -> int:
        """See the port."""
        await self._travel("sweep")
        woken = 0
        for lane in self._shared.lanes.values():
            due = self._shared.may_be_sent(lane.id)
            if due and due[0].due_at <= now() and lane.wake_at > now():
                lane.wake_at = now()
                woken += 1
        for row_id, debt in list(self._shared.debts.items()):
            if debt.owed.endpoint_id in self._shared.deleted_endpoints:
                del self._shared.debts[row_id]
                self._shared.ended[debt.owed.key] = Ended(owed=debt.owed, status="cancelled", reason=None)
        return woken

    async def retire(self) -> None:
        """See the port."""
        await self._travel("retire")
        self._shared.seen_at.pop(self._replica, None)

    async def leave(self) -> None:
        """See the port."""
        await self._travel("leave")
        for lane in self._shared.lanes.values():
            if lane.owner == self._replica:
                lane.owner, lane.lease_until = None, now()
        self._shared.seen_at.pop(self._replica, None)

    async def _travel(self, name: str) -> None:
        self._shared.calls[name] += 1
        await asyncio.sleep(self._shared.latency_seconds)
        await self.moving.wait()
        if self._shared.away or name in self._shared.failing:
            self._shared.failures[name] += 1
            raise StoreUnavailable
        first = self._shared.bugs_after.get(name)
        if first is not None and first <= self._shared.calls[name] < first + BUGS:
            raise ZeroDivisionError

    def _holds(self, lease: Lease) -> bool:
        lane = self._shared.lanes[lease.lane_id]
        return lane.owner == self._replica and lane.fence == lease.fence

    def _renew(self, leases: Sequence[Lease], seconds: float) -> frozenset[LaneId]:
        held = [each for each in leases if self._holds(each)]
        for each in held:
            self._shared.lanes[each.lane_id].lease_until = now() + seconds
        return frozenset(each.lane_id for each in held)

    def _note_health(self, lane: Lane, health: Health) -> None:
        self._shared.calls["health"] += 1
        lane.health = health
        if lane.failing_since is not None and lane.is_on_trial and not health.failures:
            lane.recovering_until = now() + 2 * (now() - lane.failing_since)
        lane.failing_since = (lane.failing_since or now()) if health.failures else None

    def _postpone(self, settlement: Settlement) -> None:
        debt = self._shared.debts.get(settlement.owed.row_id)
        if debt is None or debt.owed.tries != settlement.owed.tries:
            return
        self._shared.settled.append(settlement)
        more = int(settlement.outcome is not None)
        debt.owed = replace(debt.owed, tries=debt.owed.tries + more, failures=debt.owed.failures + more)
        debt.due_at, debt.is_parked = now() + settlement.verdict.delay_seconds, False

    def _end(self, settlement: Settlement) -> None:
        if settlement.blocks:
            self._shared.settled.append(settlement)
            blocking = self._shared.debts[settlement.owed.row_id]
            blocking.due_at, blocking.is_parked = FAR, False
            self._shared.ended[settlement.owed.key] = Ended(owed=settlement.owed, status="dead", reason="exhausted")
            return
        known = self._shared.ended.get(settlement.owed.key)
        is_raised = known is not None and known.status == "dead" and settlement.verdict.status == "delivered"
        if self._shared.debts.pop(settlement.owed.row_id, None) is None and not is_raised:
            return
        self._shared.settled.append(settlement)
        if settlement.reached is not None:
            at = (settlement.owed.lane_id, settlement.owed.order_key, family_of(settlement.reached))
            self._shared.marks[at] = max(settlement.reached, self._shared.marks.get(at, b""))
        verdict = settlement.verdict
        self._shared.ended[settlement.owed.key] = Ended(
            owed=settlement.owed, status=verdict.status, reason=verdict.reason
        )
        self._shared.wake_behind(settlement.owed)
