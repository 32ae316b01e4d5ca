"""What is past the retention goes, unless a delivery still owed or a dead letter needs it.

Days are dropped whole on PostgreSQL; the sentinel day, and everything on SQLite, goes in slices by arrival. What was
found to be past it stays so: nothing is recorded under those days, and only a dead letter owes a delivery anew.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import (
    Column,
    ColumnElement,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import EventId
from app.store.columns import now, one_of
from app.store.days import SENTINEL, today
from app.store.schema import attempt, dead_letter, delivery, event, high_water, lane, quarantine, tenant

SLICE: Final = 1_000
_DAY_SECONDS: Final = 86_400.0


async def expired_event_days(connection: AsyncConnection, there: Iterable[date], retention_days: int) -> list[date]:
    """Tell which days of events may go: nobody files anything under them any more, and nothing owed needs them."""
    before = await _first_day_kept(connection, retention_days)
    needed = union(
        select(delivery.c.event_day).where(delivery.c.event_day < before),
        select(dead_letter.c.event_day).where(dead_letter.c.event_day < before),
    )
    needed_days = set((await connection.execute(needed)).scalars())
    return sorted(day for day in there if day < before and day not in needed_days)


async def first_attempt_day_kept(connection: AsyncConnection, retention_days: int) -> date:
    """Tell the first day of the history to keep: the retention's, or that of the oldest delivery not over yet."""
    not_over = union_all(
        select(func.min(delivery.c.created_at).label("created_at")).where(delivery.c.tries > 0),
        select(func.min(dead_letter.c.created_at).label("created_at")),
    ).subquery()
    oldest: datetime | None = (await connection.execute(select(func.min(not_over.c.created_at)))).scalar()
    before = await _first_day_kept(connection, retention_days)
    return before if oldest is None else min(before, oldest.date())


async def delete_old_dead_letters(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of what was given up before the retention; how it ended stays in the history. Gives how many."""
    return await _delete_slice(connection, dead_letter.c.delivery_key, dead_letter.c.ended_at, retention_days)


async def delete_old_quarantine(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of what was last seen before the retention. Gives how many."""
    return await _delete_slice(connection, quarantine.c.id, quarantine.c.last_seen_at, retention_days)


async def delete_old_marks(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the marks that no event kept can be older than, or whose lane is gone. Gives how many."""
    mark = tuple_(high_water.c.lane_id, high_water.c.order_key, high_water.c.family)
    old = (
        select(high_water.c.lane_id, high_water.c.order_key, high_water.c.family)
        .where(
            or_(
                high_water.c.updated_at < now(-retention_days * _DAY_SECONDS),
                ~exists().where(lane.c.id == high_water.c.lane_id),
            )
        )
        .limit(SLICE)
    )
    deleted = await connection.execute(delete(high_water).where(mark.in_(old)))
    return deleted.rowcount


async def old_events(connection: AsyncConnection, retention_days: int) -> Sequence[EventId]:
    """Find a slice of events that came before the retention and that nothing needs."""
    found = await connection.execute(
        select(event.c.id)
        .where(
            event.c.tenant_id.in_(select(tenant.c.id)),
            event.c.recorded_at < now(-retention_days * _DAY_SECONDS),
            _is_pruned_by_arrival(connection),
            _is_needed_by_nothing(connection),
        )
        .limit(SLICE)
    )
    return [EventId(each) for each in found.scalars()]


async def delete_events(connection: AsyncConnection, ids: Sequence[EventId]) -> None:
    """Delete events that old_events found."""
    await connection.execute(
        delete(event).where(
            event.c.tenant_id.in_(select(tenant.c.id)),
            one_of(connection, event.c.id, ids),
            _is_pruned_by_arrival(connection),
        )
    )


async def old_attempts(connection: AsyncConnection, before: date) -> Sequence[int]:
    """Find a slice of the history before a day; SQLite only."""
    found = await connection.execute(select(_ROW).select_from(attempt).where(attempt.c.day < before).limit(SLICE))
    return list(found.scalars())


async def delete_attempts(connection: AsyncConnection, rows: Sequence[int]) -> None:
    """Delete rows that old_attempts found; SQLite only."""
    await connection.execute(delete(attempt).where(_ROW.in_(rows)))


async def _delete_slice(
    connection: AsyncConnection, key: Column[bytes], moment: Column[datetime], retention_days: int
) -> int:
    old = select(key).where(moment < now(-retention_days * _DAY_SECONDS)).limit(SLICE)
    deleted = await connection.execute(delete(key.table).where(key.in_(old)))
    return deleted.rowcount


async def _first_day_kept(connection: AsyncConnection, retention_days: int) -> date:
    # A day more than the store files under: batches that still file under the last one are over by then.
    return await today(connection) - timedelta(days=retention_days + 1)


def _is_pruned_by_arrival(connection: AsyncConnection) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        return event.c.event_day == SENTINEL
    return event.c.event_day >= SENTINEL


def _is_needed_by_nothing(connection: AsyncConnection) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        return ~exists().where(delivery.c.event_id == event.c.id) & ~exists().where(
            dead_letter.c.event_id == event.c.id
        )
    # No index by event: SQLite then builds one of this set once, but looks through the whole table for each EXISTS.
    return event.c.id.not_in(union(select(delivery.c.event_id), select(dead_letter.c.event_id)))


_ROW: Final = literal_column("attempt.rowid", attempt.c.number.type)
