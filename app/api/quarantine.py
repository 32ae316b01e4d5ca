"""REST of the quarantine: what could not be decoded or stored, with its bytes and the reason, and how it leaves."""

import base64
from http import HTTPStatus
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.bodies import JsonObject, validate
from app.api.errors import Problem, not_found
from app.api.fields import UtcTime
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems, takes
from app.api.paging import Page, read_cursor, write_cursor
from app.api.quarantine_fields import QuarantineBulkFields, QuarantineQuery, read_extent, write_extent
from app.api.state import State
from app.domain.ids import QuarantineId, TenantId, parse_id, public_id
from app.store import clearing, quarantine
from app.store.clearing import Cleared, Run
from app.store.quarantine import Quarantined

router = APIRouter(prefix="/quarantine", tags=["quarantine"], route_class=IdempotentRoute)

_log = structlog.get_logger(__name__)


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
    """One page of the quarantine, newest `first_seen_at` first."""


class ReprocessView(BaseModel):
    """What came of reprocessing one thing."""

    outcome: Literal["recorded", "refused"] = Field(
        description="`recorded`: it left the quarantine, though pieces of it may have stayed. `refused`: it stays."
    )
    events: list[str] = Field(description="The events it holds, also those that were known already.")
    reason: str | None = Field(description="What is refused still, in words; null when nothing is.")


class BulkView(BaseModel):
    """How far a run through the quarantine came."""

    matched: int = Field(description="How many things it covers: those it came to, and `remaining`.")
    remaining: int = Field(description="How many it did not come to yet; 1000000 stands for that many or more.")
    dry_run: bool
    next_cursor: str | None = Field(description="Where the next call goes on; null when the run is over.")


class BulkReprocessView(BulkView):
    """What came of reprocessing many things."""

    recorded: int = Field(description="How many left the quarantine.")
    refused: int = Field(description="How many stay. A run comes to each thing once.")


class BulkDiscardView(BulkView):
    """What came of discarding many things."""

    discarded: int


@router.get("", operation_id="list_quarantine", responses=problems(400, 422))
async def list_quarantine(tenant: Tenant, state: State, query: Annotated[QuarantineQuery, Query()]) -> QuarantinePage:
    """List the quarantine, what came last first. A page ends before its limit when it would hold too many bytes."""
    after = read_cursor("qrn", query.cursor)
    async with state.database.read() as connection:
        rows, place = await quarantine.list_quarantine(
            connection, tenant, after=after, limit=query.limit, wanted=query.value()
        )
    cursor = None if place is None else write_cursor("qrn", place)
    return QuarantinePage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{quarantine_id}", operation_id="get_quarantined", responses=problems(404))
async def get_quarantined(tenant: Tenant, state: State, quarantine_id: str) -> QuarantineView:
    """Give one thing from the quarantine."""
    async with state.database.read() as connection:
        found = await quarantine.get_quarantined(connection, tenant, _id(quarantine_id))
    if found is None:
        raise _nothing()
    return _view(found)


@router.post("/{quarantine_id}/reprocess", operation_id="reprocess_quarantined", responses=problems(404))
async def reprocess_quarantined(tenant: Tenant, state: State, quarantine_id: str) -> ReprocessView:
    """Decode something once more, and record its events with what they owe as if it came now.

    What of it is refused still stays in the quarantine; what was recorded leaves it in the same transaction.
    """
    done = await state.reprocessing.reprocess(tenant, _id(quarantine_id))
    if done is None:
        raise _nothing()
    state.wake(done.lanes)
    return ReprocessView(
        outcome=done.outcome, events=[public_id("evt", each) for each in done.events], reason=done.reason
    )


@router.post(
    "/{quarantine_id}/discard",
    operation_id="discard_quarantined",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(404),
)
async def discard_quarantined(tenant: Tenant, state: State, quarantine_id: str) -> None:
    """Delete something from the quarantine, for good."""
    async with state.database.write() as connection:
        if not await clearing.discard(connection, tenant, _id(quarantine_id)):
            raise _nothing()
    _log.info("quarantine.discarded", quarantine_id=quarantine_id, discarded=1)


@router.post(
    "/reprocess",
    operation_id="reprocess_quarantine",
    responses=problems(400, 413, 422),
    openapi_extra=takes(QuarantineBulkFields),
)
async def reprocess_quarantine(tenant: Tenant, state: State, body: JsonObject) -> BulkReprocessView:
    """Reprocess what a filter takes, the oldest first, for some five seconds; `next_cursor` leads on.

    A run covers what was there when it began, and comes to each thing once: also to what it leaves behind.
    """
    fields, run = _run(tenant, body)
    if fields.dry_run:
        return BulkReprocessView(**await _previewed(state, run), recorded=0, refused=0)
    cleared = await state.reprocessing.reprocess_all(run)
    state.wake(cleared.lanes)
    return BulkReprocessView(**_told(cleared), recorded=cleared.gone, refused=cleared.refused)


@router.post(
    "/discard",
    operation_id="discard_quarantine",
    responses=problems(400, 413, 422),
    openapi_extra=takes(QuarantineBulkFields),
)
async def discard_quarantine(tenant: Tenant, state: State, body: JsonObject) -> BulkDiscardView:
    """Delete what a filter takes, for good, the oldest first, for some five seconds; `next_cursor` leads on."""
    fields, run = _run(tenant, body)
    if fields.dry_run:
        return BulkDiscardView(**await _previewed(state, run), discarded=0)
    cleared = await clearing.discard_all(state.database, run)
    _log.info("quarantine.discarded", filter=body["filter"], discarded=cleared.gone, remaining=cleared.remaining)
    return BulkDiscardView(**_told(cleared), discarded=cleared.gone)


def _run(tenant: TenantId, body: JsonObject) -> tuple[QuarantineBulkFields, Run]:
    fields = validate(QuarantineBulkFields, body)
    return fields, Run(tenant_id=tenant, wanted=fields.filter.value(), extent=read_extent(fields.cursor))


async def _previewed(state: State, run: Run) -> dict[str, Any]:
    counted = await clearing.preview(state.database, run)
    return {"matched": counted, "remaining": counted, "dry_run": True, "next_cursor": write_extent(run.extent)}


def _told(cleared: Cleared) -> dict[str, Any]:
    return {
        "matched": cleared.gone + cleared.refused + cleared.remaining,
        "remaining": cleared.remaining,
        "dry_run": False,
        "next_cursor": write_extent(cleared.rest),
    }


def _id(text: str) -> QuarantineId:
    raw = parse_id("qrn", text)
    if raw is None:
        raise _nothing()
    return QuarantineId(raw)


def _nothing() -> Problem:
    return not_found("thing in the quarantine")


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
