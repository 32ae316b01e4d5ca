"""Who hears operator events, and writing these down for them: what nobody wants is not written.

The lanes they go to are not locked here, since whoever tells holds others: the sweep wakes them within a second.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Endpoint, Filter
from app.domain.event import Event
from app.domain.ids import EndpointId, SubscriptionId, TenantId
from app.domain.matching import matches
from app.store.columns import one_of
from app.store.endpoint_rows import endpoint_of, living_endpoints
from app.store.insert import NewEvent, Owing, insert_deliveries, insert_events
from app.store.schema import endpoint, subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event, and the endpoint it tells of."""

    tenant_id: TenantId
    event: Event
    of: EndpointId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A subscription that names operator events, and where it leads."""

    subscription_id: SubscriptionId
    wanted: Filter
    endpoint: Endpoint


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
        living_endpoints()
        .add_columns(subscription.c.id.label("subscription_id"), subscription.c.filter)
        .join(subscription, subscription.c.endpoint_id == endpoint.c.id)
        .where(*hears)
        .order_by(subscription.c.id)
    )
    return [
        Listener(
            subscription_id=SubscriptionId(row.subscription_id),
            wanted=Filter(events=tuple(row.filter["events"])),
            endpoint=endpoint_of(row),
        )
        for row in found
    ]


async def tell(connection: AsyncConnection, told: Sequence[Told], who_hear: Sequence[Listener]) -> None:
    """Write down the events that somebody wants, and what each owes."""
    owing = [
        Owing(
            new=NewEvent(tenant_id=each.tenant_id, source_id=None, event=each.event, day=each.event.day),
            endpoint=listener.endpoint,
            subscription_id=listener.subscription_id,
        )
        for each in told
        for listener in who_hear
        if _is_for(listener, each)
    ]
    await insert_events(connection, {each.new.event.id: each.new for each in owing}.values())
    await insert_deliveries(connection, owing)


def _is_for(listener: Listener, told: Told) -> bool:
    taker = listener.endpoint
    if taker.disabled_at is not None and taker.id == told.of:
        return False  # it takes nothing, least of all news of its own troubles
    return taker.tenant_id == told.tenant_id and matches(listener.wanted, told.event)
