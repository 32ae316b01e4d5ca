"""Ordered lanes: no delivery is sent before everything of its key that came earlier is over, whatever happens."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Final

import pytest

from app.domain.configuration import OnDead, Ordering
from app.domain.delivery import Fetched, InOrder, Lease, Owed
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox
from tests.unit.relay.replica import Replica, SetUp, all_ended, make_endpoint, make_owed
from tests.unit.relay.virtual_time import in_virtual_time, pass_time, until

KEYS: Final = 6
DELIVERIES: Final = 300
LEASE_SECONDS: Final = 2.0


def ordered(ordering: Ordering = "key", *, on_dead: OnDead = "skip") -> tuple[FakeOutbox, SetUp]:
    """Set up one ordered lane."""
    outbox = FakeOutbox(lease_seconds=LEASE_SECONDS)
    endpoint = make_endpoint(1, max_in_flight=4, ordering=ordering, on_dead=on_dead)
    return outbox, SetUp(outbox, [endpoint])


class Watcher:
    """Answers with some luck, and notes every send that came before its turn."""

    def __init__(self, outbox: FakeOutbox, chance: Random, *, failing: float) -> None:
        """Take what is owed, to look at when something is sent."""
        self.outbox = outbox
        self.chance = chance
        self.failing = failing
        self.too_early: list[int] = []
        self.at_once: Counter[int | None] = Counter()

    def answer(self, owed: Owed) -> Outcome:
        """Look whether it is its turn; most are delivered."""
        if self.outbox.before(owed) is not None:
            self.too_early.append(owed.row_id)
        return FAILED if self.chance.random() < self.failing else DELIVERED


@pytest.mark.parametrize("ordering", ["key", "endpoint"])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_overtakes_through_failures_crashes_and_restarts(seed: int, ordering: Ordering) -> None:
    """One in four attempts fails, replicas come, go and are killed: each delivery is sent in its turn, and all end."""

    @in_virtual_time
    async def story() -> None:
        chance = Random(seed)  # noqa: S311 -- a simulation has to come out the same every time
        outbox, set_up = ordered(ordering)
        watcher = Watcher(outbox, chance, failing=0.25)
        names = itertools.count(1)

        async def start() -> Replica:
            destination = FakeDestination(answer=watcher.answer, takes_seconds=chance.uniform(0.01, 0.2))
            replica = Replica(outbox, set_up, destination, name=f"replica {next(names)}")
            await replica.__aenter__()
            return replica

        replicas = [await start(), await start()]
        owed = 0
        while owed < DELIVERIES:
            burst = chance.randint(1, 15)
            keys = [chance.randrange(KEYS) if ordering == "key" else 0 for _ in range(burst)]
            outbox.owe(*(make_owed(order_key=key) for key in keys))
            owed += burst
            await pass_time(chance.uniform(0.0, 1.0))
            if chance.randrange(8) == 0:
                await replicas.pop(0).crash()
                replicas.append(await start())
            elif chance.randrange(8) == 0:
                await replicas.pop(0).__aexit__()
                replicas.append(await start())
        await all_ended(outbox, within_seconds=3_000.0)
        for replica in replicas:
            await replica.__aexit__()

        assert watcher.too_early == []
        assert len(outbox.ended) == owed

    story()


@in_virtual_time
async def test_a_failing_object_holds_back_only_its_own() -> None:
    """The others of the lane go out at once, those behind it wait until it is over, and then go in their order."""
    outbox, set_up = ordered()
    ill, well = [make_owed(order_key=1) for _ in range(5)], [make_owed(order_key=2) for _ in range(50)]
    is_ill = True
    destination = FakeDestination(answer=lambda owed: FAILED if is_ill and owed.order_key == 1 else DELIVERED)
    outbox.owe(*ill, *well)
    async with Replica(outbox, set_up, destination):
        await pass_time(3.0)
        ended_meanwhile = {ended.owed.row_id for ended in outbox.ended.values()}
        tried_meanwhile = {owed.row_id for batch in destination.batches for owed in batch if owed.order_key == 1}
        is_ill = False
        await all_ended(outbox)

    assert ended_meanwhile == {owed.row_id for owed in well}
    assert tried_meanwhile == {ill[0].row_id}
    sent = [owed.row_id for batch in destination.batches for owed in batch if owed.order_key == 1]
    assert list(dict.fromkeys(sent)) == [owed.row_id for owed in ill]


@in_virtual_time
async def test_an_object_with_thousands_owed_keeps_none_of_the_others_waiting() -> None:
    """They go out beside it at once, though all of it was owed before, and it goes on without a pause."""
    outbox, set_up = ordered()
    hot, others = [make_owed(order_key=1) for _ in range(2_000)], [make_owed(order_key=2 + each) for each in range(20)]
    destination = FakeDestination(takes_seconds=0.1)
    outbox.owe(*hot, *others)

    async with Replica(outbox, set_up, destination):
        await until(lambda: all(each.key in outbox.ended for each in others), within_seconds=3.0)
        await pass_time(60.0)
        hot_ended = len(outbox.ended) - len(others)

    assert hot_ended > 500
    sent = [owed.row_id for batch in destination.batches for owed in batch if owed.order_key == 1]
    assert sent == [owed.row_id for owed in hot[: len(sent)]]


@in_virtual_time
async def test_a_look_that_only_parked_is_followed_by_the_next_at_once() -> None:
    """It came further: no pause as after a look in vain, however many it takes."""
    outbox, set_up = ordered()
    destination = FakeDestination()
    replica = Replica(outbox, set_up, destination)
    fetch = replica.outbox.fetch_in_order
    looks = 0

    async def park_first(lease: Lease, *, limit: int, leave_out: Sequence[int], how: InOrder) -> Fetched:
        nonlocal looks
        looks += 1
        if looks <= 100:
            await asyncio.sleep(0.001)
            return Fetched(rows=(), is_all=False)
        return await fetch(lease, limit=limit, leave_out=leave_out, how=how)

    replica.outbox.fetch_in_order = park_first  # type: ignore[method-assign]  # as after a failure before a long queue
    outbox.owe(make_owed(order_key=1))

    async with replica:
        await until(lambda: outbox.ended, within_seconds=1.5)

    assert looks > 100


@in_virtual_time
async def test_one_whose_event_is_gone_ends_in_its_turn() -> None:
    """Those behind it go one after the other, as behind any other."""
    outbox, set_up = ordered()
    destination = FakeDestination(takes_seconds=0.1)
    gone = make_owed(order_key=1, is_kept=False)
    outbox.owe(gone, *(make_owed(order_key=1) for _ in range(3)), make_owed(order_key=1, is_kept=False))

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert outbox.statuses() == {"dead": 2, "delivered": 3}
    assert (outbox.ended[gone.key].status, outbox.ended[gone.key].reason) == ("dead", "expired")
    assert destination.most_in_flight == 1


@pytest.mark.parametrize(("ordering", "under_way"), [("key", 0), ("endpoint", 0), ("none", 1)])
@in_virtual_time
async def test_in_order_a_send_does_not_outlive_its_lease(ordering: Ordering, under_way: int) -> None:
    """Whoever has the lane next sends on: what arrives then from this one would come after what comes later."""
    outbox, set_up = ordered(ordering)
    destination = FakeDestination(takes_seconds=30.0)
    owed = make_owed(order_key=None if ordering == "none" else 1)
    outbox.owe(owed)

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.in_flight)
        await pass_time(3 * LEASE_SECONDS)
        while_renewed = destination.in_flight
        with outbox.outage():
            await pass_time(LEASE_SECONDS)
            while_lost = destination.in_flight
        destination.takes_seconds = 0.1
        await all_ended(outbox)

    assert (while_renewed, while_lost) == (1, under_way)
    assert outbox.ended[owed.key].status == "delivered"


@in_virtual_time
async def test_a_dead_one_is_passed_by() -> None:
    """With `skip` those behind it go on when its tries are over."""
    outbox, set_up = ordered(on_dead="skip")
    first, second = make_owed(order_key=1, tries=9), make_owed(order_key=1)
    destination = FakeDestination(answer=lambda owed: FAILED if owed.row_id == first.row_id else DELIVERED)
    outbox.owe(first, second)

    async with Replica(outbox, set_up, destination):
        await all_ended(outbox)

    assert (outbox.ended[first.key].status, outbox.ended[second.key].status) == ("dead", "delivered")


@in_virtual_time
async def test_a_dead_one_may_block() -> None:
    """With `block` it ends as dead, and those behind it wait."""
    outbox, set_up = ordered(on_dead="block")
    first, second, other = make_owed(order_key=1, tries=9), make_owed(order_key=1), make_owed(order_key=2)
    destination = FakeDestination(answer=lambda owed: FAILED if owed.row_id == first.row_id else DELIVERED)
    outbox.owe(first, second, other)

    async with Replica(outbox, set_up, destination):
        await pass_time(60.0)

    assert outbox.ended[first.key].status == "dead"
    assert outbox.ended[other.key].status == "delivered"
    assert second.row_id in outbox.debts
    assert second.key not in destination.started


@in_virtual_time
async def test_an_object_that_always_fails_keeps_its_receiver_for_the_others() -> None:
    """However many of its changes die one after the other: that suspends no lane, so another waits for nothing."""
    outbox = FakeOutbox(lease_seconds=LEASE_SECONDS)
    set_up = SetUp(outbox, [make_endpoint(1, ordering="key", schedule_seconds=(0.1,))])
    destination = FakeDestination(answer=lambda owed: FAILED if owed.order_key == 1 else DELIVERED)
    outbox.owe(*(make_owed(order_key=1) for _ in range(20)))

    async with Replica(outbox, set_up, destination):
        await until(lambda: outbox.statuses()["dead"] == 20, within_seconds=30.0)
        outbox.owe(make_owed(order_key=2))
        await until(lambda: outbox.statuses()["delivered"], within_seconds=2.0)

    assert outbox.calls["suspend"] == 0
