"""What nobody foresaw of a destination or of the database stays with the delivery it befell, and does not go round."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from structlog.testing import capture_logs

from app.domain.configuration import Configuration, Endpoint, Subscription
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.errors import StoreRefused
from app.domain.ids import DEFAULT_TENANT, LaneId, SubscriptionId
from app.domain.outcome import Outcome
from app.relay.outage import Outage
from app.relay.settler import Settler
from app.relay.slots import UNSETTLED_LIMIT, Berth, Slots
from app.telemetry import REGISTRY
from tests.bed.stored import delivered
from tests.unit.relay.fake_destination import DELIVERED, NONSENSE, FakeDestination
from tests.unit.relay.fake_outbox import FakeOutbox, ReplicaOutbox
from tests.unit.relay.replica import (
    DAY,
    SUBSCRIPTION,
    Replica,
    SetUp,
    all_ended,
    endpoint_id,
    make_many,
    one_lane,
)
from tests.unit.relay.virtual_time import in_virtual_time, now, pass_time, until


class RefusingDatabase:
    """Makes a replica's settles be refused when one of the settlements is such."""

    def __init__(self, outbox: ReplicaOutbox, refuses: Callable[[Settlement], bool]) -> None:
        """Take the outbox whose settles are looked at."""
        self.refuses = refuses
        self._settle = outbox.settle
        outbox.settle = self.settle  # type: ignore[method-assign]  # a fake outbox, picky on purpose

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """Write down, or refuse all of it."""
        if any(map(self.refuses, settlements)):
            raise StoreRefused
        return await self._settle(settlements)


class OddDestination(FakeDestination):
    """Sends nothing and behaves as no destination should."""

    def __init__(self, behave: Callable[[], Sequence[Outcome]]) -> None:
        """Take what a send does."""
        super().__init__(batch_limit=2)
        self._behave = behave

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """Note it, then misbehave."""
        await super().send(endpoint, batch)
        return self._behave()


class SetUpWithSubscription(SetUp):
    """A set-up whose process knows the subscription, until it is deleted."""

    subscriptions: Mapping[SubscriptionId, Subscription]

    def configuration(self) -> Configuration:
        """Give what the process knows."""
        return Configuration(epoch=1, endpoints=self.known, subscriptions=self.subscriptions, sources={})


@in_virtual_time
async def test_an_answer_that_the_database_refuses_is_settled_without_its_text() -> None:
    """A receiver's words cannot keep its delivery, or anybody else's, from being written down."""
    outbox, set_up = one_lane()
    destination = FakeDestination()
    poisoned, *others = make_many(50)
    poison = Outcome(kind="delivered", latency_seconds=0.01, status_code=200, response=b"\0")
    destination.answer = lambda owed: poison if owed.key == poisoned.key else DELIVERED
    replica = Replica(outbox, set_up, destination)
    RefusingDatabase(replica.outbox, lambda each: each.outcome is not None and each.outcome.response == b"\0")
    outbox.owe(poisoned, *others)

    with capture_logs() as told:
        async with replica:
            await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 50}
    assert set(destination.started.values()) == {1}
    assert [each["event"] for each in told if each["event"].startswith("settlement.")] == ["settlement.stripped"]


@in_virtual_time
async def test_a_settlement_refused_for_ever_is_sent_once_and_holds_up_nobody() -> None:
    """It stays in memory, so it is not sent again; when the database takes it, it is settled."""
    outbox, set_up = one_lane()
    destination = FakeDestination()
    refused, *others = make_many(50)
    replica = Replica(outbox, set_up, destination)
    database = RefusingDatabase(replica.outbox, lambda each: each.owed.key == refused.key)
    outbox.owe(refused, *others)

    async with replica:
        await until(lambda: len(outbox.ended) == len(others))
        await pass_time(30.0)
        sends = destination.started[refused.key]
        database.refuses = lambda _: False
        await all_ended(outbox)

    assert sends == 1
    assert set(destination.started.values()) == {1}


