"""Requests that are sent again: who names one by an `Idempotency-Key` has its effect once, and its answer every time.

As draft-ietf-httpapi-idempotency-key-header says. The record commits in one transaction with the effect, so that there
is never one without the other. Only what had an effect is kept: what was turned down may be asked again.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, assert_never

import structlog
from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.api.auth import bearer, tenant_of
from app.api.errors import answer_is_sealed, bad_idempotency_key, idempotency_key_in_use, in_progress, unauthorized
from app.api.sealed import Seal
from app.api.state import ApiState, state_of, use_state
from app.domain.errors import StoreError
from app.domain.ids import TenantId
from app.store import idempotency
from app.store.idempotency import Answered, Asked, Known
from app.store.joined import Joined

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
LONGEST_KEY: Final = 255

# Operations that are no one transaction: they ask the source's provider meanwhile, or go on slice by slice for seconds.
# Done twice they do no harm: what was moved, recorded or discarded is not there any more.
IN_STEPS: Final = frozenset(
    {"redrive_dead_letters", "reprocess_quarantined", "reprocess_quarantine", "discard_quarantine"}
)
# Longer than any of them takes; so long the same request is turned down after its process was killed.
STEPS_SECONDS: Final = 60.0

# On SQLite nothing else is written meanwhile.
COUNTING_SECONDS: Final = 0.5

_KEY: Final = re.compile(rf"[\x20-\x7e]{{1,{LONGEST_KEY}}}")
# The draft's form, a string of RFC 8941; most who send a key send it bare.
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')

_Handler = Callable[[Request], Awaitable[Response]]
_log = structlog.get_logger(__name__)


class IdempotentRoute(APIRoute):
    """A route whose POSTs heed the header; any other request is served as ever."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the record around what serves the request."""
        serve = super().get_route_handler()
        if "POST" not in (self.methods or ()):
            return serve
        serve_once = _serve_in_steps if self.operation_id in IN_STEPS else _serve_in_one_transaction

        async def handle(request: Request) -> Response:
            if HEADER not in request.headers:
                return await serve(request)
            state, api_key, tenant_id = await _identify(request)
            asked = Asked(tenant_id=tenant_id, key=_read_key(request), request_hash=await _hash(request))
            seal = Seal(api_key, request_hash=asked.request_hash)
            with _alone(request, asked):
                return await serve_once(_Once(request=request, state=state, asked=asked, seal=seal, serve=serve))

        return handle


@dataclass(frozen=True, slots=True, kw_only=True)
class _Once:
    """A request that is to have its effect once, and what serves it."""

    request: Request
    state: ApiState
    asked: Asked
    seal: Seal
    serve: _Handler


async def _serve_in_one_transaction(once: _Once) -> Response:
    hints: list[Callable[[], None]] = []
    async with once.state.database.write() as connection:
        found = await idempotency.look(connection, once.asked)
        if found != "new":
            return _replayed(once, found)
        use_state(
            once.request,
            replace(
                once.state,
                database=Joined(connection),
                counting_seconds=COUNTING_SECONDS,
                changed=lambda: hints.append(once.state.changed),
                wake=lambda lanes: hints.append(partial(once.state.wake, lanes)),
            ),
        )
        response = await once.serve(once.request)
        await idempotency.keep(connection, once.asked, _sealed(once, response))
    # Before the commit whoever heeds one would find nothing.
    for hint in hints:
        hint()
    return response


async def _serve_in_steps(once: _Once) -> Response:
    async with once.state.database.write() as connection:
        found = await idempotency.look(connection, once.asked)
        if found != "new":
            return _replayed(once, found)
        lease_until = await idempotency.begin(connection, once.asked, lease_seconds=STEPS_SECONDS)
    try:
        response = await once.serve(once.request)
    except Exception:
        await _end(once, lease_until, None)
        raise
    await _end(once, lease_until, _sealed(once, response))
    return response


async def _end(once: _Once, lease_until: datetime, answered: Answered | None) -> None:
    """Write down what a request gave, nothing where it was turned down; one that cannot be is over with its lease."""
    try:
        async with once.state.database.write() as connection:
            if answered is None:
                await idempotency.abandon(connection, once.asked, lease_until)
            else:
                await idempotency.complete(connection, once.asked, lease_until, answered)
    except StoreError as error:
        _log.warning("idempotency_record.unwritten", error=str(error))


def _sealed(once: _Once, response: Response) -> Answered:
    return Answered(status=response.status_code, answer=once.seal.close(response))


def _replayed(once: _Once, found: Answered | Known) -> Response:
    """Give the answer of the first time. Raises Problem."""
    match found:
        case Answered():
            response = once.seal.open(found.answer, status=found.status)
            if response is None:
                raise answer_is_sealed()
            response.headers[REPLAYED] = "true"
            return response
        case "in_progress":
            raise in_progress()
        case "other_request":
            raise idempotency_key_in_use(HEADER)
        case "new":
            raise AssertionError("a new request has no answer yet")
        case _:
            assert_never(found)


async def _identify(request: Request) -> tuple[ApiState, str, TenantId]:
    """Find out who asks, before anything of the request is looked at. Raises Problem."""
    state, credentials = await state_of(request), await bearer(request)
    if credentials is None:
        raise unauthorized(was_given=False)
    return state, credentials.credentials.strip(), await tenant_of(state, credentials)


def _read_key(request: Request) -> str:
    sent = request.headers.getlist(HEADER)
    quoted = _QUOTED.fullmatch(sent[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else sent[0]
    if len(sent) > 1 or not _KEY.fullmatch(key):
        raise bad_idempotency_key(HEADER, LONGEST_KEY)
    return key


async def _hash(request: Request) -> bytes:
    target = f"{request.method} {request.url.path}?{request.url.query}\n"
    return hashlib.sha256(target.encode() + await request.body()).digest()


@contextmanager
def _alone(request: Request, asked: Asked) -> Iterator[None]:
    """Let one request of a key be under way in this process; other replicas are kept out by the database."""
    under_way: set[tuple[TenantId, str]] = request.app.state.under_way
    place = (asked.tenant_id, asked.key)
    if place in under_way:
        raise in_progress()
    under_way.add(place)
    try:
        yield
    finally:
        under_way.discard(place)
