"""Deliveries that are too old: those nobody tries, because their endpoint is paused, disabled or behind a breaker.

One whose turn comes is ended by its lane's holder, before a try or by the verdict on one. The others are looked for
lane by lane, so that no lane waits for what another owes, and in the order they are due. What was never tried is due
since it is owed: in its lane the oldest comes first, and is ended by the next sweep. What was put off meanwhile, or
stands behind such a one, is somewhere behind those: lanes that are behind are walked for it, a slice each, in turn.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Row, Select, and_, delete, exists, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import StoreUnavailable
from app.domain.ids import LaneId
from app.store import history, lanes, low_water
from app.store.columns import FAR, Instant, now, one_of
from app.store.database import Database
from app.store.history import DEBT_COLUMNS, Attempt, debt_of
from app.store.in_order import unpark
from app.store.outbox_schema import delivery, lane
from app.store.schema import endpoint
from app.store.settle import bury

LOOKED_AT_ONCE: Final = 1_000
# In one sweep: so many lanes, so many full slices of what is old, and of what may be.
_LANES: Final = 50
_SLICES: Final = 5
_WALKED_SLICES: Final = 2
# One whose mark is younger has nothing that waits for long.
_BEHIND_SECONDS: Final = 60.0

_Due = tuple[datetime, int]

_log = structlog.get_logger(__name__)


class Expiry:
    """One replica's part: how far it has come with which lane. Another begins anew, and ends the same."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ended_to = LaneId(0)
        self._walked_to = LaneId(0)
        self._places: dict[LaneId, _Due] = {}

    async def run(self) -> None:
        """End what is found in a few slices."""
        try:
            await self._end_oldest()
            await self._walk_on()
        except StoreUnavailable as error:
            # Where a snapshot keeps millions of dead entries, a look may take too long: the next lanes have their turn.
            _log.warning("delivery.unexpired", error=str(error))

    async def _end_oldest(self) -> None:
        found = await self._read(overdue_statement(after=self._ended_to))
        slices_left = _SLICES
        for row in found:
            self._ended_to = LaneId(row.id)
            is_more = True
            while is_more and slices_left:
                seen = await self._expire(LaneId(row.id), (row.low_due, row.low_due_id))
                is_more = len(seen) == LOOKED_AT_ONCE and seen[-1].is_old
                slices_left -= is_more
            if not slices_left:
                break
        if _is_round_over(found, self._ended_to):
            self._ended_to = LaneId(0)

    async def _walk_on(self) -> None:
        found = await self._read(behind_statement(after=self._walked_to))
        slices_left = _WALKED_SLICES
        for row in found:
            lane_id, mark = LaneId(row.id), (row.low_due, row.low_due_id)
            self._walked_to = lane_id
            seen = await self._expire(lane_id, max(mark, self._places.pop(lane_id, mark)))
            if len(seen) == LOOKED_AT_ONCE:
                self._places[lane_id] = (seen[-1].due_at, seen[-1].id + 1)
                slices_left -= 1
            if not slices_left:
                break
        if _is_round_over(found, self._walked_to):
            self._walked_to = LaneId(0)

    async def _expire(self, lane_id: LaneId, after: _Due) -> Sequence[Row[Any]]:
        """End what is too old in a slice of what a lane owes; gives all that stands there."""
        seen = await self._read(slice_statement(lane_id, after))
        old = [row.id for row in seen if row.is_old]
        if old:
            await self._database.write_again(partial(end_old, lane_id=lane_id, ids=old))
        return seen

    async def _read(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        async with self._database.read() as connection:
            return list(await connection.execute(statement))


def overdue_statement(*, after: LaneId) -> Select[Any]:
    """Build the search for lanes whose delivery that was due first is too old; a test looks at its plan."""
    # A mark is never above it: most lanes are ruled out without a look at what they owe.
    is_old_enough = lane.c.low_due < now(-endpoint.c.max_age_seconds)
    return _lanes(after).where(is_old_enough, low_water.first_due() < now(-endpoint.c.max_age_seconds))


def behind_statement(*, after: LaneId) -> Select[Any]:
    """Build the search for lanes that owe something for longer, or may keep it back for ever; likewise."""
    is_behind = or_(lane.c.low_due < now(-_BEHIND_SECONDS), endpoint.c.on_dead == "block")
    return _lanes(after).where(is_behind, low_water.first_due().is_not(None))


def slice_statement(lane_id: LaneId, after: _Due) -> Select[Any]:
    """Build the look at what a lane owes from a place on; likewise."""
    max_age = select(endpoint.c.max_age_seconds).join(lane, lane.c.endpoint_id == endpoint.c.id)
    place = tuple_(literal(after[0], Instant()), literal(after[1]))
    return (
        select(
            delivery.c.id,
            delivery.c.due_at,
            (
                ~delivery.c.blocks & (delivery.c.owed_at < now(-max_age.where(lane.c.id == lane_id).scalar_subquery()))
            ).label("is_old"),
        )
        .where(delivery.c.lane_id == lane_id, tuple_(delivery.c.due_at, delivery.c.id) >= place)
        .order_by(delivery.c.due_at, delivery.c.id)
        .limit(LOOKED_AT_ONCE)
    )


async def end_old(connection: AsyncConnection, *, lane_id: LaneId, ids: Sequence[int]) -> None:
    """End deliveries of a lane that are too old, as far as they still are."""
    # First the lane, as everywhere. Whoever takes the row out, this or a settle, ends the delivery.
    await lanes.lock(connection, {lane_id})
    max_age = select(endpoint.c.max_age_seconds).where(endpoint.c.id == delivery.c.endpoint_id).scalar_subquery()
    are_old = and_(
        one_of(connection, delivery.c.id, ids),
        delivery.c.blocks.is_(False),
        delivery.c.owed_at < now(-max_age),  # one may have been owed anew since it was looked at
    )
    of_dead = (delivery.c.lane_id, delivery.c.order_key, *DEBT_COLUMNS)
    # As any death there: what comes after it waits until somebody sees to it.
    stay = list(
        await connection.execute(
            update(delivery).where(are_old, _BLOCKS).values(blocks=True, due_at=FAR).returning(*of_dead)
        )
    )
    gone = list(await connection.execute(delete(delivery).where(are_old).returning(*of_dead)))
    taken = [*stay, *gone]
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
    await unpark(connection, {(LaneId(row.lane_id), int(row.order_key)) for row in gone if row.order_key is not None})
    # A stopped lane has no holder who would do it: the next look would walk over what was taken out.
    await connection.execute(
        update(lane).where(lane.c.id == lane_id).values(**low_water.raised(connection.dialect.name))
    )


# Within a reorder window only one that was tried, and so had its turn: what is older may still have to go before it.
_BLOCKS: Final = and_(
    delivery.c.order_key.is_not(None),
    or_(delivery.c.place.is_(None), delivery.c.failures > 0),
    exists().where(
        endpoint.c.id == delivery.c.endpoint_id, endpoint.c.ordering != "none", endpoint.c.on_dead == "block"
    ),
)


def _is_round_over(found: Sequence[Row[Any]], done_to: LaneId) -> bool:
    return len(found) < _LANES and (not found or done_to == found[-1].id)


def _lanes(after: LaneId) -> Select[Any]:
    return (
        select(lane.c.id, lane.c.low_due, lane.c.low_due_id)
        .join(endpoint, endpoint.c.id == lane.c.endpoint_id)
        .where(endpoint.c.deleted_at.is_(None), lane.c.id > after)
        .order_by(lane.c.id)
        .limit(_LANES)
    )
