"""Deliveries that are too old: those nobody tries, because their endpoint is paused, disabled or behind a breaker.

One that is tried ends by its verdict. Rows are numbered in the order they were owed, so the outbox is walked by number,
a slice at a time, from its oldest row to the first that no endpoint would call old.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import LaneId
from app.store import history, lanes
from app.store.columns import now, one_of
from app.store.history import DEBT_COLUMNS, Attempt, debt_of
from app.store.in_order import unpark
from app.store.schema import delivery, endpoint
from app.store.settle import bury

LOOKED_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What a slice of the walk came to: how many it ended, its first row, and the row to go on after.

    `first` is None where there was no row; `last` is 0 at the end of the walk.
    """

    ended: int
    first: int | None
    last: int


async def expire(connection: AsyncConnection, *, after: int) -> Walk:
    """End what is too old among the next rows."""
    youngest = select(func.min(endpoint.c.max_age_seconds)).where(endpoint.c.deleted_at.is_(None)).scalar_subquery()
    seen = await connection.execute(
        select(
            delivery.c.id,
            delivery.c.lane_id,
            (delivery.c.owed_at < now(-endpoint.c.max_age_seconds)).label("is_old"),
            (delivery.c.owed_at < now(-youngest)).label("may_be_old"),
        )
        .join(endpoint, endpoint.c.id == delivery.c.endpoint_id)
        .where(delivery.c.id > after, delivery.c.blocks.is_(False))
        .order_by(delivery.c.id)
        .limit(LOOKED_AT_ONCE)
    )
    rows = list(seen)
    old = [row for row in rows if row.is_old]
    if old:
        await _end(connection, {LaneId(row.lane_id) for row in old}, [row.id for row in old])
    is_over = len(rows) < LOOKED_AT_ONCE or not rows[-1].may_be_old
    return Walk(ended=len(old), first=rows[0].id if rows else None, last=0 if is_over else rows[-1].id)


async def _end(connection: AsyncConnection, their_lanes: set[LaneId], ids: list[int]) -> None:
    # First the lanes, as everywhere. Whoever takes the row out, this or a settle, ends the delivery.
    await lanes.lock(connection, their_lanes)
    taken = list(
        await connection.execute(
            delete(delivery)
            .where(one_of(connection, delivery.c.id, ids))
            .returning(delivery.c.lane_id, delivery.c.order_key, *DEBT_COLUMNS)
        )
    )
    await bury(
        connection,
        [
            {
                **{column.name: getattr(row, column.name) for column in DEBT_COLUMNS},
                "lane_id": row.lane_id,
                "order_key": row.order_key,
                "reason": "expired",
            }
            for row in taken
        ],
    )
    await history.append(
        connection, [Attempt(debt=debt_of(row), outcome=None, ended="dead", reason="expired") for row in taken]
    )
    await unpark(connection, {(LaneId(row.lane_id), int(row.order_key)) for row in taken if row.order_key is not None})
