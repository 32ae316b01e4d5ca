"""The API as a whole: routes, the layers around them, and the document that describes them."""

from collections.abc import Callable, Sequence
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import compile_path

import app
import app.destinations
import app.sources
from app.api import (
    answers,
    dead_letters,
    deliveries,
    endpoints,
    events,
    ingest,
    process,
    quarantine,
    replays,
    sources,
    subscriptions,
)
from app.api.body_limit import BodyLimit
from app.api.endpoint_fields import EndpointFields
from app.api.head import HeadAsGet
from app.api.last_resort import LastResort
from app.api.openapi import Document, as_text, describe
from app.api.quarantine_fields import QuarantineBulkFields
from app.api.replays import ReplayFields
from app.api.source_fields import SourceFields
from app.api.state import ApiState, Kinds
from app.api.subscription_fields import SubscriptionFields

__all__ = ["ApiState", "create_app", "openapi_document"]

PREFIX: Final = "/v1"
# In the order in which the document shows them.
NOUNS: Final[Sequence[APIRouter]] = (
    endpoints.router,
    subscriptions.router,
    sources.router,
    dead_letters.router,
    events.router,
    deliveries.router,
    replays.router,
    quarantine.router,
)
BODIES: Final[Sequence[type[BaseModel]]] = (
    EndpointFields,
    SubscriptionFields,
    SourceFields,
    ReplayFields,
    QuarantineBulkFields,
)

_DESCRIPTION: Final = """\
A notification gateway for object-store events: what S3 says goes to webhooks and Kafka topics.

Send an API key with each request under `/v1`: `Authorization: Bearer KEY`. Times are UTC with milliseconds and `Z`.
Every error is `application/problem+json` (RFC 9457). Lists are newest first; `next_cursor` leads on.
"""
_TAGS: Final = [
    {"name": "endpoints", "description": "Registered targets: webhooks and Kafka topics."},
    {"name": "subscriptions", "description": "Which events go to which endpoint, and in which format."},
    {"name": "sources", "description": "Where messages come from."},
    {"name": "events", "description": "What S3 said, each change once."},
    {"name": "deliveries", "description": "One event owed to one endpoint through one subscription."},
    {"name": "replays", "description": "Owing deliveries again, many at a time."},
    {"name": "quarantine", "description": "What could not be decoded or stored."},
    {"name": "ingest", "description": "Where object stores and SNS push to. The source's token instead of a key."},
    {"name": "process", "description": "How this process is. No key needed."},
]


def create_app(state: ApiState) -> FastAPI:
    """Build the API of one process around what it needs."""
    api = _build(state.kinds, serves_nouns=state.serves_api)
    api.state.gateway = state
    return api


def openapi_document() -> str:
    """Describe the API as openapi.json holds it; needs neither database nor settings."""
    api = _build(Kinds(destinations=app.destinations.KINDS, sources=app.sources.KINDS), serves_nouns=True)
    return as_text(api.openapi())


def _build(kinds: Kinds, *, serves_nouns: bool) -> FastAPI:
    api = FastAPI(
        title="Bucketpost",
        version=app.__version__,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    for noun in NOUNS if serves_nouns else ():
        api.include_router(noun, prefix=PREFIX)
    # Also where nothing is taken in: behind one load balancer a push may meet any process.
    api.include_router(ingest.router, prefix=PREFIX)
    api.include_router(process.router)
    # The last added is the outermost.
    for layer in (BodyLimit, HeadAsGet, LastResort):
        api.add_middleware(layer)
    answers.install(api)
    api.state.methods_of = _methods_by_path(api)
    api.state.under_way = set()
    _describe_once(api, kinds)
    return api


def _describe_once(api: FastAPI, kinds: Kinds) -> None:
    def openapi() -> Document:
        if api.openapi_schema is None:
            api.openapi_schema = describe(api, kinds, BODIES)
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way of changing the document


def _methods_by_path(api: FastAPI) -> Callable[[str], list[str]]:
    """Find out which methods a path takes, over all its routes."""
    routes = [
        (compile_path(each.path)[0], each.methods)
        for each in iter_route_contexts(api.routes)
        if each.path and each.methods
    ]

    def methods_of(path: str) -> list[str]:
        found = {method for pattern, methods in routes if pattern.match(path) for method in methods}
        return sorted(found | {"HEAD"} if "GET" in found else found)

    return methods_of
