"""The database the lane protocol is played over: set up once, emptied for each play, looked at after each move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import OnDead, Ordering
from app.domain.ids import DEFAULT_TENANT, DeliveryKey, EndpointId, LaneId, ReplicaId, SubscriptionId
from app.store.columns import EPOCH, FAR, now
from app.store.epoch import bump_epoch
from app.store.low_water import NO_MARK
from app.store.migrate import migrate
from app.store.partitions import make_days
from app.store.retry import Retry, retry
from app.store.schema import attempt, chore, dead_letter, delivery, endpoint, event, lane, subscription
from tests.bed.stored import Stored
from tests.faults.lanes.gates import GatedDatabase

LANES: Final[tuple[tuple[Ordering, OnDead], ...]] = (
    ("none", "skip"),
    ("key", "skip"),
    ("key", "block"),
    ("endpoint", "skip"),
)
_OLD_SECONDS: Final = 6 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """An endpoint with its lane and its first subscription, and another that is not there when a play begins."""

    endpoint_id: EndpointId
    lane_id: LaneId
    subscription_id: SubscriptionId
    other_subscription_id: SubscriptionId
    ordering: Ordering
    on_dead: OnDead


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRow:
    """A row of the outbox."""

    id: int
    lane_id: LaneId
    key: DeliveryKey
    subscription_id: SubscriptionId
    order_key: int | None
    tries: int
    failures: int
    blocks: bool
    is_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLane:
    """A lane's row."""

    owner: ReplicaId | None
    fence: int
    is_leased: bool
    is_awake: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands in the database at one moment; endings and the number of tries by delivery."""

    rows: tuple[SeenRow, ...]
    lanes: Mapping[LaneId, SeenLane]
    dead_letters: frozenset[DeliveryKey]
    endings: Mapping[DeliveryKey, tuple[str, ...]]
    history: Mapping[DeliveryKey, int]

    @property
    def sleeping_over_due(self) -> list[LaneId]:
        """Name the lanes that sleep although something is due."""
        return [row.lane_id for row in self.rows if row.is_due and not self.lanes[row.lane_id].is_awake]


class Stage:
    """One database."""

    def __init__(self, url: str) -> None:
        self.database = GatedDatabase(url)
        self.stored = Stored(self.database)
        self.set_ups: list[SetUp] = []

    async def prepare(self) -> None:
        """Migrate and set up one lane of each kind."""
        await migrate(self.database)
        await self.database.write_again(make_days)
        await self.stored.add_source()
        for number, (ordering, on_dead) in enumerate(LANES):
            endpoint_id = await self.stored.add_endpoint(ordering=ordering, on_dead=on_dead)
            self.set_ups.append(
                SetUp(
                    endpoint_id=endpoint_id,
                    lane_id=await self.stored.lane_of(endpoint_id),
                    subscription_id=await self._subscribe(endpoint_id, 2 * number),
                    other_subscription_id=await self._subscribe(endpoint_id, 2 * number + 1),
                    ordering=ordering,
                    on_dead=on_dead,
                )
            )

    async def clear(self) -> None:
        """Make everything as it was after `prepare`."""
        others = subscription.c.id.in_([each.other_subscription_id for each in self.set_ups])
        async with self.database.write() as connection:
            await bump_epoch(connection)
            for table in (delivery, attempt, dead_letter, event):
                await connection.execute(delete(table))
            await connection.execute(update(subscription).values(deleted_at=None, emptied_at=None))
            await connection.execute(update(subscription).where(others).values(deleted_at=EPOCH, emptied_at=EPOCH))
            await connection.execute(update(endpoint).values(is_paused=False))
            await connection.execute(
                update(lane).values(
                    owner=None,
                    fence=0,
                    lease_until=EPOCH,
                    wake_at=FAR,
                    last_served=EPOCH,
                    is_stopped=False,
                    breaker_until=EPOCH,
                    **NO_MARK,
                )
            )
            await connection.execute(update(chore).values(owner=None, lease_until=EPOCH, due_at=EPOCH))

    async def look(self) -> Seen:
        """Read all of it."""
        async with self.database.read() as connection:
            return Seen(
                rows=await _rows(connection),
                lanes=await _lanes(connection),
                dead_letters=frozenset((await connection.execute(select(dead_letter.c.delivery_key))).scalars()),
                **await _history(connection),
            )

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
            update(delivery).where(delivery.c.delivery_key == key).values(owed_at=now(-_OLD_SECONDS))
        )

    async def retry(self, key: DeliveryKey) -> Retry:
        """Let a person ask for a retry."""
        return await self.database.write_again(lambda connection: retry(connection, DEFAULT_TENANT, key))

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


# Everything by which the protocol tells what is over, and what is to come. Not how old a delivery is: see grow_old.
_MOMENTS: Final[tuple[tuple[Table, str], ...]] = (
    (delivery, "due_at"),
    (lane, "lease_until"),
    (lane, "wake_at"),
    (lane, "last_served"),
    (lane, "breaker_until"),
    (lane, "low_due"),
    (chore, "lease_until"),
    (chore, "due_at"),
    (subscription, "deleted_at"),
)


def _earlier(connection: AsyncConnection, moment: ColumnElement[Any], seconds: int) -> ColumnElement[Any]:
    if connection.dialect.name == "postgresql":
        return moment - func.make_interval(0, 0, 0, 0, 0, 0, float(seconds))
    return moment.op("-")(literal_column(str(seconds * 1_000_000)))


async def _rows(connection: AsyncConnection) -> tuple[SeenRow, ...]:
    columns = delivery.c
    found = await connection.execute(select(delivery, (columns.due_at <= now()).label("is_due")).order_by(columns.id))
    return tuple(
        SeenRow(
            id=row.id,
            lane_id=LaneId(row.lane_id),
            key=DeliveryKey(row.delivery_key),
            subscription_id=SubscriptionId(row.subscription_id),
            order_key=row.order_key,
            tries=row.tries,
            failures=row.failures,
            blocks=bool(row.blocks),
            is_due=bool(row.is_due),
        )
        for row in found
    )


async def _lanes(connection: AsyncConnection) -> dict[LaneId, SeenLane]:
    is_leased, is_awake = (lane.c.lease_until > now()).label("is_leased"), (lane.c.wake_at <= now()).label("is_awake")
    found = await connection.execute(select(lane.c.id, lane.c.owner, lane.c.fence, is_leased, is_awake))
    return {
        LaneId(row.id): SeenLane(
            owner=row.owner and ReplicaId(row.owner),
            fence=row.fence,
            is_leased=bool(row.is_leased),
            is_awake=bool(row.is_awake),
        )
        for row in found
    }


async def _history(connection: AsyncConnection) -> dict[str, Any]:
    endings: dict[DeliveryKey, tuple[str, ...]] = {}
    history: dict[DeliveryKey, int] = {}
    for row in await connection.execute(select(attempt.c.delivery_key, attempt.c.ended)):
        key = DeliveryKey(row.delivery_key)
        history[key] = history.get(key, 0) + 1
        if row.ended is not None:
            endings[key] = (*endings.get(key, ()), row.ended)
    return {"endings": endings, "history": history}
