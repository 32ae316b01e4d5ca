"""REST of events: what S3 said, each change once, and the bytes it said it in."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, WithJsonSchema

from app.api.auth import Tenant
from app.api.deliveries import DeliveryView, delivery_view
from app.api.errors import not_found
from app.api.fields import id_in
from app.api.filters import InstantParameter, TextParameter, raw_parameter
from app.api.openapi import problems
from app.api.paging import Page, PageParameters, PageQuery, cut_page, read_cursor
from app.api.state import State
from app.domain.configuration import Subscription
from app.domain.event import Change, StoredEvent
from app.domain.ids import EventId, public_id
from app.domain.matching import why_not
from app.domain.rendering import event_fields
from app.store import deliveries, events, subscriptions
from app.store.deliveries import Delivery
from app.store.events import EventFilter
from app.store.place import Place

router = APIRouter(prefix="/events", tags=["events"])

TimeText = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
_RECORD: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The record's bytes as they were received.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


class EventQuery(PageQuery):
    """Which events are listed."""

    bucket: TextParameter = Field(default="", description="The bucket's name.")
    key_prefix: str = Field(default="", description="What the decoded key begins with, compared by its bytes.")
    type: TextParameter = Field(
        default="", description="S3's name, with or without `s3:`, or an operator event's; a family ends in `*`."
    )
    since: InstantParameter | None = Field(default=None, description="The first `time` that is listed.")
    until: InstantParameter | None = Field(default=None, description="The first `time` that is listed no more.")


class EventView(BaseModel):
    """What S3 said of one change of one object, or an operator event; what was not said is null."""

    id: str
    type: str = Field(description="S3's name: `s3:ObjectCreated:Put`; of an operator event its own.")
    change: Change
    bucket: str | None
    key: str | None = Field(description="The decoded key; bytes that are no UTF-8 are shown as U+FFFD.")
    received_key: str | None = Field(description="The key as it was received.")
    version_id: str | None
    size: int | None
    etag: str | None = Field(description="Without quotes.")
    sequencer: str | None
    time: TimeText
    region: str | None
    actor: str | None
    source_ip: str | None
    request_id: str | None
    host_id: str | None
    extra: dict[str, Any] | None = Field(description="What only this kind of event has.")
    source_id: str | None = Field(description="The source that was heard first.")
    recorded_at: TimeText


class EventDetail(EventView):
    """An event with its deliveries, the newest first."""

    deliveries: list[DeliveryView]


class MatchView(BaseModel):
    """What became of an event for one subscription."""

    subscription_id: str
    endpoint_id: str
    delivery: DeliveryView | None = Field(description="What it owes, or owed, through this subscription.")
    because: str | None = Field(description="Why there is no delivery; null where there is one.")


class MatchPage(Page[MatchView]):
    """One page of subscriptions, newest first, and what became of the event for each."""


class EventPage(Page[EventView]):
    """One page of events, those recorded last first."""


@router.get("", operation_id="list_events", responses=problems(400, 422))
async def list_events(
    tenant: Tenant, state: State, query: Annotated[EventQuery, Query()], request: Request
) -> EventPage:
    """List events, those recorded last first."""
    after = read_cursor("evt", query.cursor)
    wanted = EventFilter(
        bucket=query.bucket or None,
        key_prefix=raw_parameter(request, "key_prefix"),
        type=query.type or None,
        since=query.since,
        until=query.until,
    )
    async with state.database.read() as connection:
        found = await events.list_events(connection, tenant, wanted=wanted, after=after, limit=query.limit + 1)
    rows, cursor = cut_page("evt", found, query.limit, lambda each: Place(at=each.recorded_at, id=each.event.id))
    return EventPage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{event_id}", operation_id="get_event", responses=problems(404))
async def get_event(tenant: Tenant, state: State, event_id: str) -> EventDetail:
    """Give one event with its deliveries."""
    raw = _id(event_id)
    async with state.database.read() as connection:
        found = await events.get_event(connection, tenant, raw)
        owed = await deliveries.deliveries_of_event(connection, tenant, raw)
    if found is None:
        raise not_found("event")
    return EventDetail(**dict(_view(found)), deliveries=[delivery_view(each) for each in owed])


@router.get(
    "/{event_id}/record",
    operation_id="get_event_record",
    response_class=Response,
    responses={**_RECORD, **problems(404)},
)
async def get_event_record(tenant: Tenant, state: State, event_id: str) -> Response:
    """Give the bytes of the event's record as they were received."""
    async with state.database.read() as connection:
        record = await events.get_record(connection, tenant, _id(event_id))
    if record is None:
        raise not_found("event")
    # Whoever wrote the record is a stranger: no browser is to take it for anything but JSON.
    return Response(record, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})


@router.get("/{event_id}/matches", operation_id="list_event_matches", responses=problems(400, 404, 422))
async def list_event_matches(tenant: Tenant, state: State, event_id: str, query: PageParameters) -> MatchPage:
    """Tell for each subscription, newest first, what became of the event, or why it does not take it."""
    raw, after = _id(event_id), read_cursor("sub", query.cursor)
    async with state.database.read() as connection:
        found = await events.get_event(connection, tenant, raw)
        subscribed = await subscriptions.list_page(connection, tenant, limit=query.limit + 1, after=after)
        owed = await deliveries.deliveries_of_event(connection, tenant, raw)
    if found is None:
        raise not_found("event")
    rows, cursor = cut_page("sub", subscribed, query.limit, lambda each: Place(at=each.created_at, id=each.id))
    by_subscription = {each.subscription_id: each for each in reversed(owed)}
    return MatchPage(data=[_match(each, found, by_subscription.get(each.id)) for each in rows], next_cursor=cursor)


def _match(subscription: Subscription, stored: StoredEvent, delivery: Delivery | None) -> MatchView:
    reason = why_not(subscription.filter, stored.event)
    if reason is None and delivery is None:
        reason = (
            "It would match now, but no delivery is known: the subscription is newer than the event, or was changed "
            "since, and a replay owes it; or the delivery ended longer ago than attempts are kept."
        )
    return MatchView(
        subscription_id=public_id("sub", subscription.id),
        endpoint_id=public_id("ep", subscription.endpoint_id),
        delivery=None if delivery is None else delivery_view(delivery),
        because=None if delivery is not None else reason,
    )


def _view(stored: StoredEvent) -> EventView:
    return EventView.model_validate(event_fields(stored))


def _id(text: str) -> EventId:
    return EventId(id_in("evt", text, "event"))
