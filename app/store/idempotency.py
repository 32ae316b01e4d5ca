"""Idempotency records: what was answered to a request that came with a key of the caller's, once for a tenant and key.

Who asks with a key first looks; what is then written down commits with the effect, or stands for one under way.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import TenantId
from app.store.columns import now
from app.store.schema import idempotency_record

_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:number)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that came with a key: whose it is, and what it says, as a hash."""

    tenant_id: TenantId
    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was answered; `answer` is sealed, and means nothing here."""

    status: int
    answer: bytes


Known = Literal["new", "in_progress", "other_request"]


async def look(connection: AsyncConnection, asked: Asked) -> Answered | Known:
    """Tell how a request stands; a new one is this transaction's alone until it ends."""
    if not await _lock(connection, asked):
        return "in_progress"
    its = idempotency_record.c
    found = await connection.execute(
        select(its.request_hash, its.status, its.answer, (its.lease_until > now()).label("is_leased")).where(
            *_of(asked)
        )
    )
    row = found.one_or_none()
    if row is None:
        return "new"
    if row.request_hash != asked.request_hash:
        return "other_request"
    if row.status is not None:
        return Answered(status=row.status, answer=row.answer)
    return "in_progress" if row.is_leased else "new"


async def keep(connection: AsyncConnection, asked: Asked, answered: Answered) -> None:
    """Write down the answer to a new request, in the transaction of its effect."""
    await connection.execute(
        insert(idempotency_record).values(
            **_values(asked), status=answered.status, answer=answered.answer, lease_until=now()
        )
    )


async def begin(connection: AsyncConnection, asked: Asked, *, lease_seconds: float) -> datetime:
    """Write down that a new request is under way, for so long at most; gives the end of that, which names this try."""
    # An earlier try whose time is over: its process ended in the middle of it.
    await connection.execute(delete(idempotency_record).where(*_of(asked)))
    begun = await connection.execute(
        insert(idempotency_record)
        .values(**_values(asked), lease_until=now(lease_seconds))
        .returning(idempotency_record.c.lease_until)
    )
    lease_until: datetime = begun.scalar_one()
    return lease_until


async def complete(connection: AsyncConnection, asked: Asked, lease_until: datetime, answered: Answered) -> None:
    """Write down the answer to a request under way, unless another try has taken it over."""
    await connection.execute(
        update(idempotency_record)
        .where(*_of(asked), idempotency_record.c.lease_until == lease_until)
        .values(status=answered.status, answer=answered.answer)
    )


async def abandon(connection: AsyncConnection, asked: Asked, lease_until: datetime) -> None:
    """Forget a request under way that was turned down."""
    await connection.execute(
        delete(idempotency_record).where(*_of(asked), idempotency_record.c.lease_until == lease_until)
    )


async def _lock(connection: AsyncConnection, asked: Asked) -> bool:
    # On SQLite a transaction that writes has the file to itself.
    if connection.dialect.name != "postgresql":
        return True
    place = hashlib.sha256(f"idempotency {asked.tenant_id} {asked.key}".encode()).digest()
    number = int.from_bytes(place[:8], "big", signed=True)
    return bool((await connection.execute(_TRY_LOCK, {"number": number})).scalar_one())


def _of(asked: Asked) -> tuple[ColumnElement[bool], ...]:
    return idempotency_record.c.tenant_id == asked.tenant_id, idempotency_record.c.key == asked.key


def _values(asked: Asked) -> dict[str, Any]:
    return {
        "tenant_id": asked.tenant_id,
        "key": asked.key,
        "request_hash": asked.request_hash,
        "made_at": now(),
    }
