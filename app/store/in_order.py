"""Deliveries that go one after the other: those of one lane with the same order key.

By row, or with a window by turn (reordered.py).

What must wait is parked: its due time becomes that of the one before it, so that it is not read over and over. Whatever
takes one out of the way wakes those behind it, in the same transaction. Both happen while the lane is locked.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Lease
from app.domain.ids import LaneId, ReplicaId
from app.store import lanes
from app.store.owed import Parking

# How many behind one that is out of the way are woken at once; the last of them wakes the next.
WOKEN_AT_ONCE: Final = 64

OrderKeys = Collection[tuple[LaneId, int]]


async def park(connection: AsyncConnection, replica: ReplicaId, lease: Lease, parked: Sequence[Parking]) -> None:
    """Make deliveries due no sooner than those they wait for; does nothing when the lease is lost.

    In the order of the rows, so that a whole queue ends up with the time of its head.
    """
    if not await lanes.lock_held(connection, replica, lease):
        return
    in_order = sorted(parked, key=lambda each: each.row_id)
    statement = _PARK_POSTGRESQL if connection.dialect.name == "postgresql" else _PARK_SQLITE
    await connection.exec_driver_sql(statement, [(each.row_id, each.behind) for each in in_order])


async def unpark(connection: AsyncConnection, keys: OrderKeys) -> None:
    """Make those due now that come next for each order key. The lanes are locked."""
    if not keys:
        return
    is_postgresql = connection.dialect.name == "postgresql"
    statement = _UNPARK_POSTGRESQL if is_postgresql else _UNPARK_SQLITE
    await connection.exec_driver_sql(statement, [(lane_id, key, WOKEN_AT_ONCE) for lane_id, key in sorted(keys)])


_PARK_POSTGRESQL: Final = """
UPDATE delivery SET due_at = before.due_at FROM delivery AS before
WHERE delivery.id = $1 AND before.id = $2 AND before.due_at > delivery.due_at
"""
_PARK_SQLITE: Final = """
UPDATE delivery SET due_at = before.due_at FROM delivery AS before
WHERE delivery.id = ?1 AND before.id = ?2 AND before.due_at > delivery.due_at
"""
# Looked for by their place in the index of the order, from the lane's mark: see owed.py and low_water.py.
# A row that failed itself keeps its own time, and so do those behind it.
# So does one still in its window, which ends at `owed_at`: without a window that is never later than now.
_UNPARK_POSTGRESQL: Final = """
UPDATE delivery SET due_at = clock_timestamp()
WHERE id IN (
        SELECT id FROM delivery
        WHERE order_key IS NOT NULL AND (order_key, lane_id, id) <= ($2, $1, 9223372036854775807)
            AND (order_key, lane_id, id) >= ($2, $1, (SELECT low_id FROM lane WHERE id = $1))
        ORDER BY order_key, lane_id, id LIMIT $3
    )
    AND due_at > greatest(clock_timestamp(), owed_at) AND failures = 0 AND NOT blocks
"""
_UNPARK_SQLITE: Final = """
UPDATE delivery SET due_at = bucketpost_now()
WHERE id IN (SELECT id FROM delivery WHERE lane_id = ?1 AND order_key = ?2 ORDER BY id LIMIT ?3)
    AND due_at > max(bucketpost_now(), owed_at) AND failures = 0 AND NOT blocks
"""
