"""REST of replays: jobs that owe deliveries again, counted first on request, paused and cancelled at will."""

from http import HTTPStatus
from typing import Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from app.api.auth import Tenant
from app.api.bodies import JsonObject, merge_known, validate
from app.api.errors import invalid_field, not_found, wrong_state
from app.api.fields import UtcTime, id_in
from app.api.filters import EndpointIdParameter, InstantParameter, SubscriptionIdParameter, TextParameter
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems, takes
from app.api.paging import Page, PageParameters, cut_page, read_cursor
from app.api.state import State
from app.domain.ids import ReplayId, TenantId, public_id
from app.store import configuration, endpoints, replay, replay_count, subscriptions
from app.store.events import EventFilter
from app.store.place import Place
from app.store.replay import Replay, ReplayState, Wanted

router = APIRouter(prefix="/replays", tags=["replays"], route_class=IdempotentRoute)

_COUNTED_ALL: Final = "False where counting stopped after some seconds: there may be more."


class ReplayFilter(BaseModel):
    """Which deliveries are owed again; what is left out takes all."""

    model_config = ConfigDict(extra="forbid")

    endpoint_id: EndpointIdParameter | None = Field(default=None, description="Where they go.")
    subscription_id: SubscriptionIdParameter | None = Field(
        default=None, description="Through which subscription; also one made after the events came."
    )
    bucket: TextParameter | None = Field(default=None, description="The bucket's name.")
    key_prefix: TextParameter = Field(default="", description="What the decoded key begins with.")
    type: TextParameter | None = Field(
        default=None, description="S3's name, or an operator event's; a family ends in `*`."
    )
    since: InstantParameter | None = Field(
        default=None,
        description="The first `time` of an event that is taken; one that lies a day after its arrival may be missed.",
    )
    until: InstantParameter | None = Field(default=None, description="The first `time` that is taken no more.")
    status: Literal["dead", "delivered", "cancelled"] | None = Field(
        default=None, description="Only deliveries that stand so; what is pending is on its way already."
    )


class ReplayFields(BaseModel):
    """What a caller says of a replay."""

    model_config = ConfigDict(extra="forbid")

    filter: ReplayFilter = Field(description="Required; an empty one takes everything that is kept.")
    new_idempotency_keys: bool = Field(
        default=False, description="Give each delivery a new key, so that receivers do not take it for a duplicate."
    )
    dry_run: bool = Field(default=False, description="Count, and change nothing.")


class ReplayView(BaseModel):
    """A replay and how far it is."""

    id: str
    state: ReplayState
    events: int = Field(description="Events it looks at in all, counted when it was made.")
    counted_all: bool = Field(description=_COUNTED_ALL)
    events_looked_at: int
    deliveries_owed: int
    reached_at: UtcTime | None = Field(description="It is through with what was recorded until then.")
    held_by: str | None = Field(
        description="The endpoint that it waits for: something due there has waited for more than 2 s."
    )
    new_idempotency_keys: bool
    created_at: UtcTime
    updated_at: UtcTime
    ended_at: UtcTime | None


class ReplayCount(BaseModel):
    """What a dry run counted."""

    events: int
    deliveries: int = Field(description="What a replay made now would owe for those events.")
    counted_all: bool = Field(description=_COUNTED_ALL)


class ReplayPage(Page[ReplayView]):
    """One page of replays, newest first."""


@router.post(
    "",
    operation_id="create_replay",
    status_code=HTTPStatus.CREATED,
    response_model=ReplayView,
    responses={200: {"model": ReplayCount, "description": "Of a dry run"}, **problems(400, 413, 422)},
    openapi_extra=takes(ReplayFields),
)
async def create_replay(tenant: Tenant, state: State, body: JsonObject, request: Request) -> Response:
    """Owe deliveries again: in the order the events came, below live traffic, under the same keys unless asked."""
    fields = validate(ReplayFields, merge_known(ReplayFields, {}, body))
    wanted = _wanted(fields.filter)
    async with state.database.read() as connection:
        if wanted.endpoint_id and await endpoints.find(connection, tenant, wanted.endpoint_id) is None:
            raise invalid_field("/filter/endpoint_id", "There is no such endpoint.")
        if wanted.subscription_id and await subscriptions.find(connection, tenant, wanted.subscription_id) is None:
            raise invalid_field("/filter/subscription_id", "There is no such subscription.")
        known = await configuration.load(connection) if fields.dry_run else None
    counted = await replay_count.count(state.database, tenant, wanted, known, seconds=state.counting_seconds)
    if fields.dry_run:
        count = ReplayCount(events=counted.events, deliveries=counted.deliveries, counted_all=counted.is_all)
        return JSONResponse(count.model_dump(mode="json"))
    async with state.database.write() as connection:
        made = await replay.create(connection, tenant, wanted, new_keys=fields.new_idempotency_keys, counted=counted)
    view = _view(await _find(state, tenant, made))
    headers = {"Location": f"{request.url.path}/{view.id}"}
    return JSONResponse(view.model_dump(mode="json"), status_code=HTTPStatus.CREATED, headers=headers)


