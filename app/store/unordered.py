"""What was parked in a lane that keeps an order no more: it waits for nothing, and is let go in slices by the sweep."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Select, and_, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import LaneId
from app.store import lanes
from app.store.columns import FAR, now
from app.store.outbox_schema import delivery, lane
from app.store.schema import endpoint

LET_GO_AT_ONCE: Final = 1_000
_LOOKED_AT_ONCE: Final = 50
# Only endpoints that were changed lately are looked at: what is due in the others never has to wait.
_LATELY_SECONDS: Final = 30 * 86_400.0


def unordered_statement() -> Select[int]:
    """Build the search for lanes without an order in which something is parked; a test looks at its plan.

    One look at an index for each, of endpoints and of the outbox: a join could look at all pairs, or read all of it.
    """
    was_changed = (
        select(and_(endpoint.c.ordering == "none", endpoint.c.updated_at > now(-_LATELY_SECONDS)))
        .where(endpoint.c.id == lane.c.endpoint_id)
        .correlate(lane)
        .scalar_subquery()
    )
    parked = (
        select(literal(value=True))
        .where(delivery.c.lane_id == lane.c.id, *_IS_PARKED)
        .limit(1)
        .correlate(lane)
        .scalar_subquery()
    )
    return select(lane.c.id).where(was_changed, parked.is_not(None)).limit(_LOOKED_AT_ONCE)


async def find_unordered(connection: AsyncConnection) -> Sequence[LaneId]:
    """Name lanes without an order in which something is parked."""
    return [LaneId(each) for each in (await connection.execute(unordered_statement())).scalars()]


async def let_go(connection: AsyncConnection, lane_id: LaneId) -> int:
    """Make a slice of what is parked in a lane due; gives how many that were."""
    await lanes.lock(connection, {lane_id})
    ids = (
        select(delivery.c.id)
        .where(delivery.c.lane_id == lane_id, *_IS_PARKED)
        .order_by(delivery.c.due_at, delivery.c.id)
        .limit(LET_GO_AT_ONCE)
    )
    woken = await connection.execute(
        update(delivery).where(delivery.c.id.in_(ids.scalar_subquery()), *_IS_PARKED).values(due_at=now())
    )
    return woken.rowcount


_IS_PARKED: Final = (delivery.c.due_at == FAR, delivery.c.blocks.is_(False))
