"""Operator events: what is told of an endpoint disabled, a delivery dead, a source stalled.

Each is written in the transaction of what it tells of, once that is done. Who hears it is in hearing.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import JSON
from app.domain.event import OPERATOR_DIALECT, Event
from app.domain.ids import EndpointId, EventId, SourceId, TenantId, public_id
from app.domain.operator_event import OperatorEventType, operator_event
from app.domain.rendering import instant_text
from app.store import hearing
from app.store.columns import one_of
from app.store.hearing import Told
from app.store.history import Debt
from app.store.outbox_schema import event
from app.store.schema import endpoint

_Data = Mapping[str, str | datetime | None]


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


async def tell_of_disabled(connection: AsyncConnection, disabled: Disabled) -> None:
    """Tell that an endpoint was disabled, once it is."""
    listeners = await hearing.listeners(connection, {disabled.tenant_id})
    told = Told(tenant_id=disabled.tenant_id, event=_event_of_disabled(disabled), of=disabled.endpoint_id)
    await hearing.tell(connection, [told], listeners)


async def tell_of_deaths(connection: AsyncConnection, deaths: Sequence[Death]) -> None:
    """Tell that deliveries were given up; not those of operator events, which would go on for ever."""
    listeners = await hearing.listeners(connection, {each.debt.tenant_id for each in deaths})
    if not listeners:
        return  # rather than look for what the rest needs
    operators_own = await _operators_own(connection, [each.debt for each in deaths])
    worth_telling = [each for each in deaths if each.debt.event_id not in operators_own]
    names = await _names(connection, {each.debt.endpoint_id for each in worth_telling})
    await hearing.tell(
        connection,
        [
            Told(
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
    listeners = await hearing.listeners(connection, {each.tenant_id for each in stalls})
    told = [Told(tenant_id=each.tenant_id, event=_event_of_stall(each), of=None) for each in stalls]
    await hearing.tell(connection, told, listeners)


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


async def _operators_own(connection: AsyncConnection, debts: Sequence[Debt]) -> frozenset[EventId]:
    """Tell which of the events owed are operator events; an event is kept while it is owed."""
    found = await connection.execute(
        select(event.c.id).where(
            one_of(connection, event.c.tenant_id, {each.tenant_id for each in debts}),
            one_of(connection, event.c.id, {each.event_id for each in debts}),
            one_of(connection, event.c.event_day, {each.event_day for each in debts}),
            event.c.dialect == OPERATOR_DIALECT,
        )
    )
    return frozenset(EventId(each) for each in found.scalars())


async def _names(connection: AsyncConnection, endpoints: Collection[EndpointId]) -> Mapping[EndpointId, str]:
    found = await connection.execute(
        select(endpoint.c.id, endpoint.c.name).where(one_of(connection, endpoint.c.id, endpoints))
    )
    return {EndpointId(row.id): row.name for row in found}
