"""What is past the retention goes, unless a delivery still owed or a dead letter needs it.

Days are dropped whole on PostgreSQL; the sentinel day, and everything on SQLite, goes in slices by arrival. No
statement deletes more than a slice, each in a transaction of its own. Nothing is recorded under days that are past it;
a replay that owes such an event anew at that very moment finds it gone.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    CompoundSelect,
    LargeBinary,
    column,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    union,
    union_all,
    values,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.identity import keys_of_event
from app.domain.ids import LaneId, TenantId
from app.store.columns import Instant, now, one_of
from app.store.days import SENTINEL, today
from app.store.outbox_schema import attempt, dead_letter, delivery, event, high_water, lane, pulse, quarantine
from app.store.place import Place
from app.store.schema import api_key, endpoint, idempotency_record, replay, source, subscription, tenant

SLICE: Final = 1_000
# Any age will do past which nobody believes a pulse.
PULSE_SECONDS: Final = 3_600.0
_DAY_HOURS: Final = 24
_HOUR_SECONDS: Final = 3_600.0


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
    return await _delete_oldest(connection, dead_letter.c.delivery_key, dead_letter.c.ended_at, retention_days)


async def delete_old_quarantine(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of what was last seen before the retention. Gives how many."""
    return await _delete_oldest(connection, quarantine.c.id, quarantine.c.last_seen_at, retention_days)


async def delete_old_idempotency_records(connection: AsyncConnection, retention_hours: int) -> int:
    """Delete a slice of the requests remembered for longer than the retention. Gives how many."""
    its = idempotency_record.c
    old = select(its.tenant_id, its.key).where(its.made_at < _before_hours(retention_hours)).order_by(its.made_at)
    # Asked again of the row itself: one begun anew meanwhile stays.
    gone = delete(idempotency_record).where(
        tuple_(its.tenant_id, its.key).in_(old.limit(SLICE)), its.made_at < _before_hours(retention_hours)
    )
    return (await connection.execute(gone)).rowcount


