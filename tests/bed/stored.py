"""A migrated database with a few endpoints, subscriptions and sources, and events to write into it."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Executable, func, insert, select, update

from app.domain.configuration import Filter, Late, OnDead, Ordering
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT, EndpointId, EventId, LaneId, ReplicaId, SourceId, SubscriptionId
from app.domain.message import Decoded, Heard, Refusal
from app.domain.operator_event import is_operator_name
from app.domain.outcome import Outcome
from app.domain.verdict import DELIVERED, DeadReason, Verdict
from app.store.cancel import CANCELLED_AT_ONCE
from app.store.columns import EPOCH, FAR, now
from app.store.database import Database
from app.store.low_water import NO_MARK
from app.store.outbox import SqlOutbox
from app.store.outbox_schema import delivery, lane
from app.store.record import SqlEventStore
from app.store.schema import configuration_epoch, endpoint, metadata, source, subscription

LEASE_SECONDS = 60.0
SOURCE = SourceId(b"s" * 16)
EVERYTHING = Filter()
STARTED_AT = datetime.now(UTC).replace(microsecond=0)
OK = Outcome(kind="delivered", latency_seconds=0.012, status_code=200)
BROKEN = Outcome(kind="answered", latency_seconds=0.2, status_code=503, error="503 Service Unavailable", response=b"no")


class Stored:
    """One database, and short words for what tests do to it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.store = SqlEventStore(database)

    def outbox(self, *, lease_seconds: float = LEASE_SECONDS, cancelled_at_once: int = CANCELLED_AT_ONCE) -> SqlOutbox:
        """Make another replica's outbox."""
        return SqlOutbox(
            self.database,
            ReplicaId(secrets.token_bytes(16)),
            lease_seconds=lease_seconds,
            sweep_pause_seconds=0.0,
            cancelled_at_once=cancelled_at_once,
        )

    async def add_endpoint(
        self,
        *,
        ordering: Ordering = "none",
        on_dead: OnDead = "skip",
        reorder_window_seconds: float = 0.0,
        late: Late = "deliver",
    ) -> EndpointId:
        """Set up an endpoint with its lane."""
        endpoint_id = EndpointId(secrets.token_bytes(16))
        async with self.database.write() as connection:
            await connection.execute(
                insert(endpoint).values(
                    id=endpoint_id,
                    tenant_id=DEFAULT_TENANT,
                    name="orders",
                    kind="webhook",
                    config={"url": "https://example.com/"},
                    ordering=ordering,
                    on_dead=on_dead,
                    reorder_window_seconds=reorder_window_seconds,
                    late=late,
                    max_age_seconds=432_000,
                    answers={},
                    is_paused=False,
                    timeout_seconds=15.0,
                    max_in_flight=8,
                    schedule_seconds=[5.0],
                    created_at=now(),
                    updated_at=now(),
                )
            )
            await connection.execute(
                insert(lane).values(
                    tenant_id=DEFAULT_TENANT,
                    endpoint_id=endpoint_id,
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
        await self.bump_epoch()
        return endpoint_id

    async def add_subscription(
        self, endpoint_id: EndpointId, *, wanted: Filter = EVERYTHING, tenant_id: int = DEFAULT_TENANT
    ) -> SubscriptionId:
        """Subscribe an endpoint."""
        subscription_id = SubscriptionId(secrets.token_bytes(16))
        async with self.database.write() as connection:
            await connection.execute(
                insert(subscription).values(
                    id=subscription_id,
                    tenant_id=tenant_id,
                    name="all",
                    endpoint_id=endpoint_id,
                    filter={
                        "buckets": list(wanted.buckets),
                        "events": list(wanted.events),
                        "key_prefix": wanted.key_prefix,
                        "key_suffix": wanted.key_suffix,
                    },
                    hears_gateway=any(map(is_operator_name, wanted.events)),
                    format="standard",
                    created_at=now(),
                    updated_at=now(),
                )
            )
        await self.bump_epoch()
        return subscription_id

    async def add_subscribed(
        self,
        *,
        ordering: Ordering = "none",
        on_dead: OnDead = "skip",
        reorder_window_seconds: float = 0.0,
        late: Late = "deliver",
    ) -> tuple[LaneId, SubscriptionId]:
        """Set up an endpoint that takes everything; gives its lane and its subscription."""
        endpoint_id = await self.add_endpoint(
            ordering=ordering, on_dead=on_dead, reorder_window_seconds=reorder_window_seconds, late=late
        )
        subscription_id = await self.add_subscription(endpoint_id)
        return await self.lane_of(endpoint_id), subscription_id

    async def add_source(self) -> SourceId:
        """Set up the source that events of `heard` come from."""
        await self.execute(
            insert(source).values(
                id=SOURCE,
                tenant_id=DEFAULT_TENANT,
                name="uploads",
                kind="sqs",
                config={},
                is_paused=False,
                state="starting",
                created_at=now(),
                updated_at=now(),
            )
        )
        await self.bump_epoch()
        return SOURCE

    async def delete_subscription(self, subscription_id: SubscriptionId, *, seconds_ago: float = 0.0) -> None:
        """Mark a subscription as deleted."""
        await self.execute(
            update(subscription).where(subscription.c.id == subscription_id).values(deleted_at=now(-seconds_ago))
        )
        await self.bump_epoch()

    async def delete_endpoint(self, endpoint_id: EndpointId, *, seconds_ago: float = 0.0) -> None:
        """Mark an endpoint as deleted, and its subscriptions."""
        await self.execute(update(endpoint).where(endpoint.c.id == endpoint_id).values(deleted_at=now(-seconds_ago)))
        await self.execute(
            update(subscription).where(subscription.c.endpoint_id == endpoint_id).values(deleted_at=now(-seconds_ago))
        )
        await self.bump_epoch()

    async def bump_epoch(self) -> None:
        """Say that the configuration changed."""
        await self.execute(update(configuration_epoch).values(epoch=configuration_epoch.c.epoch + 1))

    async def lane_of(self, endpoint_id: EndpointId) -> LaneId:
        """Give an endpoint's lane."""
        return LaneId(await self.scalar(select(lane.c.id).where(lane.c.endpoint_id == endpoint_id)))

    async def execute(self, statement: Executable) -> None:
        """Run a statement in a transaction of its own."""
        await self.database.write_again(lambda connection: connection.execute(statement))

    async def scalar(self, statement: Executable) -> Any:
        """Give the first column of the one row a statement finds."""
        async with self.database.read() as connection:
            return (await connection.execute(statement)).scalar_one()

    async def rows(self, table: str, *order: str) -> list[Any]:
        """Give every row of a table."""
        async with self.database.read() as connection:
            columns = metadata.tables[table]
            return list(await connection.execute(select(columns).order_by(*(columns.c[name] for name in order))))

    async def count(self, table: str) -> int:
        """Count the rows of a table."""
        return int(await self.scalar(select(func.count()).select_from(metadata.tables[table])))

    async def make_due(self) -> None:
        """Let every delivery be due now."""
        await self.execute(update(delivery).values(due_at=now(-1.0)))

    async def run_out(self, lane_id: LaneId) -> None:
        """Let a lane's lease end."""
        await self.execute(update(lane).where(lane.c.id == lane_id).values(lease_until=now(-0.001)))


async def only_lease(outbox: SqlOutbox) -> Lease:
    """Lease the one lane that waits."""
    (lease,) = await outbox.lease(10)
    return lease


async def owed_by(outbox: SqlOutbox, lease: Lease) -> Sequence[Owed]:
    """Fetch all that a lane owes."""
    return await outbox.fetch(lease, limit=10_000, leave_out=())


def make_event(number: int, *, bucket: str = "photos", key: bytes = b"cat.jpg", day: date | None = None) -> Event:
    """Make an event of today: the same for the same number, all through a run."""
    at = STARTED_AT - timedelta(milliseconds=number % 1000)
    prefix = int(at.timestamp()).to_bytes(4, "big")
    return Event(
        id=EventId(prefix + hashlib.sha256(str(number).encode()).digest()[:12]),
        day=day or at.date(),
        type="s3:ObjectCreated:Put",
        change="created",
        bucket=bucket,
        key=key,
        received_key=key.decode("utf-8", "replace"),
        version_id=None,
        size=1024,
        etag="d41d8cd98f00b204e9800998ecf8427e",
        sequencer="0055AED6DCD90281E5",
        time=at,
        region="eu-central-1",
        actor=None,
        source_ip="192.0.2.7",
        request_id="C3D13FE58DE4C810",
        host_id=None,
        extra=None,
        dialect="aws",
        record=b'{"eventVersion":"2.1"}',
    )


def make_events(count: int) -> list[Event]:
    """Make that many events."""
    return [make_event(number) for number in range(count)]


def changed(event: Event, **fields: Any) -> Event:
    """Give an event that differs in fields."""
    return replace(event, **fields)


def heard(*events: Event, refusals: Sequence[Refusal] = (), is_test_event: bool = False) -> Heard:
    """Let one message say events."""
    return Heard(
        source_id=SOURCE,
        tenant_id=DEFAULT_TENANT,
        decoded=Decoded(events=events, refusals=tuple(refusals), is_test_event=is_test_event),
    )


def delivered(lease: Lease, owed: Owed) -> Settlement:
    """Settle a success."""
    return Settlement(lease=lease, owed=owed, outcome=OK, verdict=DELIVERED, started_seconds_ago=0.5)


def failed(lease: Lease, owed: Owed, *, delay_seconds: float = 300.0, outcome: Outcome = BROKEN) -> Settlement:
    """Settle a failure that is to be tried again."""
    verdict = Verdict(status="pending", delay_seconds=delay_seconds)
    return Settlement(lease=lease, owed=owed, outcome=outcome, verdict=verdict, started_seconds_ago=0.5)


def dead(lease: Lease, owed: Owed, *, reason: DeadReason = "exhausted", outcome: Outcome | None = BROKEN) -> Settlement:
    """Settle a delivery given up."""
    verdict = Verdict(status="dead", reason=reason)
    return Settlement(lease=lease, owed=owed, outcome=outcome, verdict=verdict, started_seconds_ago=0.5)
