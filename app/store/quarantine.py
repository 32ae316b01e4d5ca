"""The quarantine as people read it: what could not be decoded or stored. How things leave it is in reprocess.py."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import ColumnElement, LargeBinary, Row, Select, Tuple, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import QuarantineId, SourceId, TenantId
from app.store.columns import Instant, one_of
from app.store.outbox_schema import quarantine
from app.store.place import Place, page_after

MOST_BYTES: Final = 8 * 1024 * 1024
# Counting ends here: whoever reads the number wants to know how much there is, not exactly how much too much.
MOST_COUNTED: Final = 1_000_000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFilter:
    """Which of what is kept is meant; None takes all.

    `reason` is a part of the reason, in capitals or not. `since` and `until` bound when it first came, the first
    included, the second not.
    """

    source_id: SourceId | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where something stands in the quarantine, and how many bytes it has."""

    id: QuarantineId
    first_seen_at: datetime
    size: int

    @property
    def place(self) -> Place:
        """Its place in lists."""
        return Place(at=self.first_seen_at, id=self.id)


async def list_quarantine(  # noqa: PLR0913 -- a list's filter, place and limit, and the bound on its bytes
    connection: AsyncConnection,
    tenant_id: TenantId,
    *,
    after: Place | None,
    limit: int,
    wanted: QuarantineFilter | None = None,
    most_bytes: int = MOST_BYTES,
) -> tuple[Sequence[Quarantined], Place | None]:
    """Read a page of what is kept, that which came last first, and the place it ends at when there is more.

    Coming again changes no place. What is kept may be large: a page ends early where its bytes pass `most_bytes`.
    """
    wanted = wanted or QuarantineFilter()
    found = await connection.execute(list_statement(tenant_id, wanted=wanted, after=after, limit=limit + 1))
    places = [_kept(row) for row in found]
    page = fitting(places, most_bytes)[:limit]
    rows = await read_kept(connection, [each.id for each in page])
    in_order = sorted(rows, key=lambda each: (each.first_seen_at, each.id), reverse=True)
    return in_order, None if len(page) == len(places) else page[-1].place


async def get_quarantined(
    connection: AsyncConnection, tenant_id: TenantId, quarantine_id: QuarantineId
) -> Quarantined | None:
    """Read one."""
    found = await connection.execute(
        select(quarantine).where(quarantine.c.id == quarantine_id, quarantine.c.tenant_id == tenant_id)
    )
    row = found.first()
    return None if row is None else _quarantined(row)


async def read_kept(connection: AsyncConnection, ids: Collection[QuarantineId]) -> Sequence[Quarantined]:
    """Read several by their ids, in no order; those that are gone are left out."""
    rows = await connection.execute(select(quarantine).where(one_of(connection, quarantine.c.id, ids)))
    return [_quarantined(row) for row in rows]


async def newest_place(connection: AsyncConnection, tenant_id: TenantId) -> Place | None:
    """Find the place of what came last; None when nothing is kept."""
    found = await connection.execute(list_statement(tenant_id, wanted=QuarantineFilter(), after=None, limit=1))
    row = found.first()
    return None if row is None else _kept(row).place


async def find_oldest(
    connection: AsyncConnection,
    tenant_id: TenantId,
    *,
    wanted: QuarantineFilter,
    between: tuple[Place | None, Place],
    limit: int,
) -> Sequence[Kept]:
    """Find what is kept after one place and up to another, the oldest first."""
    statement = oldest_statement(tenant_id, wanted=wanted, between=between, limit=limit)
    return [_kept(row) for row in await connection.execute(statement)]


async def count_kept(
    connection: AsyncConnection,
    tenant_id: TenantId,
    *,
    wanted: QuarantineFilter,
    between: tuple[Place | None, Place],
) -> int:
    """Count what is kept after one place and up to another; MOST_COUNTED stands for that many or more."""
    some = _chosen(select(quarantine.c.id), tenant_id, wanted).where(*_between(wanted, *between))
    counted = select(func.count()).select_from(some.limit(MOST_COUNTED).subquery())
    found: int = (await connection.execute(counted)).scalar_one()
    return found


def fitting(found: Sequence[Kept], most_bytes: int) -> Sequence[Kept]:
    """Take from the beginning what holds no more bytes than that together, and one at least."""
    read_so_far = accumulate(each.size for each in found)
    return found[: max(1, sum(total <= most_bytes for total in read_so_far))]


def list_statement(tenant_id: TenantId, *, wanted: QuarantineFilter, after: Place | None, limit: int) -> Select[Any]:
    """Build what finds a page; a test looks at its plan."""
    return page_after(
        _chosen(_PLACES, tenant_id, wanted).where(*_later_than(_since(wanted))),
        _earliest(after, _until(wanted)),
        at=quarantine.c.first_seen_at,
        id_=quarantine.c.id,
        limit=limit,
    )


def oldest_statement(
    tenant_id: TenantId, *, wanted: QuarantineFilter, between: tuple[Place | None, Place], limit: int
) -> Select[Any]:
    """Build what find_oldest runs; a test looks at its plan."""
    return (
        _chosen(_PLACES, tenant_id, wanted)
        .where(*_between(wanted, *between))
        .order_by(quarantine.c.first_seen_at, quarantine.c.id)
        .limit(limit)
    )


# The size is known without reading the bytes, on both databases.
_PLACES: Final = select(quarantine.c.id, quarantine.c.first_seen_at, func.length(quarantine.c.raw).label("size"))
_here: Final = tuple_(quarantine.c.first_seen_at, quarantine.c.id)


def _chosen(columns: Select[Any], tenant_id: TenantId, wanted: QuarantineFilter) -> Select[Any]:
    """Choose by all of a filter but its times."""
    chosen = columns.where(quarantine.c.tenant_id == tenant_id)
    if wanted.source_id is not None:
        chosen = chosen.where(quarantine.c.source_id == wanted.source_id)
    if wanted.reason is not None:
        chosen = chosen.where(quarantine.c.reason.icontains(wanted.reason, autoescape=True))
    return chosen


# Times are places before every id of that moment: with two bounds on one side SQLite would walk from the wider one.
def _since(wanted: QuarantineFilter) -> Place | None:
    return None if wanted.since is None else Place(at=wanted.since, id=b"")


def _until(wanted: QuarantineFilter) -> Place | None:
    return None if wanted.until is None else Place(at=wanted.until, id=b"")


def _between(wanted: QuarantineFilter, after: Place | None, last: Place) -> list[ColumnElement[bool]]:
    end = _earliest(last, _until(wanted))
    return [*_later_than(_latest(after, _since(wanted))), *([] if end is None else [_here <= _place(end)])]


def _later_than(place: Place | None) -> list[ColumnElement[bool]]:
    return [] if place is None else [_here > _place(place)]


def _earliest(*places: Place | None) -> Place | None:
    return min((each for each in places if each is not None), key=_order, default=None)


def _latest(*places: Place | None) -> Place | None:
    return max((each for each in places if each is not None), key=_order, default=None)


def _order(place: Place) -> tuple[datetime, bytes]:
    return place.at, place.id


def _place(place: Place) -> Tuple:
    return tuple_(literal(place.at, Instant()), literal(place.id, LargeBinary()))


def _kept(row: Row[Any]) -> Kept:
    return Kept(id=QuarantineId(row.id), first_seen_at=row.first_seen_at, size=row.size)


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
