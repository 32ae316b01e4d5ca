"""Cancelling what deleted subscriptions and endpoints owed: in slices, by the sweep, and by whom it is in the way of.

It may be a million, and it stands among what the lane owes through others: whoever looks at such a lane would walk over
it. So a look walks only so far (owed.py), and before it the lane's holder cancels what comes next.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, delete, exists, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Lease
from app.domain.ids import LaneId, SubscriptionId
from app.store import history, lanes
from app.store.columns import now, one_of
from app.store.database import Database
from app.store.in_order import unpark
from app.store.open_transactions import LONGEST_TRANSACTION_SECONDS
from app.store.outbox_schema import delivery, lane
from app.store.owed import walk_statement, walk_values
from app.store.schema import endpoint, subscription

CANCELLED_AT_ONCE: Final = 1_000
_SLICES_A_SWEEP: Final = 5
_LOOKED_AT_ONCE: Final = 50
# How long a lane's holder goes on before it looks for something else to do.
_AT_A_STRETCH_SECONDS: Final = 1.0
# How old the word may be that nothing is to be cancelled at all.
_ASKED_AGAIN_SECONDS: Final = 0.5


class Way:
    """What one replica's lanes do before they look at what they owe: nothing, mostly."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked_at = float("-inf")
        self._is_clear = True

    async def clear(self, lease: Lease) -> None:
        """Cancel what was deleted and is due next, until something that may be sent is, or for a second."""
        began_at = time.monotonic()
        if began_at - self._asked_at >= _ASKED_AGAIN_SECONDS:
            self._asked_at = began_at
            async with self._database.read() as connection:
                self._is_clear = (await connection.execute(owing_statement(limit=1))).first() is None
        while not self._is_clear and time.monotonic() - began_at < _AT_A_STRETCH_SECONDS:
            walk = walk_statement(self._database.dialect).limit(CANCELLED_AT_ONCE).subquery("walked")
            async with self._database.read() as connection:
                found = await connection.execute(select(walk.c.id).where(walk.c.is_cancelled), walk_values(lease))
                in_the_way = list(found.scalars())
            if not in_the_way:
                return
            count = await self._database.write_again(partial(_cancel_rows, row_ids=in_the_way))
            # Less is there, or the sweep is at some of it.
            if count < CANCELLED_AT_ONCE:
                return


async def cancel_what_was_deleted(database: Database, *, slice_rows: int = CANCELLED_AT_ONCE) -> None:
    """Cancel a few slices of what deleted subscriptions and endpoints owed, and note which owe nothing any more."""
    async with database.read() as connection:
        subscriptions = await _owing_subscriptions(connection)
        their_lanes = await _owing_lanes(connection)
    through = [
        *(delivery.c.lane_id == each for each in their_lanes),
        *(delivery.c.subscription_id == each for each in subscriptions),
    ]
    slices_left = _SLICES_A_SWEEP
    for owed_through in through:
        count = slice_rows
        while count == slice_rows and slices_left:
            count = await database.write_again(partial(_cancel_slice, owed_through=owed_through, rows=slice_rows))
            slices_left -= count == slice_rows
    async with database.read() as connection:
        is_any_emptied = await _is_any_emptied(connection)
    if is_any_emptied:
        async with database.write() as connection:
            await connection.execute(update(subscription).where(*_EMPTIED_SUBSCRIPTION).values(emptied_at=now()))
            await connection.execute(delete(lane).where(_EMPTIED_LANE))


def owing_statement(*, limit: int) -> Select[bytes]:
    """Build the search for deleted subscriptions through which something is owed; a test looks at its plan."""
    return (
        select(subscription.c.id)
        .where(subscription.c.deleted_at.is_not(None), subscription.c.emptied_at.is_(None), _SUBSCRIPTION_OWES)
        .order_by(subscription.c.deleted_at)
        .limit(limit)
    )


