"""Endpoints and their lanes: rows in, rows out. What they owe is in the outbox; who holds a lane, in lanes.py."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON, Consequence, Endpoint, Late, OnDead, Ordering
from app.domain.ids import ID_BYTES, EndpointId, TenantId
from app.store import operator_events
from app.store.columns import FAR
from app.store.endpoint_rows import endpoint_of, living_endpoints
from app.store.epoch import bump_epoch
from app.store.low_water import NO_MARK
from app.store.operator_events import Disabled
from app.store.outbox_schema import lane
from app.store.place import Place, page_after
from app.store.schema import endpoint, subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What a caller says of an endpoint, which may all change but kind and secret; the rest is made here."""

    name: str
    kind: str
    config: Mapping[str, JSON]
    secret: bytes | None
    ordering: Ordering
    on_dead: OnDead
    reorder_window_seconds: float
    late: Late
    timeout_seconds: float
    max_in_flight: int
    rate_limit_per_second: float | None
    schedule_seconds: tuple[float, ...]
    max_age_seconds: float
    answers: Mapping[str, Consequence]
    is_paused: bool

    def onto(self, endpoint: Endpoint) -> Endpoint:
        """Give the endpoint as it would be then; kind and secret stay."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("kind", "secret")}
        return replace(endpoint, **said)


async def create(connection: AsyncConnection, tenant_id: TenantId, new: NewEndpoint) -> Endpoint:
    """Write an endpoint down, with the lane its deliveries will queue in."""
    moment = await bump_epoch(connection)
    endpoint_id = EndpointId(secrets.token_bytes(ID_BYTES))
    await connection.execute(
        insert(endpoint).values(
            id=endpoint_id,
            tenant_id=tenant_id,
            kind=new.kind,
            secret=new.secret,
            **_changeable(new),
            created_at=moment,
            updated_at=moment,
        )
    )
    await connection.execute(
        insert(lane).values(
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            fence=0,
            lease_until=moment,
            wake_at=FAR,
            last_served=moment,
            is_stopped=new.is_paused,
            breaker_until=moment,
            **NO_MARK,
            failures=0,
            latency_seconds=0.0,
        )
    )
    return endpoint_of((await connection.execute(living_endpoints().where(endpoint.c.id == endpoint_id))).one())


async def find(connection: AsyncConnection, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint | None:
    """Give an endpoint; None when there is none, or no more."""
    found = await connection.execute(
        living_endpoints().where(endpoint.c.tenant_id == tenant_id, endpoint.c.id == endpoint_id)
    )
    row = found.one_or_none()
    return None if row is None else endpoint_of(row)


async def list_page(
    connection: AsyncConnection, tenant_id: TenantId, *, limit: int, after: Place | None
) -> Sequence[Endpoint]:
    """Give endpoints, newest first."""
    statement = page_after(
        living_endpoints().where(endpoint.c.tenant_id == tenant_id),
        after,
        at=endpoint.c.created_at,
        id_=endpoint.c.id,
        limit=limit,
    )
    return [endpoint_of(row) for row in await connection.execute(statement)]


async def read_all(connection: AsyncConnection) -> Sequence[Endpoint]:
    """Give the endpoints of every tenant."""
    return [endpoint_of(row) for row in await connection.execute(living_endpoints())]


async def change(connection: AsyncConnection, changed: Endpoint) -> Endpoint:
    """Write down what changes of an endpoint: all but its ids, kind and secret. Lock changes before reading it.

    One whose aim has changed, or that is resumed, is tried at once, however its lane fared before.
    """
    moment = await bump_epoch(connection)
    before = (await connection.execute(living_endpoints().where(endpoint.c.id == changed.id))).one()
    await connection.execute(
        update(endpoint).where(endpoint.c.id == changed.id).values(**_changeable(changed), updated_at=moment)
    )
    was = endpoint_of(before)
    if was.aim != changed.aim or (was.is_paused and not changed.is_paused):
        await _begin_anew(connection, changed.id, moment)
    await _stop_or_start(connection, changed.id)
    return endpoint_of((await connection.execute(living_endpoints().where(endpoint.c.id == changed.id))).one())


async def enable(connection: AsyncConnection, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint | None:
    """Let an endpoint that was disabled have its deliveries again, from a clean slate; None when there is none."""
    moment = await bump_epoch(connection)
    enabled = await connection.execute(
        update(endpoint)
        .where(endpoint.c.tenant_id == tenant_id, endpoint.c.id == endpoint_id, endpoint.c.deleted_at.is_(None))
        .values(disabled_at=None, disabled_reason=None, updated_at=moment)
    )
    if not enabled.rowcount:
        return None
    await _begin_anew(connection, endpoint_id, moment)
    await _stop_or_start(connection, endpoint_id)
    return await find(connection, tenant_id, endpoint_id)


async def disable(connection: AsyncConnection, endpoint_id: EndpointId, *, reason: str) -> bool:
    """Disable an endpoint and tell of it: nothing is sent to it any more; False when it was already, or is gone."""
    moment = await bump_epoch(connection)
    disabled = await connection.execute(
        update(endpoint)
        .where(endpoint.c.id == endpoint_id, endpoint.c.deleted_at.is_(None), endpoint.c.disabled_at.is_(None))
        .values(disabled_at=moment, disabled_reason=reason, updated_at=moment)
        .returning(endpoint.c.tenant_id, endpoint.c.name)
    )
    row = disabled.one_or_none()
    if row is None:
        return False
    await _stop_or_start(connection, endpoint_id)
    told = Disabled(tenant_id=TenantId(row.tenant_id), endpoint_id=endpoint_id, name=row.name, reason=reason, at=moment)
    await operator_events.tell_of_disabled(connection, told)
    return True


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


def _changeable(of: NewEndpoint | Endpoint) -> dict[str, Any]:
    return {
        "name": of.name,
        "config": dict(of.config),
        "ordering": of.ordering,
        "on_dead": of.on_dead,
        "reorder_window_seconds": of.reorder_window_seconds,
        "late": of.late,
        "timeout_seconds": of.timeout_seconds,
        "max_in_flight": of.max_in_flight,
        "rate_limit_per_second": of.rate_limit_per_second,
        "schedule_seconds": list(of.schedule_seconds),
        "max_age_seconds": of.max_age_seconds,
        "answers": dict(of.answers),
        "is_paused": of.is_paused,
    }


async def _begin_anew(connection: AsyncConnection, endpoint_id: EndpointId, moment: datetime) -> None:
    """Forget how an endpoint's lane fared: somebody saw to it."""
    await connection.execute(
        update(lane)
        .where(lane.c.endpoint_id == endpoint_id)
        .values(
            breaker_until=moment,
            failures=0,
            failing_since=None,
            last_failed_at=None,
            latency_seconds=0.0,
            recovering_until=None,
            wake_at=moment,
        )
    )


async def _stop_or_start(connection: AsyncConnection, endpoint_id: EndpointId) -> None:
    """Keep the lane's own word on whether it may be leased: leasing looks at lanes alone."""
    its = select(or_(endpoint.c.is_paused, endpoint.c.disabled_at.is_not(None))).where(endpoint.c.id == endpoint_id)
    await connection.execute(
        update(lane).where(lane.c.endpoint_id == endpoint_id).values(is_stopped=its.scalar_subquery())
    )
