"""REST of the quarantine: what could not be decoded or stored, with its bytes and the reason."""

import base64

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.errors import not_found
from app.api.fields import UtcTime
from app.api.openapi import problems
from app.api.paging import Page, PageParameters, read_cursor, write_cursor
from app.api.state import State
from app.domain.ids import QuarantineId, parse_id, public_id
from app.store import quarantine
from app.store.quarantine import Quarantined

router = APIRouter(prefix="/quarantine", tags=["quarantine"])


class QuarantineView(BaseModel):
    """Something that could not be decoded or stored."""

    id: str
    source_id: str
    reason: str = Field(description="What is wrong with it, in words.")
    bytes: str = Field(description="What was received, in base64.", json_schema_extra={"format": "byte"})
    seen: int = Field(description="How often it came.")
    first_seen_at: UtcTime
    last_seen_at: UtcTime


class QuarantinePage(Page[QuarantineView]):
    """One page of the quarantine, what came last first."""


@router.get("", operation_id="list_quarantine", responses=problems(400, 422))
async def list_quarantine(tenant: Tenant, state: State, query: PageParameters) -> QuarantinePage:
    """List the quarantine, what came last first. A page ends before its limit when it would hold too many bytes."""
    after = read_cursor("qrn", query.cursor)
    async with state.database.read() as connection:
        rows, place = await quarantine.list_quarantine(connection, tenant, after=after, limit=query.limit)
    cursor = None if place is None else write_cursor("qrn", place)
    return QuarantinePage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{quarantine_id}", operation_id="get_quarantined", responses=problems(404))
async def get_quarantined(tenant: Tenant, state: State, quarantine_id: str) -> QuarantineView:
    """Give one thing from the quarantine."""
    raw = parse_id("qrn", quarantine_id)
    if raw is None:
        raise not_found("thing in the quarantine")
    async with state.database.read() as connection:
        found = await quarantine.get_quarantined(connection, tenant, QuarantineId(raw))
    if found is None:
        raise not_found("thing in the quarantine")
    return _view(found)


def _view(shown: Quarantined) -> QuarantineView:
    return QuarantineView(
        id=public_id("qrn", shown.id),
        source_id=public_id("src", shown.source_id),
        reason=shown.reason,
        bytes=base64.b64encode(shown.raw).decode("ascii"),
        seen=shown.seen,
        first_seen_at=shown.first_seen_at,
        last_seen_at=shown.last_seen_at,
    )
