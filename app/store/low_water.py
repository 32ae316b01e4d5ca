"""The low-water marks of a lane: the places in its indexes below which it owes nothing, kept in its row.

Deliveries that are over leave entries in the indexes. They are swept up as readers pass, but not while somebody holds
an old snapshot open: then every look at a lane would walk all that it ever delivered. So looks begin at a mark. What is
below it and still owed would not be seen, so a mark must never be above that.

**By due time** (`low_due`, and `low_due_id` among equals): set whenever a lease is prolonged or a lane lies down, to
the oldest that the lane still owes, whoever may have it, and never above the beginning of the transaction less
`LATE_SECONDS`. Whoever makes something due makes it due at that moment of the clock or later, or leaves its due time as
it was. So what turns up below the mark was written more than `LATE_SECONDS` before the mark was set, by a transaction
that had still not ended. For that one, and for a clock that was set back, the sweep looks below the marks and lowers
them: a little each second, as far as a transaction can last now and then, and without end for a few lanes a second, in
turn. Such a delivery is
late by a second then, mostly, and not lost.

**By number** (`low_id`), for lanes that keep an order: what a delivery must come after is looked for among lower
numbers, and an answer that comes a second later would be an order broken. So no clock is asked. The highest number that
a settle took out (`next_low_id`) was given out before the settle's transaction had its own (`next_low_xid`), and so was
every lower number, to a transaction that had its own before. Once all those have ended, and the number of the
oldest that is in progress tells, nothing can turn up below `next_low_id` any more: the mark goes up to it, or to the
oldest number that the lane still owes. SQLite keeps nothing of what is deleted, and has no such numbers: there the mark
stays where it began.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, ScalarSelect, Select, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import LaneId
from app.store.columns import EPOCH, began, none_of_named
from app.store.outbox_schema import delivery, lane

LATE_SECONDS: Final = 1.0
# What a new lane begins with.
NO_MARK: Final[Mapping[str, Any]] = {
    "low_due": EPOCH,
    "low_due_id": 0,
    "low_id": 0,
    "next_low_id": 0,
    "next_low_xid": 0,
}


def not_below(lane_id: BindParameter[int]) -> ColumnElement[bool]:
    """Keep a look at what a lane owes, by due time, above its mark, which is read once a statement."""
    mark = select(lane.c.low_due, lane.c.low_due_id).where(lane.c.id == lane_id).scalar_subquery()
    # PostgreSQL takes a subquery of two columns on the right hand only.
    return _PLACE >= mark  # noqa: SIM300


def low_id_of(lane_id: ColumnElement[int]) -> ScalarSelect[int]:
    """Read the mark by number of a lane."""
    return select(lane.c.low_id).where(lane.c.id == lane_id).scalar_subquery()


def first_due() -> ScalarSelect[datetime]:
    """Find when the first delivery of the lane of the enclosing statement is due: one look at the index."""
    return _oldest(delivery.c.due_at, _PLACE >= _MARK)


def raised(dialect: str, *, leave_out: str | None = None) -> dict[str, ColumnElement[Any]]:
    """Give the new mark of the lane that is being updated; the parameter `leave_out` names rows about to be deleted."""
    ceiling = began(-LATE_SECONDS)
    owed = [_PLACE >= _MARK, delivery.c.due_at < ceiling]
    if leave_out is not None:
        owed.append(none_of_named(dialect, delivery.c.id, leave_out))
    return {
        "low_due": func.coalesce(_oldest(delivery.c.due_at, *owed), ceiling),
        "low_due_id": func.coalesce(_oldest(delivery.c.id, *owed), 0),
    }


def below_statement(*, seconds: float | None, lanes: Collection[LaneId] | None = None) -> Select[int, datetime, int]:
    """Build the search for lanes that owe something below their mark, each with the place of the oldest.

    Of the last so many seconds, and so only of lanes whose mark is that young; None: of all times. `lanes`: only these.
    """
    below = [_PLACE < _MARK]
    if seconds is not None:
        below.append(delivery.c.due_at >= began(-seconds))
    oldest = _oldest(delivery.c.due_at, *below)
    found = select(lane.c.id, oldest.label("due_at"), _oldest(delivery.c.id, *below).label("due_id"))
    found = found.where(oldest.is_not(None)).order_by(lane.c.id)
    if lanes is not None:
        found = found.where(lane.c.id.in_(lanes))
    return found if seconds is None else found.where(lane.c.low_due >= began(-seconds))


async def lower(connection: AsyncConnection, lane_id: LaneId, due_at: datetime, due_id: int) -> None:
    """Take a mark down to something that is owed below it."""
    await connection.execute(
        update(lane).where(lane.c.id == lane_id, lane.c.low_due >= due_at).values(low_due=due_at, low_due_id=due_id)
    )


async def raise_numbers(connection: AsyncConnection, taken_out: Mapping[LaneId, int]) -> None:
    """Raise marks by number; for locked lanes that keep an order, each with the highest row that ended."""
    if taken_out and connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(_RAISE_NUMBERS, (list(taken_out), list(taken_out.values())))


_PLACE: Final = tuple_(delivery.c.due_at, delivery.c.id)
_MARK: Final = tuple_(lane.c.low_due, lane.c.low_due_id)
_RAISE_NUMBERS: Final = """
UPDATE lane SET
    low_id = least(next_low_id, (
        SELECT delivery.id FROM delivery
        WHERE delivery.order_key IS NOT NULL
            AND (delivery.endpoint_id, delivery.lane_id, delivery.id) >= (lane.endpoint_id, lane.id, lane.low_id)
            AND (delivery.endpoint_id, delivery.lane_id, delivery.id) <= (lane.endpoint_id, lane.id, lane.next_low_id)
        ORDER BY delivery.endpoint_id, delivery.lane_id, delivery.id LIMIT 1
    )),
    next_low_id = taken_out.id + 1,
    next_low_xid = pg_current_xact_id()::text::bigint
FROM unnest($1::bigint[], $2::bigint[]) AS taken_out (lane_id, id)
WHERE lane.id = taken_out.lane_id AND lane.next_low_xid <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint
"""


def _oldest(column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    return (
        select(column)
        .where(delivery.c.lane_id == lane.c.id, *conditions)
        .order_by(delivery.c.due_at, delivery.c.id)
        .limit(1)
        .correlate(lane)
        .scalar_subquery()
    )
