"""REST of sources: where messages come from, and how they fare."""

from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.auth import Tenant
from app.api.bodies import JsonObject, drop_unchanged, merge_known, refuse_fields, validate
from app.api.errors import invalid_field, not_found
from app.api.fields import Name, UtcTime
from app.api.openapi import problems, takes, takes_patch_of
from app.api.paging import Page, PageParameters, cut_page, read_cursor
from app.api.state import ApiState, State
from app.domain.configuration import JSON, Source, SourceState
from app.domain.ids import SourceId, parse_id, public_id
from app.store import sources
from app.store.epoch import lock_changes
from app.store.place import Place
from app.store.sources import NewSource

router = APIRouter(prefix="/sources", tags=["sources"])

_READ_ONLY: Final = ("id", "state", "last_error", "last_received_at", "test_event_at", "created_at", "updated_at")


class SourceFields(BaseModel):
    """What a caller says of a source."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    kind: str = Field(description="Cannot change.")
    config: dict[str, Any] = Field(description="What the kind needs to know.")


class SourceView(BaseModel):
    """A source, and how it fares."""

    id: str
    name: str
    kind: str
    config: dict[str, Any] = Field(description="What the kind needs to know, defaults filled in.")
    state: SourceState
    last_error: str | None = Field(description="What went wrong last, in words; null while all is well.")
    last_received_at: UtcTime | None = Field(description="When the last message came.")
    test_event_at: UtcTime | None = Field(description="When S3's test event came last.")
    created_at: UtcTime
    updated_at: UtcTime


class SourcePage(Page[SourceView]):
    """One page of sources, newest first."""


@router.post(
    "",
    operation_id="create_source",
    status_code=HTTPStatus.CREATED,
    responses=problems(400, 413, 422),
    openapi_extra=takes(SourceFields),
)
async def create_source(
    tenant: Tenant, state: State, body: JsonObject, request: Request, response: Response
) -> SourceView:
    """Register a source; it is read from within two seconds."""
    fields = _read_fields(state, body)
    async with state.database.write() as connection:
        made = await sources.create(
            connection, tenant, NewSource(name=fields.name, kind=fields.kind, config=fields.config)
        )
    state.changed()
    view = _view(made)
    response.headers["Location"] = f"{request.url.path}/{view.id}"
    return view


@router.get("", operation_id="list_sources", responses=problems(400, 422))
async def list_sources(tenant: Tenant, state: State, query: PageParameters) -> SourcePage:
    """List sources, newest first."""
    after = read_cursor("src", query.cursor)
    async with state.database.read() as connection:
        found = await sources.list_page(connection, tenant, limit=query.limit + 1, after=after)
    rows, cursor = cut_page("src", found, query.limit, _place)
    return SourcePage(data=[_view(each) for each in rows], next_cursor=cursor)


@router.get("/{source_id}", operation_id="get_source", responses=problems(404))
async def get_source(tenant: Tenant, state: State, source_id: str) -> SourceView:
    """Give one source."""
    async with state.database.read() as connection:
        found = await sources.find(connection, tenant, _id(source_id))
    if found is None:
        raise not_found("source")
    return _view(found)


@router.patch(
    "/{source_id}",
    operation_id="change_source",
    responses=problems(400, 404, 413, 422),
    openapi_extra=takes_patch_of(SourceFields),
)
async def change_source(tenant: Tenant, state: State, source_id: str, patch: JsonObject) -> SourceView:
    """Change a source by a merge patch (RFC 7396). A changed `config` lets it start anew."""
    async with state.database.write() as connection:
        await lock_changes(connection)
        found = await sources.find(connection, tenant, _id(source_id))
        if found is None:
            raise not_found("source")
        fields = _read_fields(state, drop_unchanged(SourceFields, patch, _view(found)), onto=found)
        changed = replace(found, name=fields.name, config=fields.config)
        if changed.config != found.config:
            changed = replace(changed, state="starting", last_error=None)
            await sources.start_anew(connection, found.id)
        changed = await sources.change(connection, changed)
    state.changed()
    return _view(changed)


@router.delete("/{source_id}", operation_id="delete_source", status_code=HTTPStatus.NO_CONTENT, responses=problems(404))
async def delete_source(tenant: Tenant, state: State, source_id: str) -> None:
    """Delete a source: it is read from no more within two seconds. Events heard from it stay."""
    async with state.database.write() as connection:
        if not await sources.delete(connection, tenant, _id(source_id)):
            raise not_found("source")
    state.changed()


def _read_fields(state: ApiState, body: dict[str, JSON], *, onto: Source | None = None) -> SourceFields:
    """Validate what a source would be after the body, its config by its kind. Raises Problem."""
    refuse_fields(body, _READ_ONLY, "This field is read only.")
    whole = merge_known(SourceFields, {}, body)
    if onto is not None:
        if body.get("kind", onto.kind) != onto.kind:
            raise invalid_field("/kind", "The kind of a source cannot change.")
        whole = merge_known(SourceFields, {"name": onto.name, "kind": onto.kind, "config": dict(onto.config)}, body)
    fields = validate(SourceFields, whole)
    kind = state.source_kinds.get(fields.kind)
    if kind is None:
        raise invalid_field("/kind", f"The kind must be one of: {', '.join(state.source_kinds)}.")
    config = validate(kind.config, fields.config, under=("config",))
    return fields.model_copy(update={"config": config.model_dump(mode="json")})


def _id(text: str) -> SourceId:
    raw = parse_id("src", text)
    if raw is None:
        raise not_found("source")
    return SourceId(raw)


def _place(source: Source) -> Place:
    return Place(at=source.created_at, id=source.id)


def _view(source: Source) -> SourceView:
    return SourceView(
        id=public_id("src", source.id),
        name=source.name,
        kind=source.kind,
        config=dict(source.config),
        state=source.state,
        last_error=source.last_error,
        last_received_at=source.last_received_at,
        test_event_at=source.test_event_at,
        created_at=source.created_at,
        updated_at=source.updated_at,
    )
