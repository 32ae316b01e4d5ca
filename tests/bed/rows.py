"""Rows as the hot path writes them, put in by plain inserts: for tests of what reads them."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.identity import delivery_key
from app.domain.ids import (
    DEFAULT_TENANT,
    DeliveryKey,
    EndpointId,
    EventId,
    LaneId,
    QuarantineId,
    SourceId,
    SubscriptionId,
)
from app.store.columns import EPOCH, FAR
from app.store.database import Database
from app.store.low_water import NO_MARK
from app.store.migrate import migrate
from app.store.outbox_schema import attempt, dead_letter, delivery, event, lane, quarantine
from app.store.schema import endpoint, subscription

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
YESTERDAY, TODAY = date(2026, 11, 23), date(2026, 11, 24)
LANE = LaneId(7)
ENDPOINT = EndpointId(b"endpoint-one----")
SUBSCRIPTION = SubscriptionId(b"subscription-one")
OTHER_SUBSCRIPTION = SubscriptionId(b"subscription-two")
SOURCE = SourceId(b"source-one------")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A delivery as the outbox keeps it, by default of the one subscription."""

    event_id: EventId
    subscription_id: SubscriptionId = SUBSCRIPTION
    endpoint_id: EndpointId = ENDPOINT
    lane_id: LaneId = LANE
    tries: int = 0
    failures: int = 0
    due_at: datetime = FAR
    created_at: datetime = NOON
    tenant_id: int = DEFAULT_TENANT
    event_day: date = TODAY
    order_key: int | None = None
    key: DeliveryKey = field(init=False)

    def __post_init__(self) -> None:
        """Derive the key as the record step does."""
        object.__setattr__(self, "key", delivery_key(self.event_id, self.subscription_id))


async def prepare(database: Database) -> None:
    """Bring in the schema, partitions for two days, an endpoint whose lane sleeps and two subscriptions to it."""
    await migrate(database)
    async with database.write() as connection:
        await _add_partitions(connection)
        await _add_configuration(connection)


def event_id(number: int, *, seconds: int = 0x67000000) -> EventId:
    """Make an id of which only the tail differs: the deliveries of such events are neighbours in every index."""
    return EventId(seconds.to_bytes(4, "big") + number.to_bytes(12, "big"))


async def add_event(connection: AsyncConnection, number: int, **fields: Any) -> EventId:
    """Add an event; by default each is written down a second after the one before."""
    row = {
        "tenant_id": DEFAULT_TENANT,
        "id": event_id(number),
        "event_day": TODAY,
        "source_id": SOURCE,
        "recorded_at": NOON + timedelta(seconds=number),
        "type": "s3:ObjectCreated:Put",
        "change": "created",
        "bucket": "photos",
        "key": b"cat.jpg",
        "received_key": "cat.jpg",
        "time": NOON,
        "dialect": "aws",
        "record": b"{}",
        **fields,
    }
    await connection.execute(insert(event).values(**row))
    return EventId(row["id"])


async def add_owed(connection: AsyncConnection, owed: Owed) -> DeliveryKey:
    """Put a delivery into the outbox."""
    await connection.execute(
        insert(delivery).values(
            **_who(owed),
            lane_id=owed.lane_id,
            order_key=owed.order_key,
            tries=owed.tries,
            failures=owed.failures,
            blocks=False,
            due_at=owed.due_at,
            owed_at=owed.created_at,
        )
    )
    return owed.key


async def add_try(connection: AsyncConnection, owed: Owed, number: int, **fields: Any) -> None:
    """Add to the history; an `ended` among the fields ends the delivery, number 0 without a try."""
    row = {"day": TODAY, "number": number, "started_at": NOON + timedelta(minutes=number), **_who(owed), **fields}
    await connection.execute(insert(attempt).values(**row))


async def end(
    connection: AsyncConnection, owed: Owed, status: str, *, number: int = 1, reason: str | None = None
) -> None:
    """End a delivery as a settle does: out of the outbox, into the history, and the dead letters if it is dead."""
    await connection.execute(delete(delivery).where(delivery.c.delivery_key == owed.key))
    ended_at = NOON + timedelta(hours=1)
    await add_try(connection, owed, number, ended=status, reason=reason, ended_at=ended_at)
    if status == "dead":
        await connection.execute(
            insert(dead_letter).values(
                **_who(owed),
                lane_id=owed.lane_id,
                order_key=owed.order_key,
                tries=number,
                reason=reason,
                ended_at=ended_at,
            )
        )


async def add_quarantined(connection: AsyncConnection, number: int, **fields: Any) -> QuarantineId:
    """Add to the quarantine; by default each came a second after the one before."""
    seen_at = NOON + timedelta(seconds=number)
    row = {
        "id": number.to_bytes(16, "big"),
        "tenant_id": DEFAULT_TENANT,
        "source_id": SOURCE,
        "reason": "not JSON",
        "raw": b"{",
        "seen": 1,
        "first_seen_at": seen_at,
        "last_seen_at": seen_at,
        **fields,
    }
    await connection.execute(insert(quarantine).values(**row))
    return QuarantineId(row["id"])


async def wakes_at(connection: AsyncConnection) -> datetime:
    """Read when the lane is to wake."""
    found: datetime = (await connection.execute(select(lane.c.wake_at).where(lane.c.id == LANE))).scalar_one()
    return found


def _who(owed: Owed) -> dict[str, Any]:
    return {
        "tenant_id": owed.tenant_id,
        "delivery_key": owed.key,
        "endpoint_id": owed.endpoint_id,
        "subscription_id": owed.subscription_id,
        "event_day": owed.event_day,
        "event_id": owed.event_id,
        "created_at": owed.created_at,
    }


async def _add_partitions(connection: AsyncConnection) -> None:
    if connection.dialect.name != "postgresql":
        return
    for day in (YESTERDAY, TODAY):
        for table in ("event", "attempt"):
            await connection.execute(
                text(
                    f"CREATE TABLE {table}_{day:%Y%m%d} PARTITION OF {table}"
                    f" FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
                )
            )


async def _add_configuration(connection: AsyncConnection) -> None:
    made = {"tenant_id": DEFAULT_TENANT, "created_at": NOON, "updated_at": NOON, "name": "one"}
    await connection.execute(
        insert(endpoint).values(
            id=ENDPOINT,
            kind="webhook",
            config={"url": "https://hook.example/", "headers": {}},
            secret=b"s" * 24,
            ordering="none",
            on_dead="skip",
            reorder_window_seconds=0.0,
            late="deliver",
            max_age_seconds=432_000,
            answers={},
            is_paused=False,
            timeout_seconds=15,
            max_in_flight=8,
            schedule_seconds=[5.0],
            **made,
        )
    )
    for each in (SUBSCRIPTION, OTHER_SUBSCRIPTION):
        await connection.execute(
            insert(subscription).values(
                id=each,
                endpoint_id=ENDPOINT,
                filter={"buckets": [], "events": [], "key_prefix": "", "key_suffix": ""},
                hears_gateway=False,
                format="standard",
                **made,
            )
        )
    await connection.execute(
        insert(lane).values(
            id=LANE,
            tenant_id=DEFAULT_TENANT,
            endpoint_id=ENDPOINT,
            fence=0,
            lease_until=EPOCH,
            wake_at=FAR,
            last_served=EPOCH,
            is_stopped=False,
            breaker_until=EPOCH,
            **NO_MARK,
            failures=0,
            latency_seconds=0,
        )
    )
