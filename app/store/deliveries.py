"""Deliveries as people ask for them: what the outbox still owes and what the history says is over, as one list.

Owing one again is in retry.py. A delivery that ends moves from one table to the other and keeps its place in the order,
so each list is one statement over both: it is seen once, wherever it is at that moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    case,
    cast,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.identity import keys_of_event
from app.domain.ids import DeliveryKey, EndpointId, EventId, SubscriptionId, TenantId
from app.domain.verdict import CancelReason, DeadReason, DeliveryStatus
from app.store.columns import FAR, Instant
from app.store.outbox_schema import attempt, dead_letter, delivery
from app.store.place import Place, page_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery and how it stands.

    `due_at` is None when it is over, or waits for an earlier one; `ended_at` while it is owed.
    """

    key: DeliveryKey
    event_id: EventId
    subscription_id: SubscriptionId
    endpoint_id: EndpointId
    status: DeliveryStatus
    reason: DeadReason | CancelReason | None
    due_at: datetime | None
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try, as the history tells it; `response` is the beginning of the answer."""

    number: int
    started_at: datetime
    latency_ms: int | None
    status_code: int | None
    error: str | None
    response: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries a list shows; None takes all."""

    status: DeliveryStatus | None = None
    endpoint_id: EndpointId | None = None
    subscription_id: SubscriptionId | None = None
    event_id: EventId | None = None


async def list_deliveries(
    connection: AsyncConnection, tenant_id: TenantId, *, wanted: DeliveryFilter, after: Place | None, limit: int
) -> Sequence[Delivery]:
    """Read deliveries, those made last first."""
    rows = await connection.execute(list_statement(tenant_id, wanted=wanted, after=after, limit=limit))
    return [_delivery(row) for row in rows]


async def deliveries_of_event(
    connection: AsyncConnection, tenant_id: TenantId, event_id: EventId
) -> Sequence[Delivery]:
    """Read every delivery of one event, those made last first."""
    statement = list_statement(tenant_id, wanted=DeliveryFilter(event_id=event_id), after=None, limit=None)
    return [_delivery(row) for row in await connection.execute(statement)]


async def get_delivery(
    connection: AsyncConnection, tenant_id: TenantId, key: DeliveryKey
) -> tuple[Delivery, Sequence[Attempt]] | None:
    """Read one delivery and its attempts, all as they stood at one moment."""
    rows = list(await connection.execute(detail_statement(tenant_id, key)))
    if not rows:
        return None
    return _delivery(rows[0]), [_attempt(row) for row in rows if row.number is not None]


def list_statement(
    tenant_id: TenantId, *, wanted: DeliveryFilter, after: Place | None, limit: int | None
) -> Select[Any]:
    """Build what the lists run; a test looks at its plan.

    Each table is read along its own index on (tenant_id, created_at, delivery_key) and no further than the limit; the
    few deliveries of one event are found by their key instead, and sorted.
    """
    stops_early = None if wanted.event_id is not None else limit
    halves = []
    for table, columns in _places(wanted.status):
        chosen = columns.where(table.c.tenant_id == tenant_id, *_conditions(table, wanted))
        halves.append(page_after(chosen, after, at=table.c.created_at, id_=table.c.delivery_key, limit=stops_early))
    both = union_all(*(select(half.subquery()) for half in halves)).subquery("both")
    return page_after(select(both), None, at=both.c.created_at, id_=both.c.delivery_key, limit=limit)


def detail_statement(tenant_id: TenantId, key: DeliveryKey) -> Select[Any]:
    """Build what get_delivery runs: a row an attempt, or one without; a test looks at its plan."""
    either = union_all(
        _owed().where(delivery.c.tenant_id == tenant_id, delivery.c.delivery_key == key),
        _over().where(attempt.c.tenant_id == tenant_id, attempt.c.delivery_key == key),
    ).subquery("either")
    # What is owed is not over, whatever the history says.
    is_over = case((either.c.due_at.is_(None), 1), else_=0)
    state = select(either).order_by(is_over, either.c.ended_at.desc()).limit(1).subquery("state")
    tried = (
        select(attempt)
        .where(attempt.c.tenant_id == tenant_id, attempt.c.delivery_key == key, attempt.c.number >= 1)
        .subquery("tried")
    )
    return (
        select(state, *(tried.c[name] for name in Attempt.__slots__))
        .select_from(state.outerjoin(tried, tried.c.delivery_key == state.c.delivery_key))
        .order_by(tried.c.number, tried.c.started_at)
    )


def _places(status: DeliveryStatus | None) -> list[tuple[Table, Select[Any]]]:
    match status:
        case None:
            return [(delivery, _owed()), (attempt, _over())]
        case "pending":
            return [(delivery, _owed())]
        case "dead":
            # The same rows are in the history, but few among many: the dead letters are nothing else.
            return [(dead_letter, _dead())]
        case "delivered" | "cancelled":
            return [(attempt, _over().where(attempt.c.ended == status))]
        case _:
            assert_never(status)


def _owed() -> Select[Any]:
    return select(
        *_who(delivery),
        literal("pending", Text).label("status"),
        cast(null(), Text).label("reason"),
        delivery.c.due_at,
        cast(null(), Instant).label("ended_at"),
    ).where(delivery.c.blocks.is_(False))


def _over() -> Select[Any]:
    return select(
        *_who(attempt),
        attempt.c.ended.label("status"),
        attempt.c.reason,
        cast(null(), Instant).label("due_at"),
        attempt.c.ended_at,
    ).where(attempt.c.ended.is_not(None))


def _dead() -> Select[Any]:
    return select(
        *_who(dead_letter),
        literal("dead", Text).label("status"),
        dead_letter.c.reason,
        cast(null(), Instant).label("due_at"),
        dead_letter.c.ended_at,
    )


def _who(table: Table) -> tuple[ColumnElement[Any], ...]:
    return (
        table.c.delivery_key,
        table.c.event_id,
        table.c.subscription_id,
        table.c.endpoint_id,
        table.c.created_at,
    )


def _conditions(table: Table, wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.endpoint_id is not None:
        conditions.append(table.c.endpoint_id == wanted.endpoint_id)
    if wanted.subscription_id is not None:
        conditions.append(table.c.subscription_id == wanted.subscription_id)
    if wanted.event_id is not None:
        conditions.append(table.c.delivery_key.between(*keys_of_event(wanted.event_id)))
        conditions.append(table.c.event_id == wanted.event_id)
    return conditions


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        key=DeliveryKey(row.delivery_key),
        event_id=EventId(row.event_id),
        subscription_id=SubscriptionId(row.subscription_id),
        endpoint_id=EndpointId(row.endpoint_id),
        status=row.status,
        reason=row.reason,
        due_at=None if row.due_at == FAR else row.due_at,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        number=row.number,
        started_at=row.started_at,
        latency_ms=row.latency_ms,
        status_code=row.status_code,
        error=row.error,
        response=row.response,
    )
