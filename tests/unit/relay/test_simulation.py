"""Three replicas that crash, stall beyond their leases and lose the database at random: nothing is lost."""

import asyncio
import random
from collections import Counter

import pytest

from app.domain.delivery import Owed
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.replica import Replica, SetUp, all_ended, lanes, make_owed
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time

LANES = 9
DELIVERIES = 1500
REPLICAS = 3
LEASE_SECONDS = 2.0
TROUBLE_SECONDS = 40.0


class World:
    """The replicas' lives, and chance."""

    def __init__(self, seed: int) -> None:
        """Set up the lanes; every choice comes from the seed."""
        self.chance = random.Random(seed)  # noqa: S311 -- a simulation, to be repeated
        self.outbox: FakeOutbox
        self.set_up: SetUp
        self.outbox, self.set_up = lanes(
            LANES, max_in_flight=4, lease_seconds=LEASE_SECONDS, schedule_seconds=(0.5,) * 30
        )
        self.destination = FakeDestination(batch_limit=2, answer=self.answer, takes_seconds=0.15)
        self.owed: list[Owed] = []
        self.crashes = 0
        self.stalls = 0
        self._lives = 0

    def answer(self, _owed: Owed) -> Outcome:
        """Fail one try in ten."""
        return FAILED if self.chance.random() < 0.1 else DELIVERED

    async def ingest(self) -> None:
        """Owe deliveries in small groups; one in three is not announced."""
        while len(self.owed) < DELIVERIES:
            group = [make_owed(self.chance.randint(1, LANES)) for _ in range(self.chance.randint(1, 30))]
            self.owed += group
            self.outbox.owe(*group)
            await asyncio.sleep(self.chance.uniform(0.0, 2 * TROUBLE_SECONDS * 15 / DELIVERIES))

    async def live(self) -> None:
        """Run one replica after another; each life ends by a crash and sees stalls and outages."""
        while now() < 1000.0 + TROUBLE_SECONDS:
            async with self.born() as replica:
                for _ in range(self.chance.randint(0, 3)):
                    await pass_time(self.chance.uniform(0.2, 4.0))
                    await self.stall(replica)
                await pass_time(self.chance.uniform(0.2, 4.0))
                self.crashes += 1
                await replica.crash()

    async def stall(self, replica: Replica) -> None:
        """Let nothing that a replica asks reach the database, often for longer than its leases hold."""
        self.stalls += 1
        replica.outbox.moving.clear()
        await pass_time(self.chance.uniform(0.1, 2 * LEASE_SECONDS))
        replica.outbox.moving.set()

    async def blink(self) -> None:
        """Take the database away for a moment, now and then."""
        while now() < 1000.0 + TROUBLE_SECONDS:
            await pass_time(self.chance.uniform(1.0, 8.0))
            with self.outbox.outage():
                await pass_time(self.chance.uniform(0.05, 1.5))

    def born(self) -> Replica:
        """Start a new life with a name of its own."""
        self._lives += 1
        return Replica(
            self.outbox, self.set_up, self.destination, name=f"life {self._lives}", random=self.chance.random
        )


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_and_all_of_it_ends(seed: int) -> None:
    """Every delivery ends once, as delivered; repeated sends are no more than crashes and stalls explain."""
    simulate(seed)


@in_virtual_time
async def simulate(seed: int) -> None:
    """Make trouble, then let the survivors finish."""
    world = World(seed)

    async with asyncio.TaskGroup() as group:
        for _ in range(REPLICAS):
            group.create_task(world.live())
        group.create_task(world.ingest())
        group.create_task(world.blink())
    async with world.born(), world.born():
        await all_ended(world.outbox)

    assert {owed.key for owed in world.owed} == world.outbox.ended.keys()
    assert world.outbox.statuses() == {"delivered": len(world.owed)}
    assert tries_are_numbered(world)
    in_flight_at_most = LANES * 4 * world.destination.batch_limit
    assert repeated(world) <= (world.crashes + world.stalls) * in_flight_at_most / 4


def tries_are_numbered(world: World) -> bool:
    """Tell whether the tries written down of each delivery count 0, 1, 2 … without a gap, up to the success."""
    tries: dict[bytes, list[int]] = {}
    for settlement in world.outbox.settled:
        tries.setdefault(settlement.owed.key, []).append(settlement.owed.tries)
    # A late success of an earlier claim may carry an older number; failures never do.
    return all(numbers[:-1] == list(range(len(numbers) - 1)) for numbers in tries.values())


def repeated(world: World) -> int:
    """Count the sends beyond those that the tries written down explain."""
    written = Counter(settlement.owed.key for settlement in world.outbox.settled)
    return sum(max(0, world.destination.started[owed.key] - written[owed.key]) for owed in world.owed)
