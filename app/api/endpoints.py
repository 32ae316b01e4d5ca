"""REST of endpoints: registered targets. What may be said of one is in endpoint_fields.py."""

from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api.auth import Tenant
from app.api.bodies import JsonObject, drop_unchanged
from app.api.endpoint_fields import EndpointFields, RetryFields, read_changed, read_new
from app.api.errors import not_found
from app.api.fields import UtcTime, id_in
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems, takes, takes_patch_of
from app.api.paging import Page, PageParameters, cut_page, read_cursor
from app.api.state import ApiState, State
from app.destinations.signing import secret_text
from app.domain.configuration import Consequence, Endpoint, Late, OnDead, Ordering
from app.domain.ids import EndpointId, public_id
from app.store import endpoints
from app.store.epoch import lock_changes
from app.store.place import Place

router = APIRouter(prefix="/endpoints", tags=["endpoints"], route_class=IdempotentRoute)


class EndpointView(BaseModel):
    """An endpoint, without its secret."""

    id: str
    name: str
    kind: str
    config: dict[str, Any] = Field(description='What the kind needs to know; values of headers read as "***".')
    state: Literal["active", "paused", "disabled"]
    disabled_at: UtcTime | None = Field(description="When it was disabled; `POST …/enable` ends it.")
    disabled_reason: str | None
    ordering: Ordering
    on_dead: OnDead
    reorder_window_seconds: float
    late: Late
    timeout_seconds: float
    max_in_flight: int
    rate_limit_per_second: float | None
    retry: RetryFields
    answers: dict[str, Consequence]
    paused: bool
    created_at: UtcTime
    updated_at: UtcTime


class EndpointMade(EndpointView):
    """An endpoint just created, with the secret of a webhook."""

    secret: str | None = Field(default=None, description="Of a webhook; shown this once.")


class EndpointPage(Page[EndpointView]):
    """One page of endpoints, newest first."""


@router.post(
    "",
    operation_id="create_endpoint",
    status_code=HTTPStatus.CREATED,
    response_model_exclude_unset=True,
    responses=problems(400, 413, 422),
    openapi_extra=takes(EndpointFields),
)
async def create_endpoint(
    tenant: Tenant, state: State, body: JsonObject, request: Request, response: Response
) -> EndpointMade:
    """Register an endpoint. Subscriptions say what goes to it."""
    new = read_new(state, body)
    async with state.database.write() as connection:
        made = await endpoints.create(connection, tenant, new)
    state.changed()
    shown = {} if made.secret is None else {"secret": secret_text(made.secret)}
    view = EndpointMade(**_view(state, made).model_dump(), **shown)
    response.headers["Location"] = f"{request.url.path}/{view.id}"
    return view


@router.get("", operation_id="list_endpoints", responses=problems(400, 422))
async def list_endpoints(tenant: Tenant, state: State, query: PageParameters) -> EndpointPage:
    """List endpoints, newest first."""
    after = read_cursor("ep", query.cursor)
    async with state.database.read() as connection:
        found = await endpoints.list_page(connection, tenant, limit=query.limit + 1, after=after)
    rows, cursor = cut_page("ep", found, query.limit, _place)
    return EndpointPage(data=[_view(state, each) for each in rows], next_cursor=cursor)


@router.get("/{endpoint_id}", operation_id="get_endpoint", responses=problems(404))
async def get_endpoint(tenant: Tenant, state: State, endpoint_id: str) -> EndpointView:
    """Give one endpoint."""
    async with state.database.read() as connection:
        found = await endpoints.find(connection, tenant, _id(endpoint_id))
    if found is None:
        raise not_found("endpoint")
    return _view(state, found)


@router.patch(
    "/{endpoint_id}",
    operation_id="change_endpoint",
    responses=problems(400, 404, 413, 422),
    openapi_extra=takes_patch_of(EndpointFields),
)
async def change_endpoint(tenant: Tenant, state: State, endpoint_id: str, patch: JsonObject) -> EndpointView:
    """Change an endpoint by a merge patch (RFC 7396). A header's value sent back as `***` stays what it is."""
    async with state.database.write() as connection:
        await lock_changes(connection)
        found = await endpoints.find(connection, tenant, _id(endpoint_id))
        if found is None:
            raise not_found("endpoint")
        wanted = read_changed(state, found, drop_unchanged(EndpointFields, patch, _view(state, found)))
        changed = await endpoints.change(connection, wanted.onto(found))
    state.changed()
    state.wake(frozenset({changed.lane_id}))
    return _view(state, changed)


@router.post("/{endpoint_id}/enable", operation_id="enable_endpoint", responses=problems(404))
async def enable_endpoint(tenant: Tenant, state: State, endpoint_id: str) -> EndpointView:
    """Let an endpoint that was disabled have its deliveries again, at once and from a clean slate."""
    async with state.database.write() as connection:
        enabled = await endpoints.enable(connection, tenant, _id(endpoint_id))
    if enabled is None:
        raise not_found("endpoint")
    state.changed()
    state.wake(frozenset({enabled.lane_id}))
    return _view(state, enabled)


@router.delete(
    "/{endpoint_id}", operation_id="delete_endpoint", status_code=HTTPStatus.NO_CONTENT, responses=problems(404)
)
async def delete_endpoint(tenant: Tenant, state: State, endpoint_id: str) -> None:
    """Delete an endpoint and its subscriptions; deliveries still owed end as cancelled."""
    async with state.database.write() as connection:
        if not await endpoints.delete(connection, tenant, _id(endpoint_id)):
            raise not_found("endpoint")
    state.changed()


def _id(text: str) -> EndpointId:
    return EndpointId(id_in("ep", text, "endpoint"))


def _place(endpoint: Endpoint) -> Place:
    return Place(at=endpoint.created_at, id=endpoint.id)


def _view(state: ApiState, endpoint: Endpoint) -> EndpointView:
    return EndpointView(
        id=public_id("ep", endpoint.id),
        name=endpoint.name,
        kind=endpoint.kind,
        config=dict(state.destination_kinds[endpoint.kind].public_config(endpoint.config)),
        state="disabled" if endpoint.disabled_at else "paused" if endpoint.is_paused else "active",
        disabled_at=endpoint.disabled_at,
        disabled_reason=endpoint.disabled_reason,
        ordering=endpoint.ordering,
        on_dead=endpoint.on_dead,
        reorder_window_seconds=endpoint.reorder_window_seconds,
        late=endpoint.late,
        timeout_seconds=endpoint.timeout_seconds,
        max_in_flight=endpoint.max_in_flight,
        rate_limit_per_second=endpoint.rate_limit_per_second,
        retry=RetryFields(schedule_seconds=list(endpoint.schedule_seconds), max_age_seconds=endpoint.max_age_seconds),
        answers=dict(endpoint.answers),
        paused=endpoint.is_paused,
        created_at=endpoint.created_at,
        updated_at=endpoint.updated_at,
    )
