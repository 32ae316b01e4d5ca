"""REST of deliveries: what is owed to whom, how it ended, and owing it again."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, assert_never

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.errors import not_found, wrong_state
from app.api.fields import UtcTime, id_in
from app.api.filters import EndpointIdParameter, EventIdParameter, SubscriptionIdParameter
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems
from app.api.paging import Page, PageQuery, cut_page, read_cursor
from app.api.state import State
from app.domain.ids import DeliveryKey, public_id
from app.domain.verdict import CancelReason, DeadReason, DeliveryStatus
from app.store import deliveries
from app.store.deliveries import Attempt, Delivery, DeliveryFilter
from app.store.place import Place
from app.store.retry import RetryAnswer, retry

router = APIRouter(prefix="/deliveries", tags=["deliveries"], route_class=IdempotentRoute)


class DeliveryQuery(PageQuery):
    """Which deliveries are listed."""

    status: DeliveryStatus | None = Field(default=None, description="How they stand.")
    endpoint_id: EndpointIdParameter | None = Field(default=None, description="Where they go.")
    subscription_id: SubscriptionIdParameter | None = Field(default=None, description="Through which subscription.")
    event_id: EventIdParameter | None = Field(default=None, description="Which event they tell of.")


class DeliveryView(BaseModel):
    """A delivery, and how it stands."""

    id: str = Field(description="What receivers see as `webhook-id` and `Idempotency-Key`.")
    event_id: str
    subscription_id: str
    endpoint_id: str
    status: DeliveryStatus
    reason: DeadReason | CancelReason | None = Field(
        description="Why it is dead, or `late` where it was cancelled as too old; null otherwise."
    )
    due_at: UtcTime | None = Field(
        description="When it is tried next; null when it is over, or waits for an earlier one."
    )
    created_at: UtcTime
    ended_at: UtcTime | None = Field(description="When it ended; null while it is pending.")


class AttemptView(BaseModel):
    """One try of a delivery."""

    number: int
    started_at: UtcTime
    latency_ms: int | None
    status_code: int | None = Field(description="What the receiver answered; null where it did not, or is no webhook.")
    error: str | None = Field(description="What went wrong, in words.")
    response: str | None = Field(description="How the answer began: at most 2 KiB, as text.")


class DeliveryDetail(DeliveryView):
    """A delivery with its attempts, the first one first."""

    attempts: list[AttemptView]


class DeliveryPage(Page[DeliveryView]):
    """One page of deliveries, newest first."""


@router.get("", operation_id="list_deliveries", responses=problems(400, 422))
async def list_deliveries(tenant: Tenant, state: State, query: Annotated[DeliveryQuery, Query()]) -> DeliveryPage:
    """List deliveries, newest first; one that ends meanwhile keeps its place."""
    after = read_cursor("dlv", query.cursor)
    wanted = DeliveryFilter(
        status=query.status,
        endpoint_id=query.endpoint_id,
        subscription_id=query.subscription_id,
        event_id=query.event_id,
    )
    async with state.database.read() as connection:
        found = await deliveries.list_deliveries(connection, tenant, wanted=wanted, after=after, limit=query.limit + 1)
    rows, cursor = cut_page("dlv", found, query.limit, lambda each: Place(at=each.created_at, id=each.key))
    return DeliveryPage(data=[delivery_view(each) for each in rows], next_cursor=cursor)


@router.get("/{delivery_id}", operation_id="get_delivery", responses=problems(404))
async def get_delivery(tenant: Tenant, state: State, delivery_id: str) -> DeliveryDetail:
    """Give one delivery with its attempts."""
    async with state.database.read() as connection:
        found = await deliveries.get_delivery(connection, tenant, _key(delivery_id))
    return _detail(found)


@router.post(
    "/{delivery_id}/retry",
    operation_id="retry_delivery",
    status_code=HTTPStatus.ACCEPTED,
    responses=problems(404, 409),
)
async def retry_delivery(tenant: Tenant, state: State, delivery_id: str) -> DeliveryDetail:
    """Make a pending delivery due now, or a dead one pending again with a fresh schedule."""
    key = _key(delivery_id)
    retried = await state.database.write_again(lambda connection: retry(connection, tenant, key))
    _refuse(retried.answer)
    async with state.database.read() as connection:
        found = await deliveries.get_delivery(connection, tenant, key)
    if retried.lane_id is not None:
        state.wake(frozenset({retried.lane_id}))
    return _detail(found)


def delivery_view(shown: Delivery) -> DeliveryView:
    """Show a delivery."""
    return DeliveryView(
        id=public_id("dlv", shown.key),
        event_id=public_id("evt", shown.event_id),
        subscription_id=public_id("sub", shown.subscription_id),
        endpoint_id=public_id("ep", shown.endpoint_id),
        status=shown.status,
        reason=shown.reason,
        due_at=shown.due_at,
        created_at=shown.created_at,
        ended_at=shown.ended_at,
    )


def _detail(found: tuple[Delivery, Sequence[Attempt]] | None) -> DeliveryDetail:
    if found is None:
        raise not_found("delivery")
    shown, attempts = found
    return DeliveryDetail(**dict(delivery_view(shown)), attempts=[_attempt_view(each) for each in attempts])


def _attempt_view(shown: Attempt) -> AttemptView:
    # No answer and an empty one are kept alike; only a status tells that there was one.
    is_answered = shown.status_code is not None or bool(shown.response)
    return AttemptView(
        number=shown.number,
        started_at=shown.started_at,
        latency_ms=shown.latency_ms,
        status_code=shown.status_code,
        error=shown.error,
        response=(shown.response or b"").decode("utf-8", "replace") if is_answered else None,
    )


def _refuse(answer: RetryAnswer) -> None:
    match answer:
        case "owed":
            return
        case "unknown":
            raise not_found("delivery")
        case "ended":
            raise wrong_state("The delivery is over: only a pending or a dead one can be tried again.")
        case "unsubscribed":
            raise wrong_state("Its subscription or endpoint was deleted: nothing is delivered through it any more.")
        case _:
            assert_never(answer)


def _key(text: str) -> DeliveryKey:
    return DeliveryKey(id_in("dlv", text, "delivery"))
