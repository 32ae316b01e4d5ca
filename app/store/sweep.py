"""The sweep: the guarantee behind every hint. Wakes lanes, cancels what deleted subscriptions owed, forgets the dead."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, delete, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import EndpointId, LaneId, ReplicaId, SubscriptionId
from app.store import chores, history, lanes, replicas
from app.store.columns import none_of, now, one_of
from app.store.database import Database
from app.store.history import DEBT_COLUMNS, Attempt, debt_of
from app.store.schema import delivery, lane, subscription

CANCELLED_AT_ONCE: Final = 1_000
# A batch matched before a subscription was deleted may still commit what it owes: none takes as long as this.
LATE_SECONDS: Final = 60.0
_CHORE: Final = "sweep"
_CHORE_SECONDS: Final = 5.0
_SLICES_A_SWEEP: Final = 5
_LOOKED_AT_A_SWEEP: Final = 50
# Replicas silent for so long are not even of interest to people any more.
_FORGOTTEN_AFTER_SECONDS: Final = 3_600.0


class Sweep:
    """One replica's part in the sweep; remembers which deleted subscriptions owed nothing when it looked."""

    def __init__(self, database: Database, replica: ReplicaId) -> None:
        self._database = database
        self._replica = replica
        self._looked_empty: set[SubscriptionId] = set()

    async def sweep(self, *, pause_seconds: float) -> int:
        """Do it, unless another replica does or just did; gives the number of lanes woken."""
        if not await chores.claim(
            self._database, _CHORE, self._replica, lease_seconds=_CHORE_SECONDS, pause_seconds=pause_seconds
        ):
            return 0
        woken = await self._wake()
        await self._cancel()
        async with self._database.write() as connection:
            await replicas.forget_dead(connection, silent_seconds=_FORGOTTEN_AFTER_SECONDS)
            await chores.finish(connection, _CHORE, self._replica)
        return woken

    async def _wake(self) -> int:
        async with self._database.read() as connection:
            asleep = [LaneId(each) for each in (await connection.execute(sleeping_statement())).scalars()]
        if not asleep:
            return 0
        async with self._database.write() as connection:
            return await lanes.wake(connection, asleep)

    async def _cancel(self) -> None:
        async with self._database.read() as connection:
            deleted = await _deleted(connection, self._looked_empty)
        slices = 0
        for subscription_id, endpoint_id in deleted:
            while slices < _SLICES_A_SWEEP:
                slices += 1
                if await self._cancel_slice(subscription_id, endpoint_id) < CANCELLED_AT_ONCE:
                    break
            else:
                return
            if await self._mark_emptied(subscription_id, endpoint_id):
                self._looked_empty.discard(subscription_id)
            else:
                self._looked_empty.add(subscription_id)

    async def _cancel_slice(self, subscription_id: SubscriptionId, endpoint_id: EndpointId) -> int:
        return await self._database.write_again(
            lambda connection: _cancel_slice(connection, subscription_id, endpoint_id)
        )

    async def _mark_emptied(self, subscription_id: SubscriptionId, endpoint_id: EndpointId) -> bool:
        async with self._database.write() as connection:
            return await _mark_emptied(connection, subscription_id, endpoint_id)


def sleeping_statement() -> Select[tuple[int]]:
    """Build the search for lanes that sleep over something due; a test looks at its plan.

    One look at the index for each sleeping lane: a join over the outbox could read all of it.
    """
    first_due = (
        select(delivery.c.due_at)
        .where(delivery.c.lane_id == lane.c.id)
        .order_by(delivery.c.due_at, delivery.c.id)
        .limit(1)
        .correlate(lane)
        .scalar_subquery()
    )
    return select(lane.c.id).where(lane.c.wake_at > now(), first_due <= now())


async def _deleted(
    connection: AsyncConnection, looked_empty: set[SubscriptionId]
) -> Sequence[tuple[SubscriptionId, EndpointId]]:
    is_late = subscription.c.deleted_at <= now(-LATE_SECONDS)
    worth_a_look = or_(is_late, none_of(connection, subscription.c.id, looked_empty)) if looked_empty else True
    found = await connection.execute(
        select(subscription.c.id, subscription.c.endpoint_id)
        .where(subscription.c.deleted_at.is_not(None), subscription.c.emptied_at.is_(None), worth_a_look)
        .order_by(subscription.c.deleted_at)
        .limit(_LOOKED_AT_A_SWEEP)
    )
    return [(SubscriptionId(row.id), EndpointId(row.endpoint_id)) for row in found]


async def _cancel_slice(
    connection: AsyncConnection, subscription_id: SubscriptionId, endpoint_id: EndpointId
) -> int:
    # One that is being settled is passed over: whichever of the two takes the row out ends the delivery.
    found = await connection.execute(
        select(delivery.c.id)
        .where(await _owed_through(connection, subscription_id, endpoint_id))
        .limit(CANCELLED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = list(found.scalars())
    if not ids:
        return 0
    taken = await connection.execute(
        delete(delivery).where(one_of(connection, delivery.c.id, ids)).returning(*DEBT_COLUMNS)
    )
    await history.append(connection, [Attempt(debt=debt_of(row), outcome=None, ended="cancelled") for row in taken])
    return len(ids)


async def _mark_emptied(
    connection: AsyncConnection, subscription_id: SubscriptionId, endpoint_id: EndpointId
) -> bool:
    is_owed = exists().where(await _owed_through(connection, subscription_id, endpoint_id))
    marked = await connection.execute(
        update(subscription)
        .where(subscription.c.id == subscription_id, subscription.c.deleted_at <= now(-LATE_SECONDS), ~is_owed)
        .values(emptied_at=now())
    )
    return marked.rowcount == 1


async def _owed_through(
    connection: AsyncConnection, subscription_id: SubscriptionId, endpoint_id: EndpointId
) -> ColumnElement[bool]:
    # Through the lanes, by which the outbox has an index.
    found = await connection.execute(select(lane.c.id).where(lane.c.endpoint_id == endpoint_id))
    return and_(
        one_of(connection, delivery.c.lane_id, list(found.scalars())), delivery.c.subscription_id == subscription_id
    )
