"""Deliveries that go one after the other: those of one lane with the same order key.

By row, or with a window by turn (reordered.py).

What is due and must wait is parked: it is due no more until whatever takes one of its key out of the way makes the
first ones due, in the same transaction. So what stands behind one that fails is walked once, however often that fails.
Both happen while the lane is locked, and of each key one that is not parked stays: the first, or the one whose turn it
is. Nothing else would ever wake the others.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import AT_HAND_LIMIT, Lease
from app.domain.ids import LaneId, ReplicaId
from app.store import lanes
from app.store.columns import FAR, as_json, microseconds

# How many behind one that is out of the way are woken at once; the last of them wakes the next. No more than a lane
# takes of one object, or what is woken would be parked anew.
WOKEN_AT_ONCE: Final = AT_HAND_LIMIT
# How many rows one transaction parks at most, of all objects together: the lane is locked for so long.
PARKED_AT_ONCE: Final = 2_000

OrderKeys = Collection[tuple[LaneId, int]]


async def park_in_line(
    connection: AsyncConnection, replica: ReplicaId, lease: Lease, waiting: Mapping[int, int]
) -> bool:
    """Park of each order key what is due from a row on, unless that is the first; False when the lease is lost.

    Not all of a long queue: the next look finds the rest.
    """
    if not await lanes.lock_held(connection, replica, lease):
        return False
    wake, park = _IN_LINE[connection.dialect.name]
    far, share = _far(connection), max(1, PARKED_AT_ONCE // len(waiting))
    keys = sorted(waiting)
    await connection.exec_driver_sql(wake, [(lease.lane_id, key, far) for key in keys])
    await connection.exec_driver_sql(park, [(lease.lane_id, key, waiting[key], share - 1, far) for key in keys])
    return True


async def park_by_turn(
    connection: AsyncConnection, replica: ReplicaId, lease: Lease, waiting: Mapping[int, Sequence[int]]
) -> bool:
    """Park rows behind the one they wait for, as long as that is there; False when the lease is lost."""
    if not await lanes.lock_held(connection, replica, lease):
        return False
    wake, park = _BY_TURN[connection.dialect.name]
    far = _far(connection)
    heads = sorted(waiting)
    await connection.exec_driver_sql(wake, [(head, far) for head in heads])
    await connection.exec_driver_sql(park, [(head, _numbers(connection, waiting[head]), far) for head in heads])
    return True


async def unpark(connection: AsyncConnection, keys: OrderKeys) -> None:
    """Make those due now that come next for each order key. The lanes are locked."""
    if not keys:
        return
    is_postgresql = connection.dialect.name == "postgresql"
    statement = UNPARK_POSTGRESQL if is_postgresql else UNPARK_SQLITE
    far = _far(connection)
    await connection.exec_driver_sql(statement, [(lane_id, key, WOKEN_AT_ONCE, far) for lane_id, key in sorted(keys)])


def _numbers(connection: AsyncConnection, numbers: Sequence[int]) -> list[int] | str:
    return list(numbers) if connection.dialect.name == "postgresql" else as_json(numbers)


def _far(connection: AsyncConnection) -> datetime | int:
    return FAR if connection.dialect.name == "postgresql" else microseconds(FAR)


# Looked for by their place in the index of the order, from the lane's mark: see owed.py and low_water.py. What is
# parked is due at the end of time, as what blocks is, which waits for a person.
#
# The first is parked only where turns were taken by place before, and another's came first then.
WAKE_FIRST_POSTGRESQL: Final = """
UPDATE delivery SET due_at = clock_timestamp()
WHERE due_at = $3 AND NOT blocks AND id = (
    SELECT id FROM delivery
    WHERE order_key IS NOT NULL AND (order_key, lane_id, id) <= ($2, $1, 9223372036854775807)
        AND (order_key, lane_id, id) >= ($2, $1, (SELECT low_id FROM lane WHERE id = $1))
    ORDER BY order_key, lane_id, id LIMIT 1
)
"""
PARK_POSTGRESQL: Final = """
UPDATE delivery SET due_at = $5
WHERE order_key IS NOT NULL AND (order_key, lane_id, id) >= ($2, $1, $3)
    AND (order_key, lane_id, id) <= ($2, $1, coalesce((
        SELECT id FROM delivery
        WHERE order_key IS NOT NULL AND (order_key, lane_id, id) >= ($2, $1, $3)
            AND (order_key, lane_id, id) <= ($2, $1, 9223372036854775807)
        ORDER BY order_key, lane_id, id OFFSET $4 LIMIT 1
    ), 9223372036854775807))
    AND due_at <= clock_timestamp()
    AND $3 > (
        SELECT id FROM delivery
        WHERE order_key IS NOT NULL AND (order_key, lane_id, id) <= ($2, $1, 9223372036854775807)
            AND (order_key, lane_id, id) >= ($2, $1, (SELECT low_id FROM lane WHERE id = $1))
        ORDER BY order_key, lane_id, id LIMIT 1
    )
