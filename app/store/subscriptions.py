"""Subscriptions: rows in, rows out. Which events they take is decided in domain/matching.py."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON, Filter, Format, Subscription
from app.domain.ids import ID_BYTES, EndpointId, SubscriptionId, TenantId
from app.domain.operator_event import is_operator_name
from app.store.epoch import bump_epoch
from app.store.place import Place, page_after
from app.store.schema import subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSubscription:
    """What a caller says of a subscription; the rest is made here."""

    name: str
    endpoint_id: EndpointId
    filter: Filter
    format: Format


async def create(connection: AsyncConnection, tenant_id: TenantId, new: NewSubscription) -> Subscription:
    """Write a subscription down. Lock changes before looking whether its endpoint is there."""
    moment = await bump_epoch(connection)
    subscription_id = SubscriptionId(secrets.token_bytes(ID_BYTES))
    await connection.execute(
        insert(subscription).values(
            id=subscription_id,
            tenant_id=tenant_id,
            name=new.name,
            endpoint_id=new.endpoint_id,
            filter=_filter_json(new.filter),
            hears_gateway=_hears_gateway(new.filter),
            format=new.format,
            created_at=moment,
            updated_at=moment,
        )
    )
    return Subscription(
        id=subscription_id,
        tenant_id=tenant_id,
        name=new.name,
        endpoint_id=new.endpoint_id,
        filter=new.filter,
        format=new.format,
        created_at=moment,
        updated_at=moment,
    )


async def find(
    connection: AsyncConnection, tenant_id: TenantId, subscription_id: SubscriptionId
) -> Subscription | None:
    """Give a subscription; None when there is none, or no more."""
    found = await connection.execute(
        _living().where(subscription.c.tenant_id == tenant_id, subscription.c.id == subscription_id)
    )
    row = found.one_or_none()
    return None if row is None else _subscription(row)


async def list_page(
    connection: AsyncConnection, tenant_id: TenantId, *, limit: int, after: Place | None
) -> Sequence[Subscription]:
    """Give subscriptions, newest first."""
    statement = page_after(
        _living().where(subscription.c.tenant_id == tenant_id),
        after,
        at=subscription.c.created_at,
        id_=subscription.c.id,
        limit=limit,
    )
    return [_subscription(row) for row in await connection.execute(statement)]


async def read_all(connection: AsyncConnection) -> Sequence[Subscription]:
    """Give the subscriptions of every tenant."""
    return [_subscription(row) for row in await connection.execute(_living())]


async def change(connection: AsyncConnection, changed: Subscription) -> Subscription:
    """Write down what may change of a subscription: all but its ids. Lock changes before reading it."""
    moment = await bump_epoch(connection)
    await connection.execute(
        update(subscription)
        .where(subscription.c.id == changed.id)
        .values(
            name=changed.name,
            endpoint_id=changed.endpoint_id,
            filter=_filter_json(changed.filter),
            hears_gateway=_hears_gateway(changed.filter),
            format=changed.format,
            updated_at=moment,
        )
    )
    return replace(changed, updated_at=moment)


async def delete(connection: AsyncConnection, tenant_id: TenantId, subscription_id: SubscriptionId) -> bool:
    """Mark a subscription as deleted; False when there is none. What it owes is cancelled by the sweep."""
    moment = await bump_epoch(connection)
    marked = await connection.execute(
        update(subscription)
        .where(
            subscription.c.tenant_id == tenant_id,
            subscription.c.id == subscription_id,
            subscription.c.deleted_at.is_(None),
        )
        .values(deleted_at=moment)
    )
    return bool(marked.rowcount)


def _living() -> Select[Any]:
    return select(subscription).where(subscription.c.deleted_at.is_(None))


def _hears_gateway(wanted: Filter) -> bool:
    return any(map(is_operator_name, wanted.events))


def _filter_json(wanted: Filter) -> dict[str, JSON]:
    return {
        "buckets": list(wanted.buckets),
        "events": list(wanted.events),
        "key_prefix": wanted.key_prefix,
        "key_suffix": wanted.key_suffix,
    }


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        id=SubscriptionId(row.id),
        tenant_id=TenantId(row.tenant_id),
        name=row.name,
        endpoint_id=EndpointId(row.endpoint_id),
        filter=Filter(
            buckets=tuple(row.filter["buckets"]),
            events=tuple(row.filter["events"]),
            key_prefix=row.filter["key_prefix"],
            key_suffix=row.filter["key_suffix"],
        ),
        format=row.format,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
