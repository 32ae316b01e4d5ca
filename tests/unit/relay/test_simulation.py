"""Three relays over one outbox through months of bad luck in seconds: nothing is lost, every delivery ends."""

import asyncio
import itertools
from collections import Counter
from random import Random
from typing import Final

import pytest

from app.domain.delivery import Owed
from app.domain.ids import DeliveryKey
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.replica import Replica, SetUp, all_ended, lanes, make_owed
from tests.unit.relay.virtual_time import in_virtual_time, pass_time

LANES: Final = 5
DELIVERIES: Final = 400
MAX_IN_FLIGHT: Final = 2
LEASE_SECONDS: Final = 2.0
# What one replica may have sent of one lane without its being written down: what is under way and what is queued.
AT_RISK_A_LANE: Final = 3 * MAX_IN_FLIGHT


class World:
    """The replicas that live, and all that was ever sent."""

    def __init__(self, chance: Random) -> None:
        """Take the luck."""
        self.chance = chance
        self.outbox, self.set_up = lanes(LANES, max_in_flight=MAX_IN_FLIGHT, lease_seconds=LEASE_SECONDS)
        self.owed: list[Owed] = []
        self.arrived: Counter[DeliveryKey] = Counter()
        self.disasters = 0
        self.replicas: list[Replica] = []
        self._names = itertools.count(1)

    async def start(self) -> None:
        """Start one more replica."""
        replica = new_replica(self.outbox, self.set_up, self, name=f"replica {next(self._names)}")
        await replica.__aenter__()
        self.replicas.append(replica)

    def answer(self, owed: Owed) -> Outcome:
        """Deliver most, fail some, break now and then."""
        luck = self.chance.random()
        if luck < 0.02:
            raise ZeroDivisionError
        if luck < 0.2:
            return FAILED
        self.arrived[owed.key] += 1
        return DELIVERED

    def owe(self) -> None:
        """Commit a burst; every other time its process hints at it."""
        burst = [
            make_owed(self.chance.randint(1, LANES), is_kept=self.chance.random() > 0.02)
            for _ in range(self.chance.randint(1, 20))
        ]
        self.owed += burst
        hints = self.chance.random() < 0.5
        self.outbox.owe(*burst, wake=self.chance.choice(self.replicas).relay.wake if hints else None)

    async def crash(self) -> None:
        """Kill one without a word, and start another."""
        self.disasters += 1
        victim = self.replicas.pop(self.chance.randrange(len(self.replicas)))
        await victim.crash()
        await self.start()

    async def stall(self) -> None:
        """Let one replica's calls hang past its leases, as a paused machine's or a torn network's do."""
        self.disasters += 1
        victim = self.chance.choice(self.replicas)
        victim.outbox.moving.clear()
        await pass_time(LEASE_SECONDS * 1.5)
        victim.outbox.moving.set()

    async def restart(self) -> None:
        """Stop one in order, and start another."""
        leaver = self.replicas.pop(self.chance.randrange(len(self.replicas)))
        await asyncio.gather(leaver.__aexit__(), self.start())

    async def close(self) -> None:
        """Stop all in order."""
        await asyncio.gather(*(replica.__aexit__() for replica in self.replicas))

    @property
    def duplicates(self) -> int:
        """Count the arrivals beyond the first of each."""
        return self.arrived.total() - len(self.arrived)


def new_replica(outbox: FakeOutbox, set_up: SetUp, world: World, *, name: str) -> Replica:
    """Make a replica whose sends take their time."""
    destination = FakeDestination(answer=world.answer, takes_seconds=world.chance.uniform(0.01, 0.3))
    return Replica(outbox, set_up, destination, name=name, random=world.chance.random)


def check(world: World) -> None:
    """See that every delivery ended once, in the way it should."""
    outbox = world.outbox
    assert not outbox.debts
    assert {owed.key for owed in world.owed} == set(outbox.ended)
    pruned = {owed.key for owed in world.owed if owed.stored is None}
    for key, ended in outbox.ended.items():
        expected = ("dead", "expired") if key in pruned else ("delivered", None)
        assert (ended.status, ended.reason) == expected or ended.reason == "exhausted"
    delivered = {key for key, ended in outbox.ended.items() if ended.status == "delivered"}
    assert delivered <= set(world.arrived)
    assert not outbox.holders()


@pytest.mark.parametrize("seed", range(8))
def test_disasters_lose_nothing_and_repeat_little(seed: int) -> None:
    """Through crashes, stalls past the lease and outages all ends; repeats are bounded by what was at risk."""

    @in_virtual_time
    async def story() -> None:
        world = World(Random(seed))  # noqa: S311 -- a simulation has to come out the same every time
        for _ in range(3):
            await world.start()
        while len(world.owed) < DELIVERIES:
            world.owe()
            await pass_time(world.chance.uniform(0.0, 1.0))
            match world.chance.randrange(12):
                case 0:
                    await world.crash()
                case 1:
                    await world.stall()
                case 2:
                    with world.outbox.outage(*world.chance.sample(("settle", "renew", "fetch", "survey"), 2)):
                        await pass_time(world.chance.uniform(0.0, LEASE_SECONDS / 4))
                case 3:
                    await world.restart()
        await all_ended(world.outbox, within_seconds=600.0)
        await world.close()

        check(world)
        assert world.duplicates <= world.disasters * LANES * AT_RISK_A_LANE

    story()


@pytest.mark.parametrize("seed", range(4))
def test_without_disasters_nothing_is_repeated(seed: int) -> None:
    """Failures, bugs in sends, restarts in order and lanes that change hands repeat no delivery that arrived."""

    @in_virtual_time
    async def story() -> None:
        world = World(Random(seed))  # noqa: S311 -- a simulation has to come out the same every time
        for _ in range(3):
            await world.start()
        while len(world.owed) < DELIVERIES:
            world.owe()
            await pass_time(world.chance.uniform(0.0, 1.0))
            if world.chance.randrange(6) == 0:
                await world.restart()
        await all_ended(world.outbox, within_seconds=600.0)
        await world.close()

        check(world)
        assert world.duplicates == 0

    story()
