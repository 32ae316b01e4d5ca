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

from app.domain.delivery import AT_HAND_LIMIT, Lease, Owed, at_hand_limit
from app.domain.turns import LOOKED_THROUGH, Standing, in_turn
from app.store.columns import FAR, as_json, microseconds
from app.store.owed import due_statement, due_values, fetch_rows

# Where all that a look finds waits for others, the next one looks at so many rows.
LOOKED_ON: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Deliveries that may go, in turn; those that wait, by the one they wait for; whether that is all that is due."""

    may_go: Sequence[Owed]
    waiting: Mapping[int, Sequence[int]]
    is_all: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHand:
    """Rows that go before all that is read, and the objects of which these are enough, each with one of them."""

    row_ids: Sequence[int]
    crowded: Mapping[int, int]


async def look(connection: AsyncConnection, lease: Lease, *, limit: int, at_hand: AtHand, looked_at: int) -> Look:
    """Read up to so many that may go now, of the first so many that are due; all of a crowded object wait."""
    leave_out, crowded = at_hand.row_ids, at_hand.crowded
    statement = _due_statement(connection.dialect.name, leaves_out=bool(leave_out))
    due = list(await connection.execute(statement, due_values(lease, limit=looked_at, leave_out=leave_out)))
    all_keys = list(dict.fromkeys(row.order_key for row in due if row.order_key is not None))
    keys = [each for each in all_keys if each not in crowded][:limit]
    first = LOOKED_THROUGH + limit // max(1, len(keys))
    standing = await _standing(connection, lease, keys, first=first, leave_out=leave_out)
    lines = {key: _line(key, in_turn(standing[key], are_all=len(standing[key]) < first)) for key in keys}
    lines |= {key: _Line(may_go=(), behind=row_id) for key, row_id in crowded.items()}
    chains = [
        *((row.id,) for row in due if row.order_key is None),
        *(lines[key].may_go for key in keys),
    ]
    rows = await fetch_rows(connection, lease, [each for chain in chains for each in chain][:limit])
    # What was cancelled and is still there holds up those behind it until the sweep has it.
    may_go = [rows[each] for chain in chains for each in takewhile(rows.__contains__, chain)]
    return Look(may_go=may_go, waiting=_waiting(due, lines), is_all=len(due) < looked_at and len(keys) < limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Those of an object that may go, in turn, and the one that all others wait for; None: what comes next may go."""

    may_go: Sequence[int]
    behind: int | None


def _line(key: int, turn: Sequence[Standing]) -> _Line:
    due = [each.row_id for each in takewhile(lambda one: one.is_due, turn)]
    following = next((each.row_id for each in turn if not each.is_due), None)
    if len(due) > at_hand_limit(key):
        return _Line(may_go=due[:AT_HAND_LIMIT], behind=due[0])
    return _Line(may_go=due, behind=following)


def _waiting(due: Sequence[Row[Any]], lines: Mapping[int, _Line]) -> Mapping[int, Sequence[int]]:
    """Tell which are due before their turn has come, or while enough of their object is at hand."""
    waiting: dict[int, list[int]] = defaultdict(list)
    for row in due:
        line = lines.get(row.order_key)
        if line is not None and line.behind is not None and row.id not in (line.behind, *line.may_go):
            waiting[line.behind].append(row.id)
    return waiting


async def _standing(
    connection: AsyncConnection, lease: Lease, keys: Sequence[int], *, first: int, leave_out: Sequence[int]
) -> Mapping[int, Sequence[Standing]]:
    """Read how the first deliveries of each object stand, by row, without those at hand."""
    standing: dict[int, list[Standing]] = defaultdict(list)
    if not keys:
        return standing
    if connection.dialect.name == "postgresql":
        found = await connection.exec_driver_sql(
            STANDING_POSTGRESQL, (lease.lane_id, list(keys), list(leave_out), first, FAR)
        )
    else:
        found = await connection.exec_driver_sql(
            STANDING_SQLITE, (lease.lane_id, as_json(keys), as_json(leave_out), first, microseconds(FAR))
        )
    for row in found:
        standing[row.order_key].append(
            Standing(row_id=row.id, place=row.place, is_held=bool(row.is_held), is_due=bool(row.is_due))
        )
    return standing


@functools.cache
def _due_statement(dialect: str, *, leaves_out: bool) -> Select[Any]:
    due = due_statement(dialect, leaves_out=leaves_out).subquery("due")
    return select(due.c.id, due.c.order_key).order_by(due.c.due_at, due.c.id)


# Each object on its own, along the index of the order: what is read does not grow with what is owed. What is parked
# was due, and its turn may have come.
STANDING_POSTGRESQL: Final = """
SELECT key.order_key, one.id, one.place, one.failures > 0 OR one.blocks AS is_held,
    one.due_at <= at.moment OR (one.due_at = $5 AND NOT one.blocks) AS is_due
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
    one.due_at <= bucketpost_now() OR (one.due_at = ?5 AND NOT one.blocks) AS is_due
FROM json_each(?2) AS key CROSS JOIN delivery AS one ON one.id IN (
    SELECT id FROM delivery
    WHERE lane_id = ?1 AND order_key = key.value AND id NOT IN (SELECT value FROM json_each(?3))
    ORDER BY id LIMIT ?4
)
ORDER BY one.id
"""
