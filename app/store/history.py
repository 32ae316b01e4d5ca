"""The history: one row a try, and exactly one that ends each delivery. Appending only; lists are read elsewhere."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import LargeBinary, Row, Select, Update, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import DeliveryKey, EndpointId, EventId, SubscriptionId, TenantId
from app.domain.outcome import RESPONSE_KEPT_BYTES, Outcome
from app.domain.verdict import CancelReason, DeadReason
from app.store.columns import as_json, microseconds, one_of, storable_text
from app.store.outbox_schema import attempt, delivery
from app.store.schema import endpoint

_ERROR_CHARACTERS: Final = 1_000
_LARGEST_INTEGER: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Debt:
    """What the outbox or the dead letters held of a delivery, as it was taken out or put back; `tries` before this."""

    tenant_id: TenantId
    key: DeliveryKey
    endpoint_id: EndpointId
    subscription_id: SubscriptionId
    event_day: date
    event_id: EventId
    tries: int
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A row of the history; `outcome` is None where it ended without a try, `ended` is None where it goes on."""

    debt: Debt
    outcome: Outcome | None
    started_seconds_ago: float = 0.0
    ended: str | None
    reason: DeadReason | CancelReason | None = None


DEBT_COLUMNS: Final = (
    delivery.c.tenant_id,
    delivery.c.delivery_key,
    delivery.c.endpoint_id,
    delivery.c.subscription_id,
    delivery.c.event_day,
    delivery.c.event_id,
    delivery.c.tries,
    delivery.c.created_at,
)


def debt_of(row: Row[*tuple[Any, ...]]) -> Debt:
    """Read DEBT_COLUMNS of a row."""
    return Debt(
        tenant_id=TenantId(row.tenant_id),
        key=DeliveryKey(row.delivery_key),
        endpoint_id=EndpointId(row.endpoint_id),
        subscription_id=SubscriptionId(row.subscription_id),
        event_day=row.event_day,
        event_id=EventId(row.event_id),
        tries=row.tries,
        created_at=row.created_at,
    )


async def append(connection: AsyncConnection, attempts: Sequence[Attempt]) -> None:
    """Append to the history, dated by the database's clock."""
    if not attempts:
        return
    rows = [_row(each) for each in attempts]
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_APPEND_POSTGRESQL, tuple(list(column) for column in zip(*rows, strict=True)))
        return
    await connection.exec_driver_sql(
        _APPEND_SQLITE, [(*row[:4], row[4].isoformat(), *row[5:-1], microseconds(row[-1])) for row in rows]
    )


async def append_cancelled(connection: AsyncConnection, row_ids: Sequence[int]) -> None:
    """Append that these deliveries of the outbox end as cancelled, but for those that ended already, and block."""
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_CANCEL_POSTGRESQL, (list(row_ids),))
    else:
        await connection.exec_driver_sql(_CANCEL_SQLITE, (as_json(row_ids),))


async def find_cancelled(connection: AsyncConnection, endpoint_id: EndpointId, key: DeliveryKey) -> Debt | None:
    """Give a delivery that ended as cancelled, with the tries its history knows of; None when it did not."""
    found = list(await connection.execute(_of_one_statement(), {"its_endpoint": endpoint_id, "its_key": key}))
    cancelled = next((row for row in found if row.ended == "cancelled"), None)
    return None if cancelled is None else replace(debt_of(cancelled), tries=max(row.tries for row in found))


@functools.cache
def _of_one_statement() -> Select[*tuple[Any, ...]]:
    is_its = endpoint.c.id == bindparam("its_endpoint", type_=LargeBinary)
    its_tenant = select(endpoint.c.tenant_id).where(is_its).scalar_subquery()
    columns = (attempt.c[each.name] for each in DEBT_COLUMNS if each.name != "tries")
    return select(*columns, attempt.c.number.label("tries"), attempt.c.ended).where(
        attempt.c.tenant_id == its_tenant, attempt.c.delivery_key == bindparam("its_key", type_=LargeBinary)
    )


async def reopen(connection: AsyncConnection, debts: Sequence[Debt]) -> None:
    """Clear the endings of deliveries, so that another ending can take their place."""
    if debts:
        await connection.execute(reopen_statement(connection, debts))


