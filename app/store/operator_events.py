"""Operator events: written down with what they tell of, in its own transaction, where a subscription names them.

Nobody's wish costs one look at an index that is almost empty. The lanes they go to are not locked here, since whoever
tells holds others: the sweep wakes them within a second.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON, Filter, Ordering
from app.domain.event import Event
from app.domain.ids import EndpointId, EventId, LaneId, SourceId, SubscriptionId, TenantId, public_id
from app.domain.matching import matches
from app.domain.operator_event import OperatorEventType, operator_event
from app.domain.rendering import instant_text
from app.store.columns import one_of
from app.store.history import Debt
from app.store.insert import NewEvent, Owing, insert_deliveries, insert_events
from app.store.schema import endpoint, event, lane, subscription

_Data = Mapping[str, str | datetime | None]
_OPERATORS_OWN: Final = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disabled:
    """An endpoint that was just disabled."""

    tenant_id: TenantId
    endpoint_id: EndpointId
    name: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A delivery that was just given up."""

    debt: Debt
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A source that was just found to bring nothing, or nothing new."""

    tenant_id: TenantId
    source_id: SourceId
    name: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listener:
    """A subscription that names operator events, and where it leads."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    wanted: Filter
    endpoint_id: EndpointId
    is_disabled: bool
    lane_id: LaneId
    ordering: Ordering


async def tell_of_disabled(connection: AsyncConnection, disabled: Disabled) -> None:
    """Tell that an endpoint was disabled, once it is."""
    listeners = await _listeners(connection, {disabled.tenant_id})
    told = _Told(tenant_id=disabled.tenant_id, event=_event_of_disabled(disabled), of=disabled.endpoint_id)
    await _write(connection, [told], listeners)


async def tell_of_deaths(connection: AsyncConnection, deaths: Sequence[Death]) -> None:
    """Tell that deliveries were given up; not those of operator events, which would go on for ever."""
    listeners = await _listeners(connection, {each.debt.tenant_id for each in deaths})
    if not listeners:
        return
    operators_own = await _operators_own(connection, [each.debt for each in deaths])
    worth_telling = [each for each in deaths if each.debt.event_id not in operators_own]
    names = await _names(connection, {each.debt.endpoint_id for each in worth_telling})
    await _write(
        connection,
        [
            _Told(
                tenant_id=each.debt.tenant_id,
                event=_event_of_death(each, name=names.get(each.debt.endpoint_id)),
                of=each.debt.endpoint_id,
            )
            for each in worth_telling
        ],
        listeners,
    )


async def tell_of_stalls(connection: AsyncConnection, stalls: Sequence[Stall]) -> None:
    """Tell that sources stalled."""
    listeners = await _listeners(connection, {each.tenant_id for each in stalls})
    told = [_Told(tenant_id=each.tenant_id, event=_event_of_stall(each), of=None) for each in stalls]
    await _write(connection, told, listeners)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """An event, and the endpoint it tells of."""

    tenant_id: TenantId
    event: Event
    of: EndpointId | None


def _event_of_disabled(disabled: Disabled) -> Event:
    data: _Data = {
        "endpoint_id": public_id("ep", disabled.endpoint_id),
        "name": disabled.name,
        "reason": disabled.reason,
        "disabled_at": disabled.at,
    }
    return _event(disabled.tenant_id, "gateway.endpoint.disabled", "endpoint_id", data, at=disabled.at)


def _event_of_death(death: Death, *, name: str | None) -> Event:
    debt = death.debt
    data: _Data = {
        "delivery_id": public_id("dlv", debt.key),
        "event_id": public_id("evt", debt.event_id),
        "subscription_id": public_id("sub", debt.subscription_id),
        "endpoint_id": public_id("ep", debt.endpoint_id),
        "name": name,
        "reason": death.reason,
        "created_at": debt.created_at,
        "ended_at": death.at,
    }
    return _event(debt.tenant_id, "gateway.delivery.dead", "delivery_id", data, at=death.at)


def _event_of_stall(stall: Stall) -> Event:
    data: _Data = {
        "source_id": public_id("src", stall.source_id),
        "name": stall.name,
        "reason": stall.reason,
        "stalled_at": stall.at,
    }
    return _event(stall.tenant_id, "gateway.source.stalled", "source_id", data, at=stall.at)


def _event(tenant_id: TenantId, event_type: OperatorEventType, subject: str, data: _Data, *, at: datetime) -> Event:
    told: dict[str, JSON] = {
        name: instant_text(value) if isinstance(value, datetime) else value for name, value in data.items()
    }
    return operator_event(tenant_id, event_type, about=str(told[subject]), at=at, data=told)


async def _listeners(connection: AsyncConnection, tenants: Collection[TenantId]) -> Sequence[_Listener]:
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
        .where(
            subscription.c.hears_gateway,
            one_of(connection, subscription.c.tenant_id, tenants),
            subscription.c.deleted_at.is_(None),
            endpoint.c.deleted_at.is_(None),
        )
        .order_by(subscription.c.id)
    )
    return [
        _Listener(
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


async def _write(connection: AsyncConnection, told: Sequence[_Told], listeners: Sequence[_Listener]) -> None:
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
        for listener in listeners
        if _is_for(listener, each)
    ]
    await insert_events(connection, {each.new.event.id: each.new for each in owing}.values())
    await insert_deliveries(connection, owing)


def _is_for(listener: _Listener, told: _Told) -> bool:
    if listener.is_disabled and listener.endpoint_id == told.of:
        return False  # it takes nothing, least of all news of its own troubles
    return listener.tenant_id == told.tenant_id and matches(listener.wanted, told.event)


async def _operators_own(connection: AsyncConnection, debts: Sequence[Debt]) -> frozenset[EventId]:
    """Tell which of the events owed are operator events; an event is kept while it is owed."""
    found = await connection.execute(
        select(event.c.id).where(
            one_of(connection, event.c.tenant_id, {each.tenant_id for each in debts}),
            one_of(connection, event.c.id, {each.event_id for each in debts}),
            one_of(connection, event.c.event_day, {each.event_day for each in debts}),
            event.c.dialect == _OPERATORS_OWN,
        )
    )
    return frozenset(EventId(each) for each in found.scalars())


async def _names(connection: AsyncConnection, endpoints: Collection[EndpointId]) -> Mapping[EndpointId, str]:
    found = await connection.execute(
        select(endpoint.c.id, endpoint.c.name).where(one_of(connection, endpoint.c.id, endpoints))
    )
    return {EndpointId(row.id): row.name for row in found}
