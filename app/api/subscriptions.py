"""REST of subscriptions: which events go to which endpoint. What may be said of one is in subscription_fields.py."""

from dataclasses import replace
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.bodies import JsonObject, drop_unchanged, merge_known, refuse_fields, validate
from app.api.errors import Problem, invalid_field, not_found
from app.api.fields import UtcTime, id_in
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems, takes, takes_patch_of
from app.api.paging import Page, PageParameters, cut_page, read_cursor
from app.api.state import ApiState, State
from app.api.subscription_fields import FilterFields, SubscriptionFields, as_fields, read_filter
from app.domain.configuration import Endpoint, Format, Subscription
from app.domain.ids import EndpointId, SubscriptionId, parse_id, public_id
from app.domain.matching import unknown_events
from app.domain.operator_event import is_operator_name
from app.store import endpoints, subscriptions
from app.store.epoch import lock_changes
from app.store.place import Place
from app.store.subscriptions import NewSubscription

router = APIRouter(prefix="/subscriptions", tags=["subscriptions"], route_class=IdempotentRoute)

_READ_ONLY: Final = ("id", "created_at", "updated_at", "warnings")


class SubscriptionView(BaseModel):
    """A subscription."""

    id: str
    name: str
    endpoint_id: str
    filter: FilterFields
    format: Format
    created_at: UtcTime
    updated_at: UtcTime


class SubscriptionWritten(SubscriptionView):
    """A subscription as it was written down, and what may be amiss with it."""

    warnings: list[str] = Field(description="Event names that nobody knows: they are matched all the same.")


class SubscriptionPage(Page[SubscriptionView]):
    """One page of subscriptions, newest first."""


@router.post(
    "",
    operation_id="create_subscription",
    status_code=HTTPStatus.CREATED,
    responses=problems(400, 413, 422),
    openapi_extra=takes(SubscriptionFields),
)
async def create_subscription(
    tenant: Tenant, state: State, body: JsonObject, request: Request, response: Response
) -> SubscriptionWritten:
    """Subscribe an endpoint: events received after the answer are matched by it."""
    refuse_fields(body, _READ_ONLY, "This field is read only.")
    fields = validate(SubscriptionFields, merge_known(SubscriptionFields, {}, body))
    async with state.database.write() as connection:
        await lock_changes(connection)
        endpoint = await endpoints.find(connection, tenant, _endpoint_id(fields))
        made = await subscriptions.create(connection, tenant, _resolve(state, fields, endpoint))
    state.changed()
    view = _written(made)
    response.headers["Location"] = f"{request.url.path}/{view.id}"
    return view


@router.get("", operation_id="list_subscriptions", responses=problems(400, 422))
async def list_subscriptions(tenant: Tenant, state: State, query: PageParameters) -> SubscriptionPage:
    """List subscriptions, newest first."""
    after = read_cursor("sub", query.cursor)
    async with state.database.read() as connection:
        found = await subscriptions.list_page(connection, tenant, limit=query.limit + 1, after=after)
    rows, cursor = cut_page("sub", found, query.limit, _place)
    return SubscriptionPage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{subscription_id}", operation_id="get_subscription", responses=problems(404))
async def get_subscription(tenant: Tenant, state: State, subscription_id: str) -> SubscriptionView:
    """Give one subscription."""
    async with state.database.read() as connection:
        found = await subscriptions.find(connection, tenant, _id(subscription_id))
    if found is None:
        raise not_found("subscription")
    return _view(found)


@router.patch(
    "/{subscription_id}",
    operation_id="change_subscription",
    responses=problems(400, 404, 413, 422),
    openapi_extra=takes_patch_of(SubscriptionFields),
)
async def change_subscription(
    tenant: Tenant, state: State, subscription_id: str, patch: JsonObject
) -> SubscriptionWritten:
    """Change a subscription by a merge patch (RFC 7396). Deliveries already owed stay, in the new format."""
    async with state.database.write() as connection:
        await lock_changes(connection)
        found = await subscriptions.find(connection, tenant, _id(subscription_id))
        if found is None:
            raise not_found("subscription")
        patch = drop_unchanged(SubscriptionFields, patch, _view(found))
        refuse_fields(patch, _READ_ONLY, "This field is read only.")
        fields = validate(SubscriptionFields, merge_known(SubscriptionFields, as_fields(found), patch))
        endpoint = await endpoints.find(connection, tenant, _endpoint_id(fields))
        wanted = _resolve(state, fields, endpoint)
        changed = await subscriptions.change(
            connection,
            replace(
                found,
                name=wanted.name,
                endpoint_id=wanted.endpoint_id,
                filter=wanted.filter,
                format=wanted.format,
            ),
        )
    state.changed()
    return _written(changed)


@router.delete(
    "/{subscription_id}",
    operation_id="delete_subscription",
    status_code=HTTPStatus.NO_CONTENT,
    responses=problems(404),
)
async def delete_subscription(tenant: Tenant, state: State, subscription_id: str) -> None:
    """Delete a subscription; deliveries still owed end as cancelled."""
    async with state.database.write() as connection:
        if not await subscriptions.delete(connection, tenant, _id(subscription_id)):
            raise not_found("subscription")
    state.changed()


def _resolve(state: ApiState, fields: SubscriptionFields, endpoint: Endpoint | None) -> NewSubscription:
    """Fill in what the endpoint's kind decides. Raises Problem when there is no endpoint."""
    if endpoint is None:
        raise _no_endpoint()
    if fields.format == "s3" and any(map(is_operator_name, fields.filter.events)):
        raise invalid_field("/format", "Operator events have no record of S3's: choose another format for them.")
    return NewSubscription(
        name=fields.name,
        endpoint_id=endpoint.id,
        filter=fields.filter.value(),
        format=fields.format or state.destination_kinds[endpoint.kind].default_format,
    )


def _endpoint_id(fields: SubscriptionFields) -> EndpointId:
    raw = parse_id("ep", fields.endpoint_id)
    if raw is None:
        raise _no_endpoint()
    return EndpointId(raw)


def _no_endpoint() -> Problem:
    return invalid_field("/endpoint_id", "There is no such endpoint.")


def _id(text: str) -> SubscriptionId:
    return SubscriptionId(id_in("sub", text, "subscription"))


def _place(subscription: Subscription) -> Place:
    return Place(at=subscription.created_at, id=subscription.id)


def _view(subscription: Subscription) -> SubscriptionView:
    return SubscriptionView(
        id=public_id("sub", subscription.id),
        name=subscription.name,
        endpoint_id=public_id("ep", subscription.endpoint_id),
        filter=read_filter(subscription),
        format=subscription.format,
        created_at=subscription.created_at,
        updated_at=subscription.updated_at,
    )


def _written(subscription: Subscription) -> SubscriptionWritten:
    return SubscriptionWritten(
        **_view(subscription).model_dump(),
        warnings=unknown_events(subscription.filter.events),
    )