@router.get("", operation_id="list_replays", responses=problems(400, 422))
async def list_replays(tenant: Tenant, state: State, query: PageParameters) -> ReplayPage:
    """List replays, newest first."""
    after = read_cursor("rpl", query.cursor)
    async with state.database.read() as connection:
        found = await replay.list_page(connection, tenant, limit=query.limit + 1, after=after)
    rows, cursor = cut_page("rpl", found, query.limit, lambda each: Place(at=each.created_at, id=each.id))
    return ReplayPage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{replay_id}", operation_id="get_replay", responses=problems(404))
async def get_replay(tenant: Tenant, state: State, replay_id: str) -> ReplayView:
    """Give one replay."""
    return _view(await _find(state, tenant, _id(replay_id)))


@router.post("/{replay_id}/pause", operation_id="pause_replay", responses=problems(404, 409))
async def pause_replay(tenant: Tenant, state: State, replay_id: str) -> ReplayView:
    """Let a replay rest where it stands."""
    return await _move(state, tenant, _id(replay_id), "paused", out_of=("running", "paused"))


@router.post("/{replay_id}/resume", operation_id="resume_replay", responses=problems(404, 409))
async def resume_replay(tenant: Tenant, state: State, replay_id: str) -> ReplayView:
    """Let a replay go on."""
    return await _move(state, tenant, _id(replay_id), "running", out_of=("running", "paused"))


@router.post("/{replay_id}/cancel", operation_id="cancel_replay", responses=problems(404, 409))
async def cancel_replay(tenant: Tenant, state: State, replay_id: str) -> ReplayView:
    """End a replay; what it has owed already stays owed."""
    return await _move(state, tenant, _id(replay_id), "cancelled", out_of=("running", "paused", "cancelled"))


async def _move(
    state: State, tenant: TenantId, replay_id: ReplayId, to: ReplayState, *, out_of: tuple[ReplayState, ...]
) -> ReplayView:
    async with state.database.write() as connection:
        is_moved = await replay.move(connection, tenant, replay_id, to, out_of=out_of)
    found = await _find(state, tenant, replay_id)
    if not is_moved:
        raise wrong_state(f"The replay is {found.state}.")
    return _view(found)


async def _find(state: State, tenant: TenantId, replay_id: ReplayId) -> Replay:
    async with state.database.read() as connection:
        found = await replay.find(connection, tenant, replay_id)
    if found is None:
        raise not_found("replay")
    return found


def _id(text: str) -> ReplayId:
    return ReplayId(id_in("rpl", text, "replay"))


def _wanted(said: ReplayFilter) -> Wanted:
    return Wanted(
        events=EventFilter(
            bucket=said.bucket,
            key_prefix=said.key_prefix.encode(),
            type=said.type,
            since=said.since,
            until=said.until,
        ),
        endpoint_id=said.endpoint_id,
        subscription_id=said.subscription_id,
        status=said.status,
    )


def _view(found: Replay) -> ReplayView:
    return ReplayView(
        id=public_id("rpl", found.id),
        state=found.state,
        events=found.total,
        counted_all=found.counted_all,
        events_looked_at=found.looked_at,
        deliveries_owed=found.owed,
        reached_at=found.reached_at,
        held_by=None if found.held_by is None else public_id("ep", found.held_by),
        new_idempotency_keys=found.new_keys,
        created_at=found.created_at,
        updated_at=found.updated_at,
        ended_at=found.ended_at,
    )
