"""How lanes share a replica: one that breaks or hangs does not cost the others their turn."""

from collections import Counter
from collections.abc import Sequence

from app.domain.delivery import Lease, Owed
from app.domain.ids import LaneId
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import ReplicaOutbox
from tests.unit.relay.receivers import Receivers
from tests.unit.relay.replica import Replica, all_ended, lanes, make_many, make_owed
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until


class BrokenLane:
    """Makes a replica's reads of one lane raise what nobody foresaw, until it is mended."""

    def __init__(self, outbox: ReplicaOutbox, lane_id: int) -> None:
        """Take the outbox to break."""
        self.reads = 0
        self.is_broken = True
        self._lane_id = lane_id
        self._fetch = outbox.fetch
        outbox.fetch = self.fetch  # type: ignore[method-assign]  # a fake outbox, broken on purpose

    async def fetch(self, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Sequence[Owed]:
        """Read, or raise."""
        if self.is_broken and lease.lane_id == self._lane_id:
            self.reads += 1
            raise RuntimeError("a bug")
        return await self._fetch(lease, limit=limit, leave_out=leave_out)


@in_virtual_time
async def test_a_lane_that_breaks_does_not_stop_the_others() -> None:
    """A bug met in one lane is that lane's trouble; when it is mended its deliveries go out, each once."""
    outbox, set_up = lanes(3)
    destination = FakeDestination()
    replica = Replica(outbox, set_up, destination)
    broken = BrokenLane(replica.outbox, 1)
    for lane_id in (1, 2, 3):
        outbox.owe(*make_many(5, lane_id))

    async with replica:
        await until(lambda: len(outbox.ended) == 10)
        still_owed = {debt.owed.lane_id for debt in outbox.debts.values()}
        broken.is_broken = False
        await all_ended(outbox)

    assert still_owed == {1}
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_a_lane_that_breaks_is_not_tried_over_and_over() -> None:
    """What broke it would break it again: it is left alone for a while."""
    outbox, set_up = lanes(1)
    replica = Replica(outbox, set_up, FakeDestination())
    broken = BrokenLane(replica.outbox, 1)
    outbox.owe(make_owed())

    async with replica:
        await pass_time(11.0)

    assert 4 <= broken.reads <= 6


@in_virtual_time
async def test_lanes_take_turns_when_a_replica_cannot_hold_them_all() -> None:
    """With room for two of five busy lanes, each is served long before any backlog is done."""
    outbox, set_up = lanes(5, max_in_flight=1)
    destination = FakeDestination(takes_seconds=0.1)
    replica = crowded(Replica(outbox, set_up, destination), max_lanes=2)
    for lane_id in range(1, 6):
        outbox.owe(*make_many(100, lane_id))

    async with replica:
        await pass_time(10.0)
        served = served_lanes(destination)

    assert set(served) == {1, 2, 3, 4, 5}
    assert min(served.values()) >= 10
    assert max(outbox.holders().values(), default=0) <= 2


@in_virtual_time
async def test_a_lane_that_hangs_keeps_one_place_only() -> None:
    """A lane asked back whose attempt hangs does not hold up the turns of the others."""
    outbox, set_up = lanes(4, max_in_flight=1)
    destination = FakeDestination(takes_seconds=0.1)
    destination.holds = lambda owed: owed.lane_id == 1
    destination.gate.clear()
    replica = crowded(Replica(outbox, set_up, destination), max_lanes=2)
    outbox.owe(make_owed(1))
    for lane_id in (2, 3, 4):
        outbox.owe(*make_many(100, lane_id))

    async with replica:
        await pass_time(12.0)
        served = served_lanes(destination)
        destination.gate.set()

    assert set(served) == {1, 2, 3, 4}
    assert min(served[LaneId(each)] for each in (2, 3, 4)) >= 10


@in_virtual_time
async def test_a_lane_that_hangs_and_gives_way_to_others_is_let_be_all_the_same() -> None:
    """Each of its turns hears of too little; together they are enough."""
    outbox, set_up = lanes(2, schedule_seconds=(3600.0,) * 9)
    receivers = Receivers(
        takes=lambda lane: 15.0 if lane == 1 else 0.1, answer=lambda lane: FAILED if lane == 1 else DELIVERED
    )
    outbox.owe(*make_many(100), *make_many(3000, lane_id=2))

    async with crowded(Replica(outbox, set_up, receivers), max_lanes=1):
        await until(lambda: outbox.calls["suspend"], within_seconds=120.0)

    assert outbox.lanes[LaneId(1)].breaker_until > 0


def crowded(replica: Replica, *, max_lanes: int) -> Replica:
    """Let a replica hold so many lanes at most."""
    replica.relay._shares._max_lanes = max_lanes
    return replica


def served_lanes(destination: FakeDestination) -> Counter[LaneId]:
    """Count the sends of each lane."""
    return Counter(owed.lane_id for batch in destination.batches for owed in batch)
