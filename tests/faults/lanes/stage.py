"""The database the lane protocol is played over: set up once, emptied for each play, looked at after each move."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, func, insert, literal_column, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Endpoint, Late, OnDead, Ordering
from app.domain.ids import DEFAULT_TENANT, DeliveryKey, EndpointId, LaneId, SubscriptionId
from app.store import endpoints
from app.store.columns import EPOCH, FAR, now
from app.store.epoch import bump_epoch
from app.store.low_water import NO_MARK
from app.store.migrate import migrate
from app.store.outbox_schema import attempt, chore, dead_letter, delivery, event, high_water, lane
from app.store.partitions import make_days
from app.store.retry import Retry, retry
from app.store.schema import endpoint, subscription
from tests.bed.stored import Stored
from tests.faults.lanes.gates import GatedDatabase
from tests.faults.lanes.seen import Seen, look

# Moments are told apart by spans that no play takes, however slow the machine or odd its clock: a tick is longer than a
# lease, and what waits for half a tick, or one and a half, is due between two of them.
TICK_SECONDS: Final = 10_000
HALF_TICK_SECONDS: Final = 5_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an endpoint wants the deliveries of an object: in which order, and what becomes of late and of dead ones."""

    ordering: Ordering
    on_dead: OnDead = "skip"
    window_seconds: float = 0.0
    late: Late = "deliver"

    @property
    def minds_places(self) -> bool:
        """Whether it matters where the store puts an event among those of its object."""
        return self.window_seconds > 0 or self.late != "deliver"


LANES: Final = (
    Terms(ordering="none"),
    Terms(ordering="key"),
    Terms(ordering="key", on_dead="block"),
    Terms(ordering="endpoint"),
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS),
)
# The last lane has one of these in each play.
MINDING_PLACES: Final = (
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS),
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS, on_dead="block"),
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS, late="mark"),
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS, late="drop"),
    Terms(ordering="key", window_seconds=HALF_TICK_SECONDS, late="drop", on_dead="block"),
    Terms(ordering="key", late="mark"),
    Terms(ordering="key", late="drop", on_dead="block"),
)
# However much time a play lets pass, only what it makes old is older than this.
_MAX_AGE_SECONDS: Final = 100_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """An endpoint with its lane and its first subscription, and another that is not there when a play begins."""

    endpoint_id: EndpointId
    lane_id: LaneId
    subscription_id: SubscriptionId
    other_subscription_id: SubscriptionId
    terms: Terms


