"""Endpoints and their lanes: rows in, rows out. What they owe is in the outbox; who holds a lane, in lanes.py."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON, Endpoint, Ordering
from app.domain.ids import ID_BYTES, EndpointId, LaneId, TenantId
from app.store.columns import FAR
from app.store.epoch import bump_epoch
from app.store.place import Place, page_after
from app.store.schema import endpoint, lane, subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What a caller says of an endpoint; the rest is made here."""

    name: str
    kind: str
    config: Mapping[str, JSON]
    secret: bytes | None
    ordering: Ordering
    timeout_seconds: float
    max_in_flight: int
    schedule_seconds: tuple[float, ...]


async def create(connection: AsyncConnection, tenant_id: TenantId, new: NewEndpoint) -> Endpoint:
    """Write an endpoint down, with the lane its deliveries will queue in."""
    moment = await bump_epoch(connection)
    endpoint_id = EndpointId(secrets.token_bytes(ID_BYTES))
    await connection.execute(
        insert(endpoint).values(
            id=endpoint_id,
            tenant_id=tenant_id,
            name=new.name,
            kind=new.kind,
            config=dict(new.config),
            secret=new.secret,
            ordering=new.ordering,
            timeout_seconds=new.timeout_seconds,
            max_in_flight=new.max_in_flight,
            schedule_seconds=list(new.schedule_seconds),
            created_at=moment,
            updated_at=moment,
        )
    )
    made = await connection.execute(
        insert(lane)
        .values(
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            fence=0,
            lease_until=moment,
            wake_at=FAR,
            last_served=moment,
        )
        .returning(lane.c.id)
    )
    return Endpoint(
        id=endpoint_id,
        tenant_id=tenant_id,
        lane_id=LaneId(made.scalar_one()),
        name=new.name,
        kind=new.kind,
        config=new.config,
        secret=new.secret,
        ordering=new.ordering,
        timeout_seconds=new.timeout_seconds,
        max_in_flight=new.max_in_flight,
        schedule_seconds=new.schedule_seconds,
        created_at=moment,
        updated_at=moment,
    )


async def find(connection: AsyncConnection, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint | None:
    """Give an endpoint; None when there is none, or no more."""
    found = await connection.execute(_living().where(endpoint.c.tenant_id == tenant_id, endpoint.c.id == endpoint_id))
    row = found.one_or_none()
    return None if row is None else _endpoint(row)


async def list_page(
    connection: AsyncConnection, tenant_id: TenantId, *, limit: int, after: Place | None
) -> Sequence[Endpoint]:
    """Give endpoints, newest first."""
    statement = page_after(
        _living().where(endpoint.c.tenant_id == tenant_id),
        after,
        at=endpoint.c.created_at,
        id_=endpoint.c.id,
        limit=limit,
    )
    return [_endpoint(row) for row in await connection.execute(statement)]


async def read_all(connection: AsyncConnection) -> Sequence[Endpoint]:
    """Give the endpoints of every tenant."""
    return [_endpoint(row) for row in await connection.execute(_living())]


async def change(connection: AsyncConnection, changed: Endpoint) -> Endpoint:
    """Write down what may change of an endpoint: all but its ids, kind and secret. Lock changes before reading it."""
    moment = await bump_epoch(connection)
    await connection.execute(
        update(endpoint)
        .where(endpoint.c.id == changed.id)
        .values(
            name=changed.name,
            config=dict(changed.config),
            ordering=changed.ordering,
            timeout_seconds=changed.timeout_seconds,
            max_in_flight=changed.max_in_flight,
            schedule_seconds=list(changed.schedule_seconds),
            updated_at=moment,
        )
    )
    return replace(changed, updated_at=moment)


async def delete(connection: AsyncConnection, tenant_id: TenantId, endpoint_id: EndpointId) -> bool:
    """Mark an endpoint and its subscriptions as deleted; False when there is none.

    What they still owe is cancelled by the sweep, in slices: it may be much.
    """
    moment = await bump_epoch(connection)
    marked = await connection.execute(
        update(endpoint)
        .where(endpoint.c.tenant_id == tenant_id, endpoint.c.id == endpoint_id, endpoint.c.deleted_at.is_(None))
        .values(deleted_at=moment)
    )
    if not marked.rowcount:
        return False
    await connection.execute(
        update(subscription)
        .where(subscription.c.endpoint_id == endpoint_id, subscription.c.deleted_at.is_(None))
        .values(deleted_at=moment)
    )
    return True


def _living() -> Select[Any]:
    return (
        select(endpoint, lane.c.id.label("lane_id"))
        .join(lane, lane.c.endpoint_id == endpoint.c.id)
        .where(endpoint.c.deleted_at.is_(None))
    )


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=EndpointId(row.id),
        tenant_id=TenantId(row.tenant_id),
        lane_id=LaneId(row.lane_id),
        name=row.name,
        kind=row.kind,
        config=row.config,
        secret=row.secret,
        ordering=row.ordering,
        timeout_seconds=row.timeout_seconds,
        max_in_flight=row.max_in_flight,
        schedule_seconds=tuple(row.schedule_seconds),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
