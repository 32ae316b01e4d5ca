"""What is written of a batch beside its events: what was refused goes to the quarantine, sources show signs of life."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Column, ColumnElement, and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ID_BYTES, QuarantineId, SourceId
from app.domain.message import Heard, Refusal
from app.store.columns import now, one_of, storable_text
from app.store.schema import quarantine, source

# Finer than this nobody reads a source's last sign of life, and every batch would wait for its source's row.
_SIGN_OF_LIFE_SECONDS: Final = 1.0
_REASON_CHARACTERS: Final = 2_000


async def put_in_quarantine(connection: AsyncConnection, batch: Sequence[Heard]) -> int:
    """Keep what could not be decoded or stored; the same bytes refused again are counted. Gives how many there were."""
    refused = [(heard, refusal) for heard in batch for refusal in heard.decoded.refusals]
    if not refused:
        return 0
    seen = Counter(_quarantine_id(heard, refusal) for heard, refusal in refused)
    rows = {
        _quarantine_id(heard, refusal): {
            "tenant_id": heard.tenant_id,
            "source_id": heard.source_id,
            "reason": _storable(refusal.reason),
            "raw": refusal.raw,
        }
        for heard, refusal in refused
    }
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for quarantine_id, row in sorted(rows.items()):
        added = insert(quarantine).values(
            id=quarantine_id, **row, seen=seen[quarantine_id], first_seen_at=now(), last_seen_at=now()
        )
        await connection.execute(
            added.on_conflict_do_update(
                index_elements=["id"],
                set_={"seen": quarantine.c.seen + seen[quarantine_id], "last_seen_at": now()},
            )
        )
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
    """Keep a source's state, and what went wrong last."""
    await connection.execute(
        update(source).where(source.c.id == source_id).values(state=state, last_error=error and _storable(error))
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
    return storable_text(text, limit=_REASON_CHARACTERS)