"""
UNPARK_POSTGRESQL: Final = """
UPDATE delivery SET due_at = clock_timestamp()
WHERE id IN (
        SELECT id FROM delivery
        WHERE order_key IS NOT NULL AND (order_key, lane_id, id) <= ($2, $1, 9223372036854775807)
            AND (order_key, lane_id, id) >= ($2, $1, (SELECT low_id FROM lane WHERE id = $1))
        ORDER BY order_key, lane_id, id LIMIT $3
    )
    AND due_at = $4 AND NOT blocks
"""
WAKE_FIRST_SQLITE: Final = """
UPDATE delivery SET due_at = bucketpost_now()
WHERE id = (SELECT id FROM delivery WHERE lane_id = ?1 AND order_key = ?2 ORDER BY id LIMIT 1)
    AND +due_at = ?3 AND NOT blocks
"""
PARK_SQLITE: Final = """
UPDATE delivery SET due_at = ?5
WHERE id IN (
        SELECT id FROM delivery WHERE lane_id = ?1 AND order_key = ?2 AND id >= ?3 ORDER BY id LIMIT ?4 + 1
    )
    AND +due_at <= bucketpost_now()
    AND ?3 > (SELECT id FROM delivery WHERE lane_id = ?1 AND order_key = ?2 ORDER BY id LIMIT 1)
"""
UNPARK_SQLITE: Final = """
UPDATE delivery SET due_at = bucketpost_now()
WHERE id IN (SELECT id FROM delivery WHERE lane_id = ?1 AND order_key = ?2 ORDER BY id LIMIT ?3)
    AND +due_at = ?4 AND NOT blocks
"""
_WAKE_POSTGRESQL: Final = """
UPDATE delivery SET due_at = clock_timestamp() WHERE id = $1 AND due_at = $2 AND NOT blocks
"""
_PARK_BEHIND_POSTGRESQL: Final = """
UPDATE delivery SET due_at = $3
WHERE id = ANY ($2::bigint[]) AND due_at <= clock_timestamp()
    AND EXISTS (SELECT FROM delivery AS head WHERE head.id = $1)
"""
_WAKE_SQLITE: Final = """
UPDATE delivery SET due_at = bucketpost_now() WHERE id = ?1 AND due_at = ?2 AND NOT blocks
"""
_PARK_BEHIND_SQLITE: Final = """
UPDATE delivery SET due_at = ?3
WHERE id IN (SELECT value FROM json_each(?2)) AND +due_at <= bucketpost_now()
    AND EXISTS (SELECT 1 FROM delivery AS head WHERE head.id = ?1)
"""
_IN_LINE: Final = {
    "postgresql": (WAKE_FIRST_POSTGRESQL, PARK_POSTGRESQL),
    "sqlite": (WAKE_FIRST_SQLITE, PARK_SQLITE),
}
_BY_TURN: Final = {
    "postgresql": (_WAKE_POSTGRESQL, _PARK_BEHIND_POSTGRESQL),
    "sqlite": (_WAKE_SQLITE, _PARK_BEHIND_SQLITE),
}
