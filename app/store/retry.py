"""Retry: a person asks that a delivery be tried now. What is still owed becomes due, what was given up is owed anew.

The relay may be settling the same delivery. Both lock the lane first, so one of the two comes after the other; only a
success that was tried elsewhere, under a lost lease or another order, finds the delivery first or nothing.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Row, case, delete, exists, func, or_, select, union_all, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import DeliveryKey, EndpointId, LaneId, SubscriptionId, TenantId
from app.domain.order import FAMILY_BYTES
from app.store import history
from app.store.columns import now
from app.store.in_order import unpark
from app.store.outbox_schema import attempt, dead_letter, delivery, lane
from app.store.schema import endpoint, subscription

RetryAnswer = Literal["owed", "unknown", "ended", "unsubscribed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What came of it: `owed` and due in a lane, which is awake; `ended`, or its subscription or endpoint is gone."""

    answer: RetryAnswer
    lane_id: LaneId | None = None


async def retry(connection: AsyncConnection, tenant_id: TenantId, key: DeliveryKey) -> Retry:
    """Make a delivery due now; asked twice at once it is owed once."""
    place = await _find(connection, tenant_id, key)
    if place is None:
        is_known = await connection.execute(
            select(exists().where(attempt.c.tenant_id == tenant_id, attempt.c.delivery_key == key))
        )
        return Retry(answer="ended" if is_known.scalar_one() else "unknown")
    if not await _is_subscribed(connection, EndpointId(place.endpoint_id), SubscriptionId(place.subscription_id)):
        return Retry(answer="unsubscribed")
    await _wake(connection, LaneId(place.lane_id))
    await _owe_anew(connection, tenant_id, key)
    if not await _hasten(connection, tenant_id, key):
        return Retry(answer="ended")
    if place.order_key is not None:
        # Those that waited for it may come before it now, and are then what it waits for.
        await unpark(connection, {(LaneId(place.lane_id), int(place.order_key))})
    return Retry(answer="owed", lane_id=LaneId(place.lane_id))


async def _find(connection: AsyncConnection, tenant_id: TenantId, key: DeliveryKey) -> Row[Any] | None:
    found = await connection.execute(
        union_all(
            *(
                select(table.c.lane_id, table.c.order_key, table.c.endpoint_id, table.c.subscription_id).where(
                    table.c.delivery_key == key, table.c.tenant_id == tenant_id
                )
                for table in (delivery, dead_letter)
            )
        )
    )
    return found.first()


async def _is_subscribed(connection: AsyncConnection, endpoint_id: EndpointId, subscription_id: SubscriptionId) -> bool:
    # Shared locks: a deletion then comes before this or after it, and its sweep sees what is owed anew.
    # Each on its own: what was owed before a subscription moved to another endpoint still goes to the old one.
    for table, wanted in ((subscription, subscription_id), (endpoint, endpoint_id)):
        live = await connection.execute(
            select(table.c.id).where(table.c.id == wanted, table.c.deleted_at.is_(None)).with_for_update(read=True)
        )
        if live.first() is None:
            return False
    return True


async def _wake(connection: AsyncConnection, lane_id: LaneId) -> None:
    # Also one that is awake: the lock is what matters.
    await connection.execute(
        update(lane)
        .where(lane.c.id == lane_id)
        .values(wake_at=case((lane.c.wake_at < now(), lane.c.wake_at), else_=now()))
    )


async def _owe_anew(connection: AsyncConnection, tenant_id: TenantId, key: DeliveryKey) -> None:
    """Move it from the dead letters to the outbox with a fresh schedule, and let the history forget that it ended."""
    raised = await connection.execute(
        delete(dead_letter)
        .where(dead_letter.c.delivery_key == key, dead_letter.c.tenant_id == tenant_id)
        .returning(*(dead_letter.c[name] for name in _KEPT))
    )
    row = raised.first()
    if row is None:
        return
    kept = {name: getattr(row, name) for name in _KEPT}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # It is there already when its event was filed under two days, and the other's delivery is still owed.
    await connection.execute(
        insert(delivery).values(**kept, failures=0, blocks=False, due_at=now(), owed_at=now()).on_conflict_do_nothing()
    )
    await history.reopen(connection, [history.debt_of(row)])


async def _hasten(connection: AsyncConnection, tenant_id: TenantId, key: DeliveryKey) -> bool:
    """Make what is owed due now; what has been due for longer keeps its turn."""
    found = await connection.execute(
        update(delivery)
        .where(delivery.c.delivery_key == key, delivery.c.tenant_id == tenant_id)
        .values(
            due_at=case((delivery.c.due_at < now(), delivery.c.due_at), else_=now()),
            # One that blocked is owed anew, with a fresh schedule; one in its window waits for its end no more.
            owed_at=case((or_(delivery.c.blocks, delivery.c.owed_at > now()), now()), else_=delivery.c.owed_at),
            failures=case((delivery.c.blocks, 0), else_=delivery.c.failures),
            blocks=False,
            # What a person asks for is sent, however late. One that others waited for still goes before them.
            place=case((delivery.c.blocks, func.substr(delivery.c.place, 1, FAMILY_BYTES)), else_=None),
        )
    )
    return found.rowcount > 0


_KEPT: Final = (*(column.name for column in history.DEBT_COLUMNS), "lane_id", "order_key")
