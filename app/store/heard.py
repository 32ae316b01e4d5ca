"""What is written of a batch beside its events: what was refused goes to the quarantine, sources show signs of life."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Column, ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ID_BYTES, QuarantineId, SourceId
from app.domain.message import Heard, Refusal
from app.store.columns import now, one_of, storable_text
from app.store.schema import source

# Finer than this nobody reads a source's last sign of life, and every batch would wait for its source's row.
_SIGN_OF_LIFE_SECONDS: Final = 1.0
REASON_CHARACTERS: Final = 2_000


async def put_in_quarantine(connection: AsyncConnection, batch: Sequence[Heard]) -> int:
    """Keep what could not be decoded or stored; the same bytes refused again are counted. Gives how many there were."""
    refused = [(heard, refusal) for heard in batch for refusal in heard.decoded.refusals]
    if not refused:
        return 0
    ids = [_quarantine_id(heard, refusal) for heard, refusal in refused]
    seen = Counter(ids)
    rows = {
        quarantine_id: (
            quarantine_id,
            heard.tenant_id,
            heard.source_id,
            _storable(refusal.reason),
            refusal.raw,
            seen[quarantine_id],
        )
        for quarantine_id, (heard, refusal) in zip(ids, refused, strict=True)
    }
    # Sorted, so that batches that hold the same bytes wait for one another instead of deadlocking.
    in_order = [rows[quarantine_id] for quarantine_id in sorted(rows)]
    if connection.dialect.name == "postgresql":
        columns = tuple(list(column) for column in zip(*in_order, strict=True))
        await connection.exec_driver_sql(_QUARANTINE_POSTGRESQL, columns)
    else:
        await connection.exec_driver_sql(_QUARANTINE_SQLITE, in_order)
    return len(refused)


async def note_signs_of_life(connection: AsyncConnection, batch: Sequence[Heard]) -> None:
    """Note that sources were heard from, told of events, known ones too, or sent a test event.

    The row of a source that is being noted is passed over.
    """
    tested = {heard.source_id for heard in batch if heard.decoded.is_test_event}
    if tested:
        await _note_tests(connection, tested)
    eventful = {heard.source_id for heard in batch if heard.decoded.events}
    is_stale = or_(
        _is_stale(source.c.last_received_at),
        and_(one_of(connection, source.c.id, eventful), _is_stale(source.c.last_event_at)),
    )
    silent = await connection.execute(
        select(source.c.id)
        .where(one_of(connection, source.c.id, {heard.source_id for heard in batch}), is_stale)
        .with_for_update(key_share=True, skip_locked=True)
    )
    ids = set(silent.scalars())
    for heard_from, moments in (
        (ids & eventful, {"last_received_at": now(), "last_event_at": now()}),
        (ids - eventful, {"last_received_at": now()}),
    ):
        if heard_from:
            await connection.execute(
                update(source).where(one_of(connection, source.c.id, heard_from)).values(**moments)
            )


async def note_state(connection: AsyncConnection, source_id: SourceId, *, state: str, error: str | None) -> None:
    """Keep a source's state, since when it fails, and what went wrong last."""
    failing_since = func.coalesce(source.c.failing_since, now()) if state == "failing" else None
    await connection.execute(
        update(source)
        .where(source.c.id == source_id)
        .values(state=state, last_error=error and _storable(error), failing_since=failing_since)
    )


async def _note_tests(connection: AsyncConnection, sources: Collection[SourceId]) -> None:
    # Rare, and never passed over: this waits, in the order of the ids.
    found = await connection.execute(
        select(source.c.id)
        .where(one_of(connection, source.c.id, sources))
        .order_by(source.c.id)
        .with_for_update(key_share=True)
    )
    await connection.execute(
        update(source)
        .where(one_of(connection, source.c.id, list(found.scalars())))
        .values(test_event_at=now(), last_received_at=now())
    )


def _is_stale(moment: Column[datetime]) -> ColumnElement[bool]:
    return or_(moment.is_(None), moment < now(-_SIGN_OF_LIFE_SECONDS))


def _quarantine_id(heard: Heard, refusal: Refusal) -> QuarantineId:
    digest = hashlib.sha256()
    reason = refusal.reason.encode("utf-8", "surrogatepass")
    for part in (b"qr1", str(heard.tenant_id).encode(), heard.source_id, reason, refusal.raw):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return QuarantineId(digest.digest()[:ID_BYTES])


def _storable(text: str) -> str:
    return storable_text(text, limit=REASON_CHARACTERS)


# Past Core, as the events are: a batch with one refusal in it should cost one short statement more.
_QUARANTINE_POSTGRESQL: Final = """
INSERT INTO quarantine (id, tenant_id, source_id, reason, raw, seen, first_seen_at, last_seen_at)
SELECT new.*, (SELECT clock_timestamp()), (SELECT clock_timestamp())
FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[], $6::integer[]) AS new
ON CONFLICT (id) DO UPDATE SET seen = quarantine.seen + excluded.seen, last_seen_at = excluded.last_seen_at
"""
_QUARANTINE_SQLITE: Final = """
INSERT INTO quarantine (id, tenant_id, source_id, reason, raw, seen, first_seen_at, last_seen_at)
VALUES (?, ?, ?, ?, ?, ?, bucketpost_now(), bucketpost_now())
ON CONFLICT (id) DO UPDATE SET seen = quarantine.seen + excluded.seen, last_seen_at = excluded.last_seen_at
"""