@in_virtual_time
async def test_however_many_settlements_are_refused_others_are_sent() -> None:
    """They wait on, and do not count among what sends wait for."""
    shared, _ = one_lane()
    outbox, lease = shared.for_replica("a"), Lease(lane_id=LaneId(1), endpoint_id=endpoint_id(1), fence=1)
    RefusingDatabase(outbox, lambda _: True)
    slots = Slots(1)
    settler = Settler(outbox, slots=slots, outage=Outage(sleep=asyncio.sleep, monotonic=now), monotonic=now)
    for _ in range(UNSETTLED_LIMIT - 3):
        slots.note_unsettled()
    sent = asyncio.Event()
    berth = Berth(tenant_id=DEFAULT_TENANT, slot_class=lambda: "fast", wants=lambda: True, launch=sent.set)

    waiting = [asyncio.ensure_future(settler.settle(delivered(lease, owed))) for owed in make_many(3)]
    has_slot_before = slots.take(berth)
    running = asyncio.create_task(settler.run())
    await asyncio.wait_for(sent.wait(), timeout=30.0)
    is_settled = [each.done() for each in waiting]
    running.cancel()

    assert not has_slot_before
    assert not any(is_settled)


@in_virtual_time
async def test_what_broke_leaves_nothing_in_memory() -> None:
    """However often a lane stumbles over what it sent: memory is all lanes' together."""
    outbox, set_up = one_lane()
    destination = FakeDestination()
    destination.answer = lambda owed: NONSENSE if destination.started[owed.key] == 1 else DELIVERED
    outbox.owe(*make_many(20))

    with capture_logs() as told:
        async with Replica(outbox, set_up, destination):
            await all_ended(outbox)
            await pass_time(1.0)
            held = REGISTRY.get_sample_value("bucketpost_window_bytes")

    assert [each for each in told if each["event"] == "lane.stumbled"]
    assert held == 0


def too_few() -> Sequence[Outcome]:
    """Answer for fewer than were sent."""
    return []


def broken() -> Sequence[Outcome]:
    """Raise."""
    raise RuntimeError("a bug")


def leaking() -> Sequence[Outcome]:
    """Let the cancellation of something else out, as client libraries do when they close."""
    raise asyncio.CancelledError


@in_virtual_time
async def test_a_destination_that_misbehaves_is_a_failed_try() -> None:
    """Too few outcomes, an exception, a stray cancellation: each counts as a try by the schedule, until it is dead."""
    for behave in (too_few, broken, leaking):
        outbox, set_up = one_lane(schedule_seconds=(1.0, 2.0))
        destination = OddDestination(behave)
        outbox.owe(*make_many(2))

        async with Replica(outbox, set_up, destination):
            await all_ended(outbox)

        assert outbox.statuses() == {"dead": 2}
        assert set(destination.started.values()) == {3}


@in_virtual_time
async def test_a_destination_that_never_answers_is_cut_off() -> None:
    """A send far beyond the endpoint's time limit has timed out; its slot is free again."""
    outbox, set_up = one_lane(schedule_seconds=())
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(3))

    async with Replica(outbox, set_up, destination, max_in_flight=1):
        await all_ended(outbox, within_seconds=300.0)

    assert outbox.statuses() == {"dead": 3}
    assert {each.outcome.kind for each in outbox.settled if each.outcome} == {"timed_out"}


@in_virtual_time
async def test_what_is_queued_for_a_deleted_subscription_is_not_sent() -> None:
    """A deletion is seen at the next send, whatever waits in memory."""
    outbox, set_up = with_subscription()
    destination = FakeDestination()
    destination.gate.clear()
    outbox.owe(*make_many(10))

    async with Replica(outbox, set_up, destination):
        await until(lambda: destination.in_flight == 2)
        set_up.subscriptions = {}
        destination.gate.set()
        await pass_time(10.0)

    assert len(destination.batches) == 2
    assert outbox.calls["fetch"] < 20


@in_virtual_time
async def test_a_subscription_newer_than_the_snapshot_is_served() -> None:
    """What the outbox hands out under a subscription this process has not heard of yet is sent."""
    outbox, set_up = with_subscription()
    set_up.subscriptions = {}
    outbox.owe(*make_many(3))

    async with Replica(outbox, set_up, FakeDestination()):
        await all_ended(outbox)

    assert outbox.statuses() == {"delivered": 3}


def with_subscription() -> tuple[FakeOutbox, SetUpWithSubscription]:
    """Set up lane 1 for two sends at once, with its subscription known."""
    outbox, plain = one_lane(max_in_flight=2)
    set_up = SetUpWithSubscription(FakeOutbox(), plain.committed.values())
    set_up.subscriptions = {
        SUBSCRIPTION: Subscription(
            id=SUBSCRIPTION,
            tenant_id=DEFAULT_TENANT,
            name="all",
            endpoint_id=endpoint_id(1),
            format="standard",
            created_at=DAY,
            updated_at=DAY,
        )
    }
    return outbox, set_up
