"""Replays as jobs: made, found, listed, paused and resumed. What a slice of one does is in replay_slice.py."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ID_BYTES, EndpointId, ReplayId, SubscriptionId, TenantId
from app.domain.verdict import DeliveryStatus
from app.store.columns import now
from app.store.events import EventFilter
from app.store.place import Place, page_after
from app.store.schema import replay

ReplayState = Literal["running", "paused", "done", "cancelled"]

_FROM_THE_START: Final = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which deliveries a job owes again; None takes all. With a status, only those that stand so."""

    events: EventFilter
    endpoint_id: EndpointId | None = None
    subscription_id: SubscriptionId | None = None
    status: DeliveryStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Events that a job comes by, deliveries it would owe if it were made now, and whether those are all."""

    events: int
    deliveries: int
    is_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A job and how far it is.

    `total` are the events it looks at, counted when it was made, unless `counted_all` says that there are more. It is
    through with what was recorded until `reached_at`. `held_by`: the endpoint whose lane is behind, so that it waits.
    """

    id: ReplayId
    tenant_id: TenantId
    state: ReplayState
    wanted: Wanted
    new_keys: bool
    total: int
    counted_all: bool
    looked_at: int
    owed: int
    reached_at: datetime | None
    held_by: EndpointId | None
    created_at: datetime
    begun_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None


async def create(
    connection: AsyncConnection, tenant_id: TenantId, wanted: Wanted, *, new_keys: bool, counted: Counted
) -> ReplayId:
    """Write a job down; what is recorded from now on is not its business."""
    replay_id = ReplayId(secrets.token_bytes(ID_BYTES))
    await connection.execute(
        insert(replay).values(
            id=replay_id,
            tenant_id=tenant_id,
            state="running",
            bucket=wanted.events.bucket,
            key_prefix=wanted.events.key_prefix,
            type=wanted.events.type,
            since=wanted.events.since,
            until=wanted.events.until,
            endpoint_id=wanted.endpoint_id,
            subscription_id=wanted.subscription_id,
            status=wanted.status,
            new_keys=new_keys,
            total=counted.events,
            counted_all=counted.is_all,
            looked_at=0,
            owed=0,
            after_id=_FROM_THE_START,
            created_at=now(),
            updated_at=now(),
        )
    )
    return replay_id


async def find(connection: AsyncConnection, tenant_id: TenantId, replay_id: ReplayId) -> Replay | None:
    """Give a job; None when there is none."""
    found = await connection.execute(select(replay).where(replay.c.tenant_id == tenant_id, replay.c.id == replay_id))
    row = found.one_or_none()
    return None if row is None else job_of(row)


async def list_page(
    connection: AsyncConnection, tenant_id: TenantId, *, limit: int, after: Place | None
) -> Sequence[Replay]:
    """Give jobs, newest first."""
    statement = page_after(
        select(replay).where(replay.c.tenant_id == tenant_id),
        after,
        at=replay.c.created_at,
        id_=replay.c.id,
        limit=limit,
    )
    return [job_of(row) for row in await connection.execute(statement)]


async def running(connection: AsyncConnection) -> Sequence[ReplayId]:
    """Give the jobs that have something to do, the one that had its turn longest ago first."""
    found = await connection.execute(
        select(replay.c.id).where(replay.c.state == "running").order_by(replay.c.updated_at, replay.c.id)
    )
    return [ReplayId(each) for each in found.scalars()]


async def move(
    connection: AsyncConnection,
    tenant_id: TenantId,
    replay_id: ReplayId,
    to: ReplayState,
    *,
    out_of: Sequence[ReplayState],
) -> bool:
    """Change the state of a job; False when it is in none of the states it may be changed out of."""
    moved = await connection.execute(
        update(replay)
        .where(replay.c.tenant_id == tenant_id, replay.c.id == replay_id, replay.c.state.in_(out_of))
        .values(state=to, held_by=None, updated_at=now(), ended_at=now() if to == "cancelled" else None)
    )
    return bool(moved.rowcount)


def job_of(row: Row[Any]) -> Replay:
    """Read a row."""
    return Replay(
        id=ReplayId(row.id),
        tenant_id=TenantId(row.tenant_id),
        state=row.state,
        wanted=Wanted(
            events=EventFilter(
                bucket=row.bucket, key_prefix=row.key_prefix, type=row.type, since=row.since, until=row.until
            ),
            endpoint_id=None if row.endpoint_id is None else EndpointId(row.endpoint_id),
            subscription_id=None if row.subscription_id is None else SubscriptionId(row.subscription_id),
            status=row.status,
        ),
        new_keys=row.new_keys,
        total=row.total,
        counted_all=row.counted_all,
        looked_at=row.looked_at,
        owed=row.owed,
        reached_at=row.after_at,
        held_by=None if row.held_by is None else EndpointId(row.held_by),
        created_at=row.created_at,
        begun_at=row.begun_at,
        updated_at=row.updated_at,
        ended_at=row.ended_at,
    )