def reopen_statement(connection: AsyncConnection, debts: Sequence[Debt]) -> Update:
    """Build what reopen runs; a test looks at its plan.

    It must not show that the index of what has ended would do, which would be read whole.
    """
    keys = [each.key for each in debts]
    is_near = attempt.c.delivery_key.between(min(keys), max(keys))
    return (
        update(attempt)
        .where(
            one_of(connection, attempt.c.tenant_id, {each.tenant_id for each in debts}),
            one_of(connection, attempt.c.delivery_key, keys),
            # Without statistics PostgreSQL tries the keys on all of a tenant's; those of one time stand together.
            *((is_near,) if connection.dialect.name == "postgresql" else ()),
            func.coalesce(attempt.c.ended, "") != "",
        )
        .values(ended=None, reason=None, ended_at=None)
    )


def _row(each: Attempt) -> tuple[Any, ...]:
    outcome, debt = each.outcome, each.debt
    return (
        debt.tenant_id,
        debt.key,
        debt.endpoint_id,
        debt.subscription_id,
        debt.event_day,
        debt.event_id,
        0 if outcome is None else debt.tries + 1,
        float(each.started_seconds_ago),
        None if outcome is None else min(round(outcome.latency_seconds * 1000), _LARGEST_INTEGER),
        None if outcome is None else outcome.kind,
        None if outcome is None else outcome.status_code,
        None if outcome is None or outcome.error is None else storable_text(outcome.error, limit=_ERROR_CHARACTERS),
        None if outcome is None else outcome.response[:RESPONSE_KEPT_BYTES],
        each.ended,
        each.reason,
        debt.created_at,
    )


_APPEND_POSTGRESQL: Final = """
INSERT INTO attempt (day, started_at, ended_at, tenant_id, delivery_key, endpoint_id, subscription_id, event_day,
    event_id, number, latency_ms, outcome, status_code, error, response, ended, reason, created_at)
SELECT (clock.read_at AT TIME ZONE 'UTC')::date, clock.read_at - make_interval(secs => a.started_seconds_ago),
    CASE WHEN a.ended IS NOT NULL THEN clock.read_at END, a.tenant_id, a.delivery_key, a.endpoint_id,
    a.subscription_id, a.event_day, a.event_id, a.number, a.latency_ms, a.outcome, a.status_code, a.error, a.response,
    a.ended, a.reason, a.created_at
FROM (SELECT clock_timestamp() AS read_at OFFSET 0) AS clock,
    unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::date[], $6::bytea[], $7::smallint[], $8::float8[],
        $9::integer[], $10::text[], $11::smallint[], $12::text[], $13::bytea[], $14::text[], $15::text[],
        $16::timestamptz[])
    AS a (tenant_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, number, started_seconds_ago,
        latency_ms, outcome, status_code, error, response, ended, reason, created_at)
"""
_APPEND_SQLITE: Final = """
INSERT INTO attempt (day, started_at, ended_at, tenant_id, delivery_key, endpoint_id, subscription_id, event_day,
    event_id, number, latency_ms, outcome, status_code, error, response, ended, reason, created_at)
VALUES (date(bucketpost_now() / 1000000, 'unixepoch'), bucketpost_now() - CAST(?8 * 1000000 AS INTEGER),
    CASE WHEN ?14 IS NOT NULL THEN bucketpost_now() END, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9, ?10, ?11, ?12, ?13, ?14, ?15,
    ?16)
"""
_CANCEL_POSTGRESQL: Final = """
INSERT INTO attempt (day, started_at, ended_at, tenant_id, delivery_key, endpoint_id, subscription_id, event_day,
    event_id, number, ended, created_at)
SELECT (clock.read_at AT TIME ZONE 'UTC')::date, clock.read_at, clock.read_at, tenant_id, delivery_key, endpoint_id,
    subscription_id, event_day, event_id, 0, 'cancelled', created_at
FROM (SELECT clock_timestamp() AS read_at OFFSET 0) AS clock, delivery WHERE id = ANY($1::bigint[]) AND NOT blocks
"""
_CANCEL_SQLITE: Final = """
INSERT INTO attempt (day, started_at, ended_at, tenant_id, delivery_key, endpoint_id, subscription_id, event_day,
    event_id, number, ended, created_at)
SELECT date(bucketpost_now() / 1000000, 'unixepoch'), bucketpost_now(), bucketpost_now(), tenant_id, delivery_key,
    endpoint_id, subscription_id, event_day, event_id, 0, 'cancelled', created_at
FROM delivery WHERE id IN (SELECT value FROM json_each(?1)) AND NOT blocks
"""