async def delete_old_marks(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the high-water marks that no event kept can be older than. Gives how many."""
    is_old = high_water.c.updated_at < _before(retention_days)
    old = select(*_MARK).where(is_old).order_by(high_water.c.updated_at).limit(SLICE)
    # Asked again of the row itself: one that rises meanwhile stays.
    return (await connection.execute(delete(high_water).where(tuple_(*_MARK).in_(old), is_old))).rowcount


async def delete_marks_of_no_lane(connection: AsyncConnection, after: LaneId) -> LaneId | None:
    """Delete the high-water marks of the next lane that has any, if that lane is gone; gives it, None at the end."""
    following = select(high_water.c.lane_id).where(high_water.c.lane_id > after)
    lane_id = (await connection.execute(following.order_by(high_water.c.lane_id).limit(1))).scalar()
    if lane_id is None:
        return None
    if (await connection.execute(select(lane.c.id).where(lane.c.id == lane_id))).first() is None:
        some = select(*_MARK).where(high_water.c.lane_id == lane_id).limit(SLICE)
        deleted = await connection.execute(delete(high_water).where(tuple_(*_MARK).in_(some)))
        return LaneId(lane_id) if deleted.rowcount < SLICE else after
    return LaneId(lane_id)


async def tenants(connection: AsyncConnection) -> Sequence[TenantId]:
    """Give every tenant: events are found by arrival within one."""
    return [TenantId(each) for each in (await connection.execute(select(tenant.c.id))).scalars()]


async def old_events(
    connection: AsyncConnection, tenant_id: TenantId, retention_days: int, *, after: Place | None
) -> Sequence[Place]:
    """Find the next slice of a tenant's events that came before the retention, and that no day is dropped with."""
    found = select(event.c.recorded_at, event.c.id).where(
        event.c.tenant_id == tenant_id, event.c.recorded_at < _before(retention_days), _is_pruned_by_arrival(connection)
    )
    if after is not None:
        place = tuple_(literal(after.at, Instant()), literal(after.id, event.c.id.type))
        found = found.where(tuple_(event.c.recorded_at, event.c.id) > place)
    rows = await connection.execute(found.order_by(event.c.recorded_at, event.c.id).limit(SLICE))
    return [Place(at=row.recorded_at, id=row.id) for row in rows]


async def delete_events(connection: AsyncConnection, tenant_id: TenantId, ids: Sequence[bytes]) -> None:
    """Delete events that old_events found, but for those that a delivery still owed or a dead letter needs."""
    needed = set((await connection.execute(needed_statement(ids))).scalars())
    await connection.execute(
        delete(event).where(
            event.c.tenant_id == tenant_id,
            one_of(connection, event.c.id, [each for each in ids if each not in needed]),
            _is_pruned_by_arrival(connection),
        )
    )


def needed_statement(ids: Iterable[bytes]) -> CompoundSelect[Any]:
    """Build the search for events that something needs, by the keys that may be theirs; a test looks at its plan."""
    asked = (
        values(column("lowest", LargeBinary), column("highest", LargeBinary), name="these")
        .data(sorted({keys_of_event(each) for each in ids}))
        .cte("asked")
    )
    return union(
        *(
            select(table.c.event_id)
            .select_from(asked)
            .join(table, table.c.delivery_key.between(asked.c.lowest, asked.c.highest))
            for table in (delivery, dead_letter)
        )
    )


async def delete_old_attempts(connection: AsyncConnection, before: date) -> int:
    """Delete a slice of the history before a day, which comes first; SQLite only. Gives how many."""
    first = await connection.execute(select(_ROW, attempt.c.day).select_from(attempt).order_by(_ROW).limit(SLICE))
    old = [row.rowid for row in first if row.day < before]
    await connection.execute(delete(attempt).where(_ROW.in_(old)))
    return len(old)


async def delete_old_pulses(connection: AsyncConnection, seconds: float) -> int:
    """Delete a slice of what replicas measured that are gone. Gives how many."""
    whose = tuple_(pulse.c.source_id, pulse.c.replica_id)
    old = select(pulse.c.source_id, pulse.c.replica_id).where(pulse.c.seen_at < now(-seconds)).limit(SLICE)
    return (await connection.execute(delete(pulse).where(whose.in_(old)))).rowcount


async def delete_old_replays(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the replays that ended before the retention. Gives how many."""
    return await _delete_slice(connection, replay.c.id, replay.c.ended_at < _before(retention_days))


async def delete_old_subscriptions(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the subscriptions deleted long ago, through which nothing is owed. Gives how many."""
    return await _delete_slice(connection, subscription.c.id, subscription.c.emptied_at < _before(retention_days))


async def delete_old_endpoints(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the endpoints deleted long ago, secrets included, whose lane is gone. Gives how many."""
    has_lane = exists().where(lane.c.endpoint_id == endpoint.c.id)
    return await _delete_slice(connection, endpoint.c.id, endpoint.c.deleted_at < _before(retention_days), ~has_lane)


async def delete_old_sources(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the sources deleted long ago, of which nothing is in quarantine. Gives how many."""
    has_kept = exists().where(quarantine.c.source_id == source.c.id)
    return await _delete_slice(connection, source.c.id, source.c.deleted_at < _before(retention_days), ~has_kept)


async def delete_old_keys(connection: AsyncConnection, retention_days: int) -> int:
    """Delete a slice of the keys revoked long ago. Gives how many.

    Not the newest of all: where there never was a key the next start makes one.
    """
    newer = api_key.alias("newer")
    is_newest = ~exists().where(newer.c.created_at > api_key.c.created_at)
    return await _delete_slice(connection, api_key.c.id, api_key.c.revoked_at < _before(retention_days), ~is_newest)


async def _delete_oldest(
    connection: AsyncConnection, key: Column[bytes], moment: Column[datetime], retention_days: int
) -> int:
    # In the order of its index, so that no more is read than goes.
    old = select(key).where(moment < _before(retention_days)).order_by(moment).limit(SLICE)
    return (await connection.execute(delete(key.table).where(key.in_(old)))).rowcount


async def _delete_slice(connection: AsyncConnection, key: Column[bytes], *conditions: ColumnElement[bool]) -> int:
    old = select(key).where(*conditions).limit(SLICE)
    return (await connection.execute(delete(key.table).where(key.in_(old)))).rowcount


def _before(retention_days: int) -> ColumnElement[datetime]:
    return _before_hours(retention_days * _DAY_HOURS)


def _before_hours(retention_hours: int) -> ColumnElement[datetime]:
    # Read once a statement: PostgreSQL compares no index with a moving clock.
    return select(now(-retention_hours * _HOUR_SECONDS)).scalar_subquery()


async def _first_day_kept(connection: AsyncConnection, retention_days: int) -> date:
    # A day more than the store files under: batches that still file under the last one are over by then.
    return await today(connection) - timedelta(days=retention_days + 1)


def _is_pruned_by_arrival(connection: AsyncConnection) -> ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        return event.c.event_day == SENTINEL
    return event.c.event_day >= SENTINEL


_ROW: Final = literal_column("attempt.rowid", attempt.c.number.type).label("rowid")
_MARK: Final = (high_water.c.lane_id, high_water.c.order_key, high_water.c.family)
