"""REST of a source's dead-letter queues: what is in them, and moving it back. Dead deliveries are in deliveries.py."""

from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.errors import Problem, not_found, wrong_state
from app.api.fields import id_in
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems
from app.api.state import ApiState, State
from app.aws.errors import AwsError
from app.domain.errors import SourceError
from app.domain.ids import SourceId, TenantId
from app.sources import PullKind
from app.sources.dead_letters import DeadLetterQueue, DeadLetterQueues, RedriveState
from app.store import sources

router = APIRouter(prefix="/sources/{source_id}/dead-letter-queues", tags=["sources"], route_class=IdempotentRoute)

RETRY_AFTER_SECONDS: Final = 5

_log = structlog.get_logger(__name__)


class RedriveView(BaseModel):
    """Messages on their way back into the source's queue. Counts are approximate."""

    state: RedriveState = Field(description="`running`: look again, or ask once more where this process moves them.")
    moved: int
    failed: int = Field(description="How many could not be moved and are still here.")
    to_move: int = Field(description="How many there were to move.")


class DeadLetterQueueView(BaseModel):
    """A queue that holds what another gave out too often. Counts are approximate."""

    queue_url: str
    queue_arn: str
    depth: int = Field(description="Messages that could be received.")
    max_receive_count: int = Field(description="How often the source's queue gives out a message before it goes here.")
    retention_seconds: int = Field(description="How long a message is kept, counted from when it was first sent.")
    redrive: RedriveView | None = Field(description="The newest redrive; null when none is known.")


class DeadLetterQueueList(BaseModel):
    """The dead-letter queues of a source."""

    data: list[DeadLetterQueueView]


@router.get("", operation_id="list_dead_letter_queues", responses=problems(404, 409, 502, 503))
async def list_dead_letter_queues(tenant: Tenant, state: State, source_id: str) -> DeadLetterQueueList:
    """List the queues in which messages end that were received too often; asks the source's provider."""
    queues = await _open(state, tenant, source_id)
    return DeadLetterQueueList(data=await _told(queues.all()))


@router.post(
    "/redrive",
    operation_id="redrive_dead_letters",
    status_code=HTTPStatus.ACCEPTED,
    responses=problems(404, 409, 502, 503),
)
async def redrive_dead_letters(tenant: Tenant, state: State, source_id: str) -> DeadLetterQueueList:
    """Begin to move dead letters back into the source's queue; while a redrive runs this changes nothing.

    AWS moves them by itself. Where the provider cannot, each request moves some: ask again while it is `running`.
    An event that was recorded before is recognised and not delivered again.
    """
    queues = await _open(state, tenant, source_id)
    data = await _told(queues.redrive())
    if not data:
        raise wrong_state("The source's queue has no dead-letter queue: set a redrive policy on it first.")
    _log.info("dead_letters.redriven", source_id=source_id, redrives=[each.redrive for each in data])
    return DeadLetterQueueList(data=data)


async def _open(state: ApiState, tenant: TenantId, source_id: str) -> DeadLetterQueues:
    """Find a source's dead-letter queues; no connection to the database is kept meanwhile. Raises Problem."""
    raw = id_in("src", source_id, "source")
    async with state.database.read() as connection:
        found = await sources.find(connection, tenant, SourceId(raw))
    if found is None:
        raise not_found("source")
    kind = state.source_kinds.get(found.kind)
    if not isinstance(kind, PullKind) or kind.dead_letters is None:
        raise wrong_state(f"A source of kind {found.kind} has no dead-letter queues.")
    return kind.dead_letters(found)


async def _told(asked: Awaitable[Sequence[DeadLetterQueue]]) -> list[DeadLetterQueueView]:
    """Await an answer of the provider. Raises Problem in the provider's words."""
    try:
        return [DeadLetterQueueView.model_validate(asdict(each)) for each in await asked]
    except SourceError as error:
        if isinstance(error, AwsError) and error.status is not None:
            raise Problem(HTTPStatus.BAD_GATEWAY, "source_refused", str(error)) from error
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "source_unavailable",
            str(error),
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        ) from error