async def _owing_subscriptions(connection: AsyncConnection) -> Sequence[SubscriptionId]:
    found = await connection.execute(owing_statement(limit=_LOOKED_AT_ONCE))
    return [SubscriptionId(each) for each in found.scalars()]


async def _owing_lanes(connection: AsyncConnection) -> Sequence[LaneId]:
    # A subscription that was moved away from a deleted endpoint lives on, but what it owed there goes to nobody.
    found = await connection.execute(
        select(lane.c.id)
        .join(endpoint, endpoint.c.id == lane.c.endpoint_id)
        .where(endpoint.c.deleted_at.is_not(None), _LANE_OWES)
        .order_by(endpoint.c.deleted_at)
        .limit(_LOOKED_AT_ONCE)
    )
    return [LaneId(each) for each in found.scalars()]


async def _is_any_emptied(connection: AsyncConnection) -> bool:
    found = await connection.execute(
        select(or_(exists().where(*_EMPTIED_SUBSCRIPTION), select(lane.c.id).where(_EMPTIED_LANE).exists()))
    )
    return bool(found.scalar_one())


async def _cancel_rows(connection: AsyncConnection, *, row_ids: Sequence[int]) -> int:
    return await _cancel_slice(connection, owed_through=one_of(connection, delivery.c.id, row_ids))


async def _cancel_slice(
    connection: AsyncConnection, *, owed_through: ColumnElement[bool], rows: int = CANCELLED_AT_ONCE
) -> int:
    # First the lanes: a settle locks them first, too, and what waited for a row is woken under that lock.
    held = await connection.execute(
        select(delivery.c.lane_id).where(owed_through, delivery.c.order_key.is_not(None)).limit(rows)
    )
    held_lanes = {LaneId(each) for each in held.scalars()}
    await lanes.lock(connection, held_lanes)
    # One that is being settled is passed over: whichever of the two takes the row out ends the delivery.
    # In order only what the locked lanes owe: the other lanes' come with the next slice.
    is_reached = or_(delivery.c.order_key.is_(None), one_of(connection, delivery.c.lane_id, held_lanes))
    found = await connection.execute(
        select(delivery.c.id).where(owed_through, is_reached).limit(rows).with_for_update(skip_locked=True)
    )
    ids = list(found.scalars())
    if not ids:
        return 0
    # A million is moved within the database: handed back and forth it would take minutes.
    await history.append_cancelled(connection, ids)
    ended = delete(delivery).where(one_of(connection, delivery.c.id, ids))
    if held_lanes:
        in_order = await connection.execute(ended.returning(delivery.c.lane_id, delivery.c.order_key))
        await unpark(
            connection, {(LaneId(row.lane_id), row.order_key) for row in in_order if row.order_key is not None}
        )
    else:
        await connection.execute(ended)
    return len(ids)


# One look at the index for each that was deleted: an EXISTS may be turned into a join that reads all of the outbox.
_SUBSCRIPTION_OWES: Final = (
    select(literal(value=True))
    .where(delivery.c.subscription_id == subscription.c.id)
    .limit(1)
    .correlate(subscription)
    .scalar_subquery()
    .is_not(None)
)
_LANE_OWES: Final = (
    select(literal(value=True))
    .where(delivery.c.lane_id == lane.c.id)
    .limit(1)
    .correlate(lane)
    .scalar_subquery()
    .is_not(None)
)
# A batch matched before a subscription was deleted may still commit what it owes.
_EMPTIED_SUBSCRIPTION: Final = (
    subscription.c.deleted_at <= now(-LONGEST_TRANSACTION_SECONDS),
    subscription.c.emptied_at.is_(None),
    ~_SUBSCRIPTION_OWES,
)
_EMPTIED_LANE: Final = and_(
    exists()
    .where(endpoint.c.id == lane.c.endpoint_id, endpoint.c.deleted_at <= now(-LONGEST_TRANSACTION_SECONDS))
    .correlate(lane),
    ~_LANE_OWES,
)
