"""The quarantine as people read it: what could not be decoded or stored. Writing to it is not here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import QuarantineId, SourceId, TenantId
from app.store.columns import one_of
from app.store.place import Place, page_after
from app.store.schema import quarantine

MOST_BYTES: Final = 8 * 1024 * 1024


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
    connection: AsyncConnection, tenant_id: TenantId, *, after: Place | None, limit: int, most_bytes: int = MOST_BYTES
) -> tuple[Sequence[Quarantined], Place | None]:
    """Read a page of what is kept, that which came last first, and the place it ends at when there is more.

    Coming again changes no place. What is kept may be large: a page ends early where its bytes pass `most_bytes`.
    """
    chosen = select(quarantine.c.id, quarantine.c.first_seen_at, func.length(quarantine.c.raw).label("size"))
    found = await connection.execute(
        page_after(
            chosen.where(quarantine.c.tenant_id == tenant_id),
            after,
            at=quarantine.c.first_seen_at,
            id_=quarantine.c.id,
            limit=limit + 1,
        )
    )
    places = list(found)
    read_so_far = accumulate(row.size for row in places)
    fitting = max(1, sum(total <= most_bytes for total in read_so_far))
    page = places[: min(limit, fitting)]
    rows = await connection.execute(
        page_after(
            select(quarantine).where(one_of(connection, quarantine.c.id, [row.id for row in page])),
            None,
            at=quarantine.c.first_seen_at,
            id_=quarantine.c.id,
            limit=limit,
        )
    )
    is_last = len(page) == len(places)
    return [_quarantined(row) for row in rows], None if is_last else Place(at=page[-1].first_seen_at, id=page[-1].id)


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
