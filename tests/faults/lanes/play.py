"""A play of the lane protocol: replicas, receivers and people move one at a time, over one real database.

Each move is checked against the model. What the store does in several transactions may stand still between two of
them, and what it answers may come late, or never.
"""

from collections.abc import Sequence

from app.domain.delivery import InOrder, Lease, Owed
from app.domain.event import Event
from app.domain.ids import EventId, LaneId
from app.domain.verdict import Verdict
from app.relay.marks import part_late
from tests.bed.stored import changed, heard, make_event
from tests.faults.lanes.board import Board, Following, UnderWay
from tests.faults.lanes.model import WHOLE_LOOK, Model
from tests.faults.lanes.people import People
from tests.faults.lanes.replica import Holding, Replica, Sent, settlement_of, settlement_of_late
from tests.faults.lanes.seen import Seen
from tests.faults.lanes.stage import TICK_SECONDS, Stage
from tests.faults.lanes.turns import Look

# An object, and what its store says of the order; None where that is nothing.
Change = tuple[int, int | None]

TO_THE_END = 100
_ROUNDS_AT_THE_END = 10


class Play:
    """One play."""

    def __init__(self, stage: Stage, seen: Seen, *, replicas: int) -> None:
        self.stage = stage
        self.model = Model(stage.set_ups)
        self.board = Board(stage, self.model, seen)
        self.people = People(stage, self.model, self.board)
        self.replicas = [Replica(stage.stored) for _ in range(replicas)]
        self.events: list[Event] = []
        self._written: set[EventId] = set()

    @property
    def seen(self) -> Seen:
        """Give what stood in the database when it was last looked at."""
        return self.board.seen

    @property
    def under_way(self) -> list[UnderWay]:
        """Give what the store is doing."""
        return self.board.under_way

    @property
    def holdings(self) -> list[tuple[Replica, Holding]]:
        """Give every lane somebody believes to hold, or has something of under way."""
        return [(replica, each) for replica in self.replicas for each in replica.holdings]

    async def go_on(self, going: UnderWay, steps: int) -> None:
        """Let something run so many transactions further; its answer counts as one."""
        await self.board.go_on(going, steps)

    async def abandon(self, going: UnderWay) -> None:
        """Cut something off: nobody learns what became of it."""
        await self.board.abandon(going)

    async def record(self, changes: Sequence[Change], *, again: int, steps: int) -> None:
        """Let new events be heard, with some that were heard before."""
        fresh = [_event(len(self.events) + number, *each) for number, each in enumerate(changes)]
        said = [*self.events[len(self.events) - again :], *fresh]
        self.events += fresh
        await self.board.start(
            ("record", object()),
            self.stage.stored.store.record([heard(*said)]),
            Following(
                begun=lambda: self._recorded(said),
            ),
            steps=steps,
        )

    async def lease(self, replica: Replica, limit: int, *, steps: int) -> None:
        """Let a replica ask for lanes."""
        await self.board.start(
            ("lease", replica),
            replica.outbox.lease(limit),
            Following(
                done=lambda leases, before: self.model.lease(replica.id, leases, limit, before),
                answered=lambda leases: replica.take_over(leases, orders=self._orders),
            ),
            actor=replica,
            steps=steps,
        )

    async def renew(self, replica: Replica, *, steps: int) -> None:
        """Let a replica prolong what it holds."""
        leases = [each.lease for each in replica.holdings if not each.is_lost]
        held: list[frozenset[LaneId]] = []
        await self.board.start(
            ("renew", replica),
            replica.outbox.renew(leases),
            Following(
                begun=lambda: held.append(self.model.renew(replica.id, leases)),
                done=lambda answer, _: _expect(held[0], answer),
                answered=lambda answer: self._renewed(replica, leases, answer),
            ),
            actor=replica,
            steps=steps,
        )

    async def read(self, replica: Replica, holding: Holding, limit: int, *, steps: int) -> None:
        """Let a holder read what its lane owes."""
        if holding.is_lost or holding.turn:
            return
        holding.turn = "read"
        holding.window.begin_look()
        lease, leave_out = holding.lease, holding.window.row_ids
        looks: list[Look] = []
        await self.board.start(
            ("turn", lease),
            replica.fetch(holding, limit=limit),
            Following(
                stepped=lambda seen: looks.append(self.model.look(lease.lane_id, leave_out, seen)),
                done=lambda rows, _: self.model.fetched(lease.lane_id, rows, looks, limit),
                answered=lambda rows: self._has_read(holding, rows),
                dropped=lambda: self._has_read(holding, ()),
            ),
            actor=replica,
            steps=steps,
        )

    async def rest(self, replica: Replica, holding: Holding, *, steps: int) -> None:
        """Let a holder with nothing in memory say so."""
        holding.turn = "rest"
        await self.board.start(
            ("turn", holding.lease),
            replica.outbox.rest(holding.lease),
            Following(
                answered=lambda _: self._has_read(holding, ()),
                dropped=lambda: self._has_read(holding, ()),
            ),
            actor=replica,
            steps=steps,
        )

    def send(self, holding: Holding, verdicts: Sequence[Verdict | None]) -> None:
        """Let a holder send what goes next; a verdict for what a receiver refuses, None for what it accepts."""
        endpoint = self.stage.endpoints[holding.lease.lane_id]
        for owed, verdict in zip(holding.window.take(len(verdicts)), verdicts, strict=False):
            to_send, unwanted = part_late(endpoint, [owed], is_late=holding.window.is_late)
            is_late = bool(unwanted) or to_send[0].is_late
            known = holding.reached.get(owed.order_key)
            self.model.came(owed, is_late=is_late, is_dropped=bool(unwanted), known=known)
            if unwanted:
                settlement = settlement_of_late(holding.lease, owed)
            else:
                self.model.sent(holding.lease, owed, self.seen, is_accepted=verdict is None)
                settlement = settlement_of(holding.lease, endpoint, owed, verdict)
            holding.sent.append(Sent(owed=owed, settlement=settlement))

    async def settle(self, replica: Replica, *, most: int, steps: int) -> None:
        """Let a replica write down what it sent, oldest first."""
        batch = [(holding, each) for holding in replica.holdings for each in holding.sent][:most]
        settlements = [each.settlement for _, each in batch]
        lost: list[frozenset[LaneId]] = []
        await self.board.start(
            ("settle", replica),
            replica.outbox.settle(settlements),
            Following(
                begun=lambda: lost.append(self.model.settle(replica.id, settlements)),
                done=lambda answer, _: _expect(lost[0], answer),
                answered=lambda answer: self._settled(batch, answer),
            ),
            actor=replica,
            steps=steps,
        )

    async def give_back(self, replica: Replica, holding: Holding, *, suspended: float, steps: int) -> None:
        """Let a holder that has nothing under way give its lane back, for a while to nobody."""
        lease, outbox = holding.lease, replica.outbox
        replica.holdings.remove(holding)
        work = outbox.suspend(lease, seconds=suspended) if suspended else outbox.release([lease])
        await self.board.start(
            ("give back", lease),
            work,
            Following(
                begun=lambda: self.model.give_back(replica.id, lease, suspended=suspended),
            ),
            actor=replica,
            steps=steps,
        )

    async def sweep(self, replica: Replica, *, steps: int) -> None:
        """Let a replica sweep, beside one that has been at it for too long."""
        await self.stage.free_chores()
        await self.board.start(
            ("sweep", replica),
            replica.outbox.sweep(),
            Following(
                stepped=self.model.absorb_sweep,
            ),
            actor=replica,
            steps=steps,
        )

    async def sweep_undisturbed(self, replica: Replica) -> None:
        """Let one sweep follow another, undisturbed: then no lane sleeps over something due."""
        if any(isinstance(each.what, tuple) and each.what[0] == "sweep" for each in self.under_way):
            return
        await self.sweep(replica, steps=TO_THE_END)
        await self.sweep(replica, steps=TO_THE_END)
        assert not self.seen.sleeping_over_due, "a lane sleeps over something due after a sweep"

    async def crash(self, replica: Replica) -> None:
        """Let a replica end without a word."""
        for going in [each for each in self.under_way if each.actor is replica]:
            await self.abandon(going)
        replica.crash()

    async def pass_time(self, *, keeps_leases: bool) -> None:
        """Let time pass: all leases run out, or none, as when their holders prolonged them."""
        self.model.pass_time(keeps_leases=keeps_leases)
        await self.stage.pass_time(TICK_SECONDS, keeps_leases=keeps_leases)
        await self.board.look()

    async def take_over(self, lane_id: LaneId, other: Replica, *, served: int) -> None:
        """Let a lease run out, and another replica take what is to be had, read and send so many times."""
        self.model.lanes[lane_id].is_leased = False
        await self.stage.run_out(lane_id)
        await self.board.look()
        await self.lease(other, len(self.model.lanes), steps=TO_THE_END)
        for holding in [each for each in other.holdings if each.lease.lane_id == lane_id]:
            for _ in range(served):
                await self.read(other, holding, WHOLE_LOOK, steps=TO_THE_END)
                self.send(holding, [None])
            if holding.sent:
                await self.settle(other, most=TO_THE_END, steps=TO_THE_END)

    async def serve(self, replica: Replica, verdicts: Sequence[Verdict | None]) -> bool:
        """Let a replica work as it does when nothing is in its way; False when there was nothing to send."""
        has_sent = await self.send_all(replica, verdicts)
        await self.settle(replica, most=TO_THE_END, steps=TO_THE_END)
        return has_sent

    async def send_all(self, replica: Replica, verdicts: Sequence[Verdict | None]) -> bool:
        """Let a replica lease, read and send on every lane; False when it has nothing to write down then."""
        await self.lease(replica, len(self.model.lanes), steps=TO_THE_END)
        for holding in list(replica.holdings):
            await self.read(replica, holding, WHOLE_LOOK, steps=TO_THE_END)
            self.send(holding, verdicts)
        return any(each.sent for each in replica.holdings)

    async def end(self) -> None:
        """Let the replicas be replaced by one that nothing befalls: all that is owed comes to an end."""
        for replica in self.replicas:
            await self.crash(replica)
        for going in list(self.under_way):
            await self.abandon(going)
        for set_up in self.stage.set_ups:
            if self.model.lanes[set_up.lane_id].is_stopped:
                await self.people.stop_or_start(set_up)
        last = self.replicas[0]
        for _ in range(_ROUNDS_AT_THE_END):
            if not self.seen.rows:
                return
            await self.pass_time(keeps_leases=False)
            await self.sweep(last, steps=TO_THE_END)
            for key in [row.key for row in self.seen.rows if row.blocks]:
                await self.people.retry(key)
            while await self.serve(last, [None] * WHOLE_LOOK):
                pass
        raise AssertionError(f"{len(self.seen.rows)} deliveries never come to an end")

    async def close(self) -> None:
        """Leave nothing running."""
        for going in list(self.under_way):
            await self.abandon(going)

    def _recorded(self, said: Sequence[Event]) -> None:
        new = [each for each in said if each.id not in self._written]
        self._written.update(each.id for each in new)
        self.model.record(new)

    def _renewed(self, replica: Replica, leases: Sequence[Lease], held: frozenset[LaneId]) -> None:
        for each in replica.holdings:
            if each.lease in leases and each.lease.lane_id not in held:
                each.lose()

    def _has_read(self, holding: Holding, rows: Sequence[Owed]) -> None:
        holding.turn = None
        if self.model.lanes[holding.lease.lane_id].is_deleted:
            holding.window.forget_queue()
        elif not holding.is_lost:
            holding.take_in(rows, self.model.living)

    def _settled(self, batch: Sequence[tuple[Holding, Sent]], lost: frozenset[LaneId]) -> None:
        for holding, sent in batch:
            holding.settled(sent, is_kept=holding.lease.lane_id not in lost)

    @property
    def _orders(self) -> dict[LaneId, InOrder]:
        orders = {lane_id: lane.in_order for lane_id, lane in self.model.lanes.items()}
        return {lane_id: each for lane_id, each in orders.items() if each is not None}


def _event(number: int, object_: int, sequence: int | None) -> Event:
    sequencer = None if sequence is None else f"{sequence:018X}"
    return changed(make_event(number, key=f"object-{object_}".encode()), sequencer=sequencer)


def _expect(expected: frozenset[LaneId], answer: frozenset[LaneId]) -> None:
    assert expected == answer, "a replica was told wrongly which of its claims are good"