class Stage:
    """One database."""

    def __init__(self, url: str) -> None:
        self.database = GatedDatabase(url)
        self.stored = Stored(self.database)
        self.set_ups: list[SetUp] = []
        # As a replica knows them; those that were deleted since, too.
        self.endpoints: dict[LaneId, Endpoint] = {}

    async def prepare(self) -> None:
        """Migrate and set up one lane of each kind."""
        await migrate(self.database)
        await self.database.write_again(make_days)
        await self.stored.add_source()
        for number, terms in enumerate(LANES):
            endpoint_id = await self.stored.add_endpoint(ordering=terms.ordering)
            self.set_ups.append(
                SetUp(
                    endpoint_id=endpoint_id,
                    lane_id=await self.stored.lane_of(endpoint_id),
                    subscription_id=await self._subscribe(endpoint_id, 2 * number),
                    other_subscription_id=await self._subscribe(endpoint_id, 2 * number + 1),
                    terms=terms,
                )
            )
        await self.stored.execute(update(endpoint).values(max_age_seconds=_MAX_AGE_SECONDS))

    async def clear(self) -> None:
        """Make everything as it was after `prepare`, but for the terms."""
        others = subscription.c.id.in_([each.other_subscription_id for each in self.set_ups])
        async with self.database.write() as connection:
            await bump_epoch(connection)
            for table in (delivery, attempt, dead_letter, event, high_water):
                await connection.execute(delete(table))
            await connection.execute(update(subscription).values(deleted_at=None, emptied_at=None))
            await connection.execute(update(subscription).where(others).values(deleted_at=EPOCH, emptied_at=EPOCH))
            await connection.execute(update(endpoint).values(is_paused=False, deleted_at=None))
            await connection.execute(delete(lane))
            await connection.execute(insert(lane), [_new_lane(each) for each in self.set_ups])
            await connection.execute(update(chore).values(owner=None, lease_until=EPOCH, due_at=EPOCH))

    async def agree(self, terms: Sequence[Terms]) -> None:
        """Let each endpoint have its terms."""
        self.set_ups = [replace(each, terms=its) for each, its in zip(self.set_ups, terms, strict=True)]
        async with self.database.write() as connection:
            await bump_epoch(connection)
            for each in self.set_ups:
                await connection.execute(
                    update(endpoint)
                    .where(endpoint.c.id == each.endpoint_id)
                    .values(
                        ordering=each.terms.ordering,
                        on_dead=each.terms.on_dead,
                        reorder_window_seconds=each.terms.window_seconds,
                        late=each.terms.late,
                    )
                )
            self.endpoints = {each.lane_id: each for each in await endpoints.read_all(connection)}

    async def look(self) -> Seen:
        """Read all that a play sees."""
        async with self.database.read() as connection:
            return await look(connection)

    async def pass_time(self, seconds: int, *, keeps_leases: bool) -> None:
        """Let the database's clock move on: everything it knows lies further back."""
        async with self.database.write() as connection:
            for table, column in _MOMENTS:
                if column == "lease_until" and table is lane and keeps_leases:
                    continue
                moment = table.c[column]
                await connection.execute(
                    update(table).where(moment < FAR).values({column: _earlier(connection, moment, seconds)})
                )

    async def run_out(self, lane_id: LaneId) -> None:
        """Let a lane's lease end."""
        await self.stored.run_out(lane_id)

    async def subscribe_once_more(self, set_up: SetUp) -> None:
        """Let an endpoint's other subscription be there."""
        async with self.database.write() as connection:
            await bump_epoch(connection)
            await connection.execute(
                update(subscription)
                .where(subscription.c.id == set_up.other_subscription_id)
                .values(deleted_at=None, emptied_at=None)
            )

    async def free_chores(self) -> None:
        """Let whoever has a chore have had it for too long: how long a play takes is no part of it."""
        await self.stored.execute(update(chore).values(lease_until=EPOCH, due_at=EPOCH))

    async def grow_old(self, key: DeliveryKey) -> None:
        """Let a delivery be older than its endpoint allows."""
        await self.stored.execute(
            update(delivery).where(delivery.c.delivery_key == key).values(owed_at=now(-2 * _MAX_AGE_SECONDS))
        )

    async def retry(self, key: DeliveryKey) -> Retry:
        """Let a person ask for a retry."""
        return await self.database.write_again(lambda connection: retry(connection, DEFAULT_TENANT, key))

    async def delete_endpoint(self, endpoint_id: EndpointId) -> None:
        """Let a person delete an endpoint."""
        await self.database.write_again(lambda connection: endpoints.delete(connection, DEFAULT_TENANT, endpoint_id))

    async def stop_or_start(self, endpoint_id: EndpointId, *, is_paused: bool) -> None:
        """Pause an endpoint, or let it go on."""
        async with self.database.write() as connection:
            await bump_epoch(connection)
            await connection.execute(update(endpoint).where(endpoint.c.id == endpoint_id).values(is_paused=is_paused))
            await connection.execute(update(lane).where(lane.c.endpoint_id == endpoint_id).values(is_stopped=is_paused))

    async def _subscribe(self, endpoint_id: EndpointId, number: int) -> SubscriptionId:
        # By ids that are the same in every run: events are owed through subscriptions in the order of these.
        subscription_id = SubscriptionId(bytes([number]) * 16)
        made = await self.stored.add_subscription(endpoint_id)
        await self.stored.execute(update(subscription).where(subscription.c.id == made).values(id=subscription_id))
        await self.stored.bump_epoch()
        return subscription_id


# Everything by which the protocol tells what is over, and what is to come.
_MOMENTS: Final[tuple[tuple[Table, str], ...]] = (
    (delivery, "due_at"),
    (delivery, "owed_at"),
    (lane, "lease_until"),
    (lane, "wake_at"),
    (lane, "last_served"),
    (lane, "breaker_until"),
    (lane, "low_due"),
    (chore, "lease_until"),
    (chore, "due_at"),
    (subscription, "deleted_at"),
    (endpoint, "deleted_at"),
)


def _earlier(connection: AsyncConnection, moment: ColumnElement[Any], seconds: int) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return moment - func.make_interval(0, 0, 0, 0, 0, 0, float(seconds))
    return moment.op("-")(literal_column(str(seconds * 1_000_000)))


def _new_lane(set_up: SetUp) -> dict[str, Any]:
    return {
        "id": set_up.lane_id,
        "tenant_id": DEFAULT_TENANT,
        "endpoint_id": set_up.endpoint_id,
        "fence": 0,
        "lease_until": EPOCH,
        "wake_at": FAR,
        "last_served": EPOCH,
        "is_stopped": False,
        "breaker_until": EPOCH,
        **NO_MARK,
        "failures": 0,
        "latency_seconds": 0.0,
    }
