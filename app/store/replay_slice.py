"""A slice of a replay: owes again what was owed before, or what a newer subscription never was.

It reads some events in the order they were recorded and owes what the job wants of them, in one transaction with the
place it has come to: a job goes on where it stood, whoever does the next slice. When to do one is replaying.py's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Configuration, Endpoint, Subscription
from app.domain.event import StoredEvent
from app.domain.identity import delivery_key, order_key, replayed_key
from app.domain.ids import DeliveryKey, LaneId, ReplayId, TenantId
from app.domain.matching import Matcher
from app.domain.verdict import DeliveryStatus
from app.store import history, lanes
from app.store.columns import Instant, now, one_of
from app.store.events import EventFilter, conditions, stored_event
from app.store.history import Debt
from app.store.place import Place
from app.store.replay import Replay, Wanted, job_of
from app.store.schema import attempt, dead_letter, delivery, event, replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a slice did: the lanes that owe something now, and whether the job is done."""

    looked_at: int
    owed: int
    lanes: frozenset[LaneId]
    is_last: bool


async def do_slice(
    connection: AsyncConnection, replay_id: ReplayId, known: Configuration, *, limit: int
) -> Slice | None:
    """Look at the next events of a job and owe what it wants of them; None when the job is not running."""
    found = await connection.execute(
        select(replay).where(replay.c.id == replay_id, replay.c.state == "running").with_for_update()
    )
    row = found.one_or_none()
    if row is None:
        return None
    job = job_of(row)
    place = None if row.after_at is None else Place(at=row.after_at, id=row.after_id)
    rows = list(
        await connection.execute(
            _events_after(job.tenant_id, job.wanted.events, place, until=job.created_at, limit=limit)
        )
    )
    candidates = _candidates(rows, job.wanted, known, job.tenant_id)
    owed = await _owe(connection, job, candidates)
    is_last = len(rows) < limit
    await connection.execute(
        update(replay)
        .where(replay.c.id == replay_id)
        .values(
            looked_at=replay.c.looked_at + len(rows),
            owed=replay.c.owed + len(owed),
            updated_at=now(),
            **({"after_at": rows[-1].recorded_at, "after_id": rows[-1].id} if rows else {}),
            **({"state": "done", "ended_at": now()} if is_last else {}),
        )
    )
    return Slice(
        looked_at=len(rows), owed=len(owed), lanes=frozenset(each.endpoint.lane_id for each in owed), is_last=is_last
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """An event and a subscription that takes it."""

    stored: StoredEvent
    subscription: Subscription
    endpoint: Endpoint

    @property
    def key(self) -> DeliveryKey:
        return delivery_key(self.stored.event.id, self.subscription.id)


def _candidates(
    rows: Iterable[Row[Any]], wanted: Wanted, known: Configuration, tenant_id: TenantId
) -> Sequence[_Candidate]:
    matcher = Matcher(
        each
        for each in known.subscriptions.values()
        if each.tenant_id == tenant_id
        and each.endpoint_id in known.endpoints
        and wanted.subscription_id in (None, each.id)
        and wanted.endpoint_id in (None, each.endpoint_id)
    )
    return [
        _Candidate(stored=stored, subscription=each, endpoint=known.endpoints[each.endpoint_id])
        for row in rows
        for stored in (stored_event(row, row.id),)
        for each in matcher.match(stored.event)
    ]


def _is_wanted(status: DeliveryStatus | None, wanted: Wanted) -> bool:
    # What is owed is on its way already, and what was cancelled was cancelled by a person.
    return status != "pending" and wanted.status in (None, status)


async def _owe(connection: AsyncConnection, job: Replay, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    statuses = await _statuses(connection, [each.key for each in candidates])
    chosen = [each for each in candidates if _is_wanted(statuses.get(each.key), job.wanted)]
    if not chosen:
        return []
    # First the lanes, as everywhere.
    await lanes.lock(connection, {each.endpoint.lane_id for each in chosen})
    tries = {} if job.new_keys else await _tries(connection, job.tenant_id, [each.key for each in chosen])
    if not job.new_keys:
        keys = [each.key for each in chosen]
        await connection.execute(delete(dead_letter).where(one_of(connection, dead_letter.c.delivery_key, keys)))
        # One that blocks keeps its row, and so its place before those that wait for it.
        await connection.execute(
            update(delivery)
            .where(one_of(connection, delivery.c.delivery_key, keys), delivery.c.blocks)
            .values(blocks=False, failures=0, place=None, due_at=now(), owed_at=now())
        )
        await history.reopen(connection, [_debt(job.tenant_id, each) for each in chosen])
    choose = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    await connection.execute(
        choose(delivery)
        .values(failures=0, blocks=False, due_at=now(), owed_at=now(), created_at=now())
        .on_conflict_do_nothing(),
        [_row(job, each, tries.get(each.key, 0)) for each in chosen],
    )
    return chosen


async def _statuses(connection: AsyncConnection, keys: Sequence[DeliveryKey]) -> Mapping[DeliveryKey, DeliveryStatus]:
    """Tell how deliveries stand; one that is not in the answer was never owed."""
    statuses: dict[DeliveryKey, DeliveryStatus] = {}
    ended = await connection.execute(
        select(attempt.c.delivery_key, attempt.c.ended).where(
            one_of(connection, attempt.c.delivery_key, keys), attempt.c.ended.is_not(None)
        )
    )
    statuses.update((DeliveryKey(row.delivery_key), row.ended) for row in ended)
    owed = await connection.execute(
        select(delivery.c.delivery_key).where(
            one_of(connection, delivery.c.delivery_key, keys), delivery.c.blocks.is_(False)
        )
    )
    statuses.update((DeliveryKey(each), "pending") for each in owed.scalars())
    return statuses


async def _tries(
    connection: AsyncConnection, tenant_id: TenantId, keys: Sequence[DeliveryKey]
) -> Mapping[DeliveryKey, int]:
    found = await connection.execute(
        select(attempt.c.delivery_key, func.max(attempt.c.number))
        .where(attempt.c.tenant_id == tenant_id, one_of(connection, attempt.c.delivery_key, keys))
        .group_by(attempt.c.delivery_key)
    )
    return {DeliveryKey(key): int(number) for key, number in found}


def _row(job: Replay, candidate: _Candidate, tries: int) -> dict[str, Any]:
    occurred = candidate.stored.event
    return {
        "tenant_id": job.tenant_id,
        "lane_id": candidate.endpoint.lane_id,
        "delivery_key": replayed_key(candidate.key, job.id) if job.new_keys else candidate.key,
        "endpoint_id": candidate.endpoint.id,
        "subscription_id": candidate.subscription.id,
        "event_day": occurred.day,
        "event_id": occurred.id,
        "order_key": order_key(candidate.endpoint.ordering, occurred.bucket, occurred.key),
        "tries": tries,
    }


def _debt(tenant_id: TenantId, candidate: _Candidate) -> Debt:
    return Debt(
        tenant_id=tenant_id,
        key=candidate.key,
        endpoint_id=candidate.endpoint.id,
        subscription_id=candidate.subscription.id,
        event_day=candidate.stored.event.day,
        event_id=candidate.stored.event.id,
        tries=0,
        created_at=candidate.stored.recorded_at,
    )


def _events_after(
    tenant_id: TenantId, wanted: EventFilter, place: Place | None, *, until: datetime | None, limit: int
) -> Select[Any]:
    chosen = select(event).where(event.c.tenant_id == tenant_id, *conditions(wanted))
    if place is not None:
        at = tuple_(literal(place.at, Instant()), literal(place.id, event.c.id.type))
        chosen = chosen.where(tuple_(event.c.recorded_at, event.c.id) > at)
    if until is not None:
        chosen = chosen.where(event.c.recorded_at <= until)
    return chosen.order_by(event.c.recorded_at, event.c.id).limit(limit)
