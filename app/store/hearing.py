"""Who hears operator events, and writing these down for them: what nobody wants is not written.

The lanes they go to are not locked here, since whoever tells holds others: the sweep wakes them within a second.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Filter, Ordering
from app.domain.event import Event
from app.domain.ids import EndpointId, LaneId, SubscriptionId, TenantId
from app.domain.matching import matches
from app.store.columns import one_of
from app.store.insert import NewEvent, Owing, insert_deliveries, insert_events
from app.store.schema import endpoint, lane, subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event, and the endpoint it tells of."""

    tenant_id: TenantId
    event: Event
    of: EndpointId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A subscription that names operator events, and where it leads."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    wanted: Filter
    endpoint_id: EndpointId
    is_disabled: bool
    lane_id: LaneId
    ordering: Ordering


async def listeners(connection: AsyncConnection, tenants: Collection[TenantId]) -> Sequence[Listener]:
    """Find the subscriptions of some tenants that name any operator event: where none does, at the cost of one look."""
    hears = (
        subscription.c.hears_gateway,
        one_of(connection, subscription.c.tenant_id, tenants),
        subscription.c.deleted_at.is_(None),
    )
    # First alone: lanes are read from end to end to find a few by their endpoints.
    if (await connection.execute(select(subscription.c.id).where(*hears).limit(1))).first() is None:
        return ()
    found = await connection.execute(
        select(
            subscription.c.tenant_id,
            subscription.c.id,
            subscription.c.filter,
            endpoint.c.id.label("endpoint_id"),
            endpoint.c.ordering,
            endpoint.c.disabled_at,
            lane.c.id.label("lane_id"),
        )
        .join(endpoint, endpoint.c.id == subscription.c.endpoint_id)
        .join(lane, lane.c.endpoint_id == endpoint.c.id)
        .where(*hears, endpoint.c.deleted_at.is_(None))
        .order_by(subscription.c.id)
    )
    return [
        Listener(
            tenant_id=TenantId(row.tenant_id),
            subscription_id=SubscriptionId(row.id),
            wanted=Filter(events=tuple(row.filter["events"])),
            endpoint_id=EndpointId(row.endpoint_id),
            is_disabled=row.disabled_at is not None,
            lane_id=LaneId(row.lane_id),
            ordering=row.ordering,
        )
        for row in found
    ]


async def tell(connection: AsyncConnection, told: Sequence[Told], who_hear: Sequence[Listener]) -> None:
    """Write down the events that somebody wants, and what each owes."""
    owing = [
        Owing(
            new=NewEvent(tenant_id=each.tenant_id, source_id=None, event=each.event, day=each.event.day),
            lane_id=listener.lane_id,
            endpoint_id=listener.endpoint_id,
            subscription_id=listener.subscription_id,
            ordering=listener.ordering,
        )
        for each in told
        for listener in who_hear
        if _is_for(listener, each)
    ]
    await insert_events(connection, {each.new.event.id: each.new for each in owing}.values())
    await insert_deliveries(connection, owing)


def _is_for(listener: Listener, told: Told) -> bool:
    if listener.is_disabled and listener.endpoint_id == told.of:
        return False  # it takes nothing, least of all news of its own troubles
    return listener.tenant_id == told.tenant_id and matches(listener.wanted, told.event)
