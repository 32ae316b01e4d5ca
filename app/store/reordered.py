"""What a lane with a reorder window owes and is due, in the order of turns: see app/domain/turns.py.

First which objects have something due, then how those that came first stand, then the deliveries whose turn it is.
"""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Lease, Owed
from app.domain.turns import LOOKED_THROUGH, Standing, in_turn
from app.store.owed import Parking, due_statement, due_values, fetch_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Deliveries that may go, in turn, and those that wait for one not at hand; whether that is all that is due."""

    may_go: Sequence[Owed]
    wait: Sequence[Parking]
    is_all: bool


async def look(connection: AsyncConnection, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Look:
    """Read what may go now; at hand is what stands in `leave_out`, and goes before it."""
    statement = _due_statement(connection.dialect.name, leaves_out=bool(leave_out))
    due = list(await connection.execute(statement, due_values(lease, limit=limit, leave_out=leave_out)))
    keys = list(dict.fromkeys(row.order_key for row in due if row.order_key is not None))
    first = LOOKED_THROUGH + limit // max(1, len(keys))
    standing = await _standing(connection, lease, keys, first=first, leave_out=leave_out)
    turns = {key: in_turn(standing[key], are_all=len(standing[key]) < first) for key in keys}
    chains = [
        *([row.id] for row in due if row.order_key is None),
        *([each.row_id for each in takewhile(lambda one: one.is_due, turns[key])] for key in keys),
    ]
    rows = await fetch_rows(connection, lease, [each for chain in chains for each in chain][:limit])
    # What was cancelled and is still there holds up those behind it until the sweep has it.
    may_go = [rows[each] for chain in chains for each in takewhile(rows.__contains__, chain)]
    return Look(may_go=may_go, wait=_waiting(due, turns), is_all=len(due) < limit)


def _waiting(due: Sequence[Row[Any]], turns: Mapping[int, Sequence[Standing]]) -> list[Parking]:
    """Tell which are due before the one whose turn it is."""
    heads = {key: next((each for each in turn if not each.is_due), None) for key, turn in turns.items()}
    before = {key: {each.row_id for each in takewhile(lambda one: one.is_due, turn)} for key, turn in turns.items()}
    return [
        Parking(row_id=row.id, behind=head.row_id)
        for row in due
        if row.order_key is not None
        and (head := heads[row.order_key]) is not None
        and row.id not in before[row.order_key]
    ]


async def _standing(
    connection: AsyncConnection, lease: Lease, keys: Sequence[int], *, first: int, leave_out: Sequence[int]
) -> Mapping[int, Sequence[Standing]]:
    """Read how the first deliveries of each object stand, by row, without those at hand."""
    standing: dict[int, list[Standing]] = defaultdict(list)
    if not keys:
        return standing
    if connection.dialect.name == "postgresql":
        found = await connection.exec_driver_sql(
            STANDING_POSTGRESQL, (lease.lane_id, list(keys), list(leave_out), first)
        )
    else:
        found = await connection.exec_driver_sql(
            STANDING_SQLITE, (lease.lane_id, _as_json(keys), _as_json(leave_out), first)
        )
    for row in found:
        standing[row.order_key].append(
            Standing(row_id=row.id, place=row.place, is_held=bool(row.is_held), is_due=bool(row.is_due))
        )
    return standing


def _as_json(numbers: Sequence[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


@functools.cache
def _due_statement(dialect: str, *, leaves_out: bool) -> Select[Any]:
    due = due_statement(dialect, leaves_out=leaves_out).subquery("due")
    return select(due.c.id, due.c.order_key).order_by(due.c.due_at, due.c.id)


# Each object on its own, along the index of the order: what is read does not grow with what is owed.
STANDING_POSTGRESQL: Final = """
SELECT key.order_key, one.id, one.place, one.failures > 0 OR one.blocks AS is_held, one.due_at <= at.moment AS is_due
FROM (SELECT clock_timestamp() AS moment OFFSET 0) AS at, unnest($2::bigint[]) AS key (order_key), LATERAL (
    SELECT id, place, failures, blocks, due_at FROM delivery
    WHERE delivery.order_key IS NOT NULL
        AND (delivery.order_key, lane_id, id) >= (key.order_key, $1, (SELECT low_id FROM lane WHERE lane.id = $1))
        AND (delivery.order_key, lane_id, id) <= (key.order_key, $1, 9223372036854775807)
        AND id <> ALL ($3::bigint[])
    ORDER BY delivery.order_key, lane_id, id LIMIT $4
) AS one
ORDER BY one.id
"""
STANDING_SQLITE: Final = """
SELECT one.order_key, one.id, one.place, one.failures > 0 OR one.blocks AS is_held,
    one.due_at <= bucketpost_now() AS is_due
FROM json_each(?2) AS key CROSS JOIN delivery AS one ON one.id IN (
    SELECT id FROM delivery
    WHERE lane_id = ?1 AND order_key = key.value AND id NOT IN (SELECT value FROM json_each(?3))
    ORDER BY id LIMIT ?4
)
ORDER BY one.id
"""
