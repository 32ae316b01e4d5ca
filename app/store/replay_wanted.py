"""Which deliveries a replay owes for events it came by: what their subscriptions take, and how each stands now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import LargeBinary, Row, Select, and_, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Configuration, Endpoint, Subscription
from app.domain.event import StoredEvent
from app.domain.identity import delivery_key
from app.domain.ids import DeliveryKey, TenantId
from app.domain.matching import Matcher
from app.domain.verdict import DeliveryStatus
from app.store.columns import one_of
from app.store.events import stored_event
from app.store.outbox_schema import attempt, delivery
from app.store.replay import Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How a delivery stands; without a status it was never owed. And how often it was tried, where it is over."""

    status: DeliveryStatus | None
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An event and a subscription that takes it, and how the delivery stands."""

    key: DeliveryKey
    stored: StoredEvent
    subscription: Subscription
    endpoint: Endpoint
    state: State


_NEVER_OWED: Final = State(status=None, tries=0)
_PENDING: Final = State(status="pending", tries=0)
# SQLite binds at most 32,766 values to a statement.
_ASKED_AT_ONCE: Final = 5_000


async def find_wanted(
    connection: AsyncConnection, tenant_id: TenantId, rows: Sequence[Row[Any]], wanted: Wanted, known: Configuration
) -> Sequence[Candidate]:
    """Give what is wanted of events, in their order."""
    matcher = Matcher(
        each
        for each in known.subscriptions.values()
        if each.tenant_id == tenant_id
        and each.endpoint_id in known.endpoints
        and wanted.subscription_id in (None, each.id)
        and wanted.endpoint_id in (None, each.endpoint_id)
    )
    taken = [
        (delivery_key(stored.event.id, each.id), stored, each)
        for stored in (stored_event(row._asdict(), row.id) for row in rows)
        for each in matcher.match(stored.event)
    ]
    states = await _states(connection, tenant_id, [key for key, _, _ in taken])
    return [
        Candidate(
            key=key,
            stored=stored,
            subscription=each,
            endpoint=known.endpoints[each.endpoint_id],
            state=states.get(key, _NEVER_OWED),
        )
        for key, stored, each in taken
        if _is_wanted(states.get(key, _NEVER_OWED).status, wanted)
    ]


def history_statement(dialect: str, tenant_id: TenantId, keys: Sequence[DeliveryKey]) -> Select[Any]:
    """Build the look into the history; a test looks at its plan.

    It asks for all tries, not for the ended one: the index of those would be read from end to end. On PostgreSQL one
    delivery after the other: without statistics, as in the first minute of a day, a tenant's whole history is read
    else.
    """
    tries, ended = func.max(attempt.c.number).label("tries"), func.max(attempt.c.ended).label("ended")
    if dialect != "postgresql":
        tried = select(attempt.c.delivery_key, tries, ended).group_by(attempt.c.delivery_key)
        return tried.where(attempt.c.tenant_id == tenant_id, attempt.c.delivery_key.in_(keys))
    given = func.unnest(literal(list(keys), ARRAY(LargeBinary)))
    asked = given.table_valued(column("delivery_key", LargeBinary), name="asked").render_derived()
    is_its = and_(attempt.c.tenant_id == tenant_id, attempt.c.delivery_key == asked.c.delivery_key)
    its = select(tries, ended).where(is_its).lateral("its")
    found = select(asked.c.delivery_key, its.c.tries, its.c.ended).select_from(asked.join(its, true()))
    return found.where(its.c.tries.is_not(None))


async def _states(
    connection: AsyncConnection, tenant_id: TenantId, keys: Sequence[DeliveryKey]
) -> Mapping[DeliveryKey, State]:
    states: dict[DeliveryKey, State] = {}
    for asked in (keys[start : start + _ASKED_AT_ONCE] for start in range(0, len(keys), _ASKED_AT_ONCE)):
        tried = await connection.execute(history_statement(connection.dialect.name, tenant_id, asked))
        states |= {DeliveryKey(row.delivery_key): State(status=row.ended, tries=int(row.tries)) for row in tried}
        owed = await connection.execute(
            select(delivery.c.delivery_key).where(
                one_of(connection, delivery.c.delivery_key, asked), delivery.c.blocks.is_(False)
            )
        )
        states |= {DeliveryKey(key): _PENDING for key in owed.scalars()}
    return states


def _is_wanted(status: DeliveryStatus | None, wanted: Wanted) -> bool:
    # What is owed is on its way already, and what was cancelled was cancelled by a person.
    return status != "pending" and wanted.status in (None, status)
