"""How a lane fares: failures and since when, as its breaker and the sweep see it, and which lanes are on trial."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import ColumnElement, FromClause, and_, case, false, func, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import LONGEST_TRIAL_SECONDS, Health
from app.domain.ids import LaneId
from app.store.columns import now
from app.store.outbox_schema import lane

# A failure so long after the one before says nothing of the time between: tries are a day apart at most, by default.
_SAME_TROUBLE_SECONDS: Final = 2 * 86_400.0


async def note_health(connection: AsyncConnection, health: Mapping[LaneId, Health]) -> None:
    """Write down how lanes fare; for lanes that this transaction has locked."""
    outage = now() - lane.c.failing_since
    for lane_id, each in sorted(health.items()):
        fares_well = each.failures == 0
        await connection.execute(
            update(lane)
            .where(lane.c.id == lane_id)
            .values(
                failures=each.failures,
                failing_since=None if fares_well else _FAILING_SINCE,
                last_failed_at=None if fares_well else now(),
                recovering_until=(
                    case((is_on_trial(), now() + outage + outage), else_=lane.c.recovering_until)
                    if fares_well
                    else lane.c.recovering_until
                ),
                latency_seconds=each.latency_seconds,
            )
        )


def is_on_trial(among: FromClause = lane) -> ColumnElement[bool]:
    """Tell of a lane whether it failed ever since it was suspended."""
    # Only that opened the breaker: a new lane's has never been open.
    return func.coalesce(among.c.breaker_until >= among.c.failing_since, false())


def counts_as_trial(among: FromClause = lane) -> ColumnElement[bool]:
    """Tell of a lane whether it takes one of the places of those on trial."""
    # A success ends a trial here, an illness the lease. Who refuses what it gets does neither, and holds up nobody's
    # trial for longer than this.
    return and_(
        is_on_trial(among), or_(among.c.lease_until <= now(), among.c.last_served > now(-LONGEST_TRIAL_SECONDS))
    )


_FAILING_SINCE: Final = case(
    (lane.c.last_failed_at < now(-_SAME_TROUBLE_SECONDS), now()), else_=func.coalesce(lane.c.failing_since, now())
)
