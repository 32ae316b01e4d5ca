"""REST of sources. What may be said of one stands in source_fields.py, how one reads in source_view.py."""

from dataclasses import replace
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from app.api.auth import Tenant
from app.api.bodies import JsonObject
from app.api.errors import not_found, wrong_state
from app.api.fields import id_in
from app.api.idempotency import IdempotentRoute
from app.api.openapi import problems, takes, takes_patch_of
from app.api.paging import Page, PageParameters, cut_page, read_cursor
from app.api.source_fields import SourceFields, has_token, make_token, read_changed, read_new
from app.api.source_view import BaseUrl, SourceMade, SourceView, view_source, with_token
from app.api.state import State
from app.domain.configuration import Source
from app.domain.ids import SourceId
from app.store import sources
from app.store.epoch import lock_changes
from app.store.place import Place
from app.store.pulse import read_fare, read_fares
from app.store.sources import NewSource

router = APIRouter(prefix="/sources", tags=["sources"], route_class=IdempotentRoute)


class SourcePage(Page[SourceView]):
    """One page of sources, newest first."""


@router.post(
    "",
    operation_id="create_source",
    status_code=HTTPStatus.CREATED,
    response_model_exclude_unset=True,
    responses=problems(400, 413, 422),
    openapi_extra=takes(SourceFields),
)
async def create_source(  # noqa: PLR0913, PLR0917 -- what the framework hands in
    tenant: Tenant, state: State, base_url: BaseUrl, body: JsonObject, request: Request, response: Response
) -> SourceMade:
    """Register a source. It is read from, or may be pushed to, within two seconds."""
    fields = read_new(state, body)
    token, token_hash = make_token() if has_token(state, fields.kind) else (None, None)
    new = NewSource(
        name=fields.name, kind=fields.kind, config=fields.config, is_paused=fields.paused, token_hash=token_hash
    )
    async with state.database.write() as connection:
        made = await sources.create(connection, tenant, new)
        fare = await read_fare(connection, made.id)
    state.changed()
    view = view_source(state, base_url, made, fare)
    response.headers["Location"] = f"{request.url.path}/{view.id}"
    return with_token(view, token)


@router.get("", operation_id="list_sources", responses=problems(400, 422))
async def list_sources(tenant: Tenant, state: State, base_url: BaseUrl, query: PageParameters) -> SourcePage:
    """List sources, newest first."""
    after = read_cursor("src", query.cursor)
    async with state.database.read() as connection:
        found = await sources.list_page(connection, tenant, limit=query.limit + 1, after=after)
        rows, cursor = cut_page("src", found, query.limit, _place)
        fares = await read_fares(connection, [each.id for each in rows])
    return SourcePage(data=[view_source(state, base_url, each, fares[each.id]) for each in rows], next_cursor=cursor)


@router.get("/{source_id}", operation_id="get_source", responses=problems(404))
async def get_source(tenant: Tenant, state: State, base_url: BaseUrl, source_id: str) -> SourceView:
    """Give one source."""
    async with state.database.read() as connection:
        found = _known(await sources.find(connection, tenant, _id(source_id)))
        fare = await read_fare(connection, found.id)
    return view_source(state, base_url, found, fare)


@router.patch(
    "/{source_id}",
    operation_id="change_source",
    responses=problems(400, 404, 413, 422),
    openapi_extra=takes_patch_of(SourceFields),
)
async def change_source(
    tenant: Tenant, state: State, base_url: BaseUrl, source_id: str, patch: JsonObject
) -> SourceView:
    """Change a source by a merge patch (RFC 7396). A changed `config` or the end of a pause lets it start anew."""
    async with state.database.write() as connection:
        await lock_changes(connection)
        found = _known(await sources.find(connection, tenant, _id(source_id)))
        fare = await read_fare(connection, found.id)
        fields = read_changed(state, found, patch, view=view_source(state, base_url, found, fare))
        changed = replace(found, name=fields.name, config=fields.config, is_paused=fields.paused)
        if changed.config != found.config or (found.is_paused and not changed.is_paused):
            await sources.start_anew(connection, found.id)
        changed = await sources.change(connection, changed)
    state.changed()
    return view_source(state, base_url, changed, fare)


@router.post(
    "/{source_id}/rotate-token",
    operation_id="rotate_source_token",
    response_model_exclude_unset=True,
    responses=problems(404, 409),
)
async def rotate_source_token(tenant: Tenant, state: State, base_url: BaseUrl, source_id: str) -> SourceMade:
    """Make a new token for a source that is pushed to. The one before is refused everywhere within two seconds."""
    token, token_hash = make_token()
    async with state.database.write() as connection:
        await lock_changes(connection)
        found = _known(await sources.find(connection, tenant, _id(source_id)))
        if not has_token(state, found.kind):
            raise wrong_state(f"A source of kind {found.kind} is read from, not pushed to: it has no token.")
        changed = await sources.change(connection, replace(found, token_hash=token_hash))
        fare = await read_fare(connection, changed.id)
    state.changed()
    return with_token(view_source(state, base_url, changed, fare), token)


@router.delete("/{source_id}", operation_id="delete_source", status_code=HTTPStatus.NO_CONTENT, responses=problems(404))
async def delete_source(tenant: Tenant, state: State, source_id: str) -> None:
    """Delete a source: nothing is taken from it any more within two seconds. Events heard from it stay."""
    async with state.database.write() as connection:
        if not await sources.delete(connection, tenant, _id(source_id)):
            raise not_found("source")
    state.changed()


def _known(found: Source | None) -> Source:
    if found is None:
        raise not_found("source")
    return found


def _id(text: str) -> SourceId:
    return SourceId(id_in("src", text, "source"))


def _place(source: Source) -> Place:
    return Place(at=source.created_at, id=source.id)
