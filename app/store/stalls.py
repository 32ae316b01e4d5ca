"""Sources that stalled: `failing` for a while, or with what they bring waiting for too long. Told once each time.

A stall ends by the sign it began with: the source is `ok`, and where it was late, a fresh measure says that it is not
any more.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import SourceId, TenantId
from app.store import operator_events
from app.store.columns import now, one_of
from app.store.database import Database
from app.store.operator_events import Stall
from app.store.outbox_schema import pulse
from app.store.patience import Patience
from app.store.pulse import FRESH_SECONDS
from app.store.schema import source

LOOKED_AT_ONCE: Final = 50
_FAILING: Final = "failing"
_LATE: Final = "late"


async def look_for_stalls(database: Database, patience: Patience) -> None:
    """Note what stalled and tell of it, and forget the stalls that are over; some at a time."""
    async with database.read() as connection:
        stalled = [SourceId(row.id) for row in await connection.execute(_stalled(patience).limit(LOOKED_AT_ONCE))]
        over = list((await connection.execute(_over(patience).limit(LOOKED_AT_ONCE))).scalars())
    if stalled:
        await database.write_again(lambda connection: _begin(connection, stalled, patience))
    if over:
        async with database.write() as connection:
            await connection.execute(
                update(source).where(one_of(connection, source.c.id, over)).values(stalled_at=None, stalled_by=None)
            )


async def _begin(connection: AsyncConnection, ids: list[SourceId], patience: Patience) -> None:
    found = await connection.execute(
        _stalled(patience)
        .where(one_of(connection, source.c.id, ids))
        .order_by(source.c.id)
        .with_for_update(of=source, key_share=True, skip_locked=True)
    )
    rows = {row.id: row for row in found}
    begun = await connection.execute(
        update(source)
        .where(one_of(connection, source.c.id, list(rows)))
        .values(stalled_at=now(), stalled_by=case((_is_failing(patience), _FAILING), else_=_LATE))
        .returning(source.c.id, source.c.stalled_at)
    )
    await operator_events.tell_of_stalls(
        connection,
        [
            Stall(
                tenant_id=TenantId(rows[row.id].tenant_id),
                source_id=SourceId(row.id),
                name=rows[row.id].name,
                reason=_reason(rows[row.id], patience),
                at=row.stalled_at,
            )
            for row in begun
        ],
    )


def _reason(row: Row[Any], patience: Patience) -> str:
    if row.is_failing:
        return f"It has been failing for {patience.stalled_after_seconds:g} s: {row.last_error}"
    return f"What it brings has waited for {row.oldest_seconds:.0f} s."


def _stalled(patience: Patience) -> Select[Any]:
    return select(
        source.c.id,
        source.c.tenant_id,
        source.c.name,
        source.c.last_error,
        _is_failing(patience).label("is_failing"),
        _oldest().label("oldest_seconds"),
    ).where(
        source.c.deleted_at.is_(None),
        source.c.is_paused.is_(False),
        source.c.stalled_at.is_(None),
        or_(_is_failing(patience), _oldest() > patience.stalled_age_seconds),
    )


def _over(patience: Patience) -> Select[Any]:
    # A sign that is missing is no good sign: a process that starts anew has measured nothing yet.
    return select(source.c.id).where(
        source.c.stalled_at.is_not(None),
        source.c.state == "ok",
        or_(
            _oldest() <= patience.stalled_age_seconds,
            and_(source.c.stalled_by == _FAILING, _oldest().is_(None)),
        ),
    )


def _is_failing(patience: Patience) -> ColumnElement[bool]:
    return func.coalesce(source.c.failing_since < now(-patience.stalled_after_seconds), False)


def _oldest() -> ColumnElement[float]:
    """Find what waited longest, as replicas measured it lately; NULL where nobody could tell."""
    return (
        select(func.max(pulse.c.oldest_seconds))
        .where(pulse.c.source_id == source.c.id, pulse.c.seen_at > now(-FRESH_SECONDS))
        .correlate(source)
        .scalar_subquery()
    )
