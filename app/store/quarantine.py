"""The quarantine as people read it: what could not be decoded or stored. Writing to it is not here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import QuarantineId, SourceId, TenantId
from app.store.place import Place, page_after
from app.store.schema import quarantine


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Bytes a source handed over, why they are no event, and how often they came."""

    id: QuarantineId
    source_id: SourceId
    reason: str
    raw: bytes
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime


async def list_quarantine(
    connection: AsyncConnection, tenant_id: TenantId, *, after: Place | None, limit: int
) -> Sequence[Quarantined]:
    """Read what is kept, that which came last first; coming again changes no place."""
    chosen = select(quarantine).where(quarantine.c.tenant_id == tenant_id)
    rows = await connection.execute(
        page_after(chosen, after, at=quarantine.c.first_seen_at, id_=quarantine.c.id, limit=limit)
    )
    return [_quarantined(row) for row in rows]


async def get_quarantined(
    connection: AsyncConnection, tenant_id: TenantId, quarantine_id: QuarantineId
) -> Quarantined | None:
    """Read one."""
    found = await connection.execute(
        select(quarantine).where(quarantine.c.id == quarantine_id, quarantine.c.tenant_id == tenant_id)
    )
    row = found.first()
    return None if row is None else _quarantined(row)


def _quarantined(row: Row[Any]) -> Quarantined:
    return Quarantined(
        id=QuarantineId(row.id),
        source_id=SourceId(row.source_id),
        reason=row.reason,
        raw=row.raw,
        seen=row.seen,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
    )
