"""Where object stores and SNS push to: who pushes, how it is answered. What happens between: ingest/push.py.

Never a redirect: MinIO and versitygw follow one as a GET without a body, and take its 200 for a delivery.
"""

import base64
import binascii
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, Final, assert_never, get_args

from fastapi import APIRouter, Request, Response, Security
from fastapi.security import HTTPBearer

from app.api.body_limit import LIMIT_BYTES
from app.api.errors import Problem, method_not_allowed, not_found
from app.api.fields import id_in
from app.api.head import IS_HEAD
from app.api.openapi import problems
from app.api.state import ApiState, State
from app.domain.ids import SourceId
from app.domain.message import Road
from app.ingest.push import Arriving, Pushes, PushResult

# For the description alone: what is compared is read below, in more forms than this one.
_token = HTTPBearer(
    scheme_name="token",
    description="The source's token, made with it. Basic takes it as the password.",
    auto_error=False,
)
router = APIRouter(prefix="/ingest", tags=["ingest"])

ROADS: Final[tuple[Road, ...]] = get_args(Road)
# A source that is paused stays so for a while, as a rule; all else is over in a moment.
SOON_SECONDS: Final = 1
LATER_SECONDS: Final = 30

_SENDERS: Final = {"s3": "an object store", "sns": "SNS"}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "What the sender says, as it says it. The Content-Type is not looked at.",
        "content": {"application/json": {"schema": {}}, "application/x-ndjson": {"schema": {}}},
    }
}
_TAKEN: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "Committed. Without a body."}}
_LIVES: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "The source lives. Without a body."}}


def _add_road(road: Road) -> None:
    """Add the routes of one road, with and without a token at the end, and each with and without a slash after it."""

    async def push(request: Request, state: State, source_id: str) -> Response:
        with _closing_unread(request):
            return await _take(request, state, road, source_id, _tokens_of(request))

    async def push_with_token(request: Request, state: State, source_id: str, token: str) -> Response:
        with _closing_unread(request):
            return await _take(request, state, road, source_id, [token, *_tokens_of(request)])

    async def read(request: Request, state: State, source_id: str) -> Response:
        if not request.scope.get(IS_HEAD) and _looks_pushed(request):
            raise method_not_allowed(["HEAD", "POST"])
        return await _look(state, road, source_id)

    async def read_with_token(request: Request, state: State, source_id: str, token: str) -> Response:  # noqa: ARG001 -- in the path
        if not request.scope.get(IS_HEAD):
            raise method_not_allowed(["HEAD", "POST"])
        return await _look(state, road, source_id)

    sender = _SENDERS[road]
    refusals = (401, 403, 404, 413, 415)
    _add(push, road, "POST", f"push_to_{road}", f"Take what {sender} pushes; answered once it is committed.", refusals)
    _add(
        push_with_token,
        road,
        "POST",
        f"push_to_{road}_with_token",
        f"Take what {sender} pushes, for one that can send no header: the token is in the path.",
        refusals,
    )
    _add(read, road, "GET", f"look_at_{road}", "Say whether the source lives; HEAD does as well.", (404, 405))
    _add(
        read_with_token,
        road,
        "GET",
        f"look_at_{road}_with_token",
        "For HEAD only: a GET here is a push that somebody redirected, and is turned down.",
        (404, 405),
    )


def _add(  # noqa: PLR0913, PLR0917 -- a row of the table above
    route: Callable[..., Coroutine[Any, Any, Response]],
    road: Road,
    method: str,
    operation_id: str,
    description: str,
    refusals: tuple[int, ...],
) -> None:
    path = f"/{road}/{{source_id}}/{{token}}" if operation_id.endswith("_with_token") else f"/{road}/{{source_id}}"
    for written in (path, f"{path}/"):
        router.add_api_route(
            written,
            route,
            methods=[method],
            operation_id=operation_id,
            description=description,
            include_in_schema=written == path,
            response_class=Response,
            responses={**(_TAKEN if method == "POST" else _LIVES), **problems(*refusals)},
            openapi_extra=_BODY if method == "POST" else None,
            dependencies=[Security(_token)] if route.__name__ == "push" else None,
        )


async def _take(request: Request, state: ApiState, road: Road, source_id: str, tokens: list[str]) -> Response:
    pushes, known_id = _pushes(state), _id(source_id)
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _compressed()
    announced = request.headers.get("content-length", "")
    arriving = Arriving(
        headers={name.lower(): value for name, value in request.headers.items()},
        tokens=tokens,
        announced_bytes=min(int(announced), LIMIT_BYTES) if announced.isdecimal() else 0,
        chunks=request.stream(),
    )
    result = await pushes.take(road, known_id, arriving)
    if result == "recorded":
        return Response()
    raise _problem(result)


@contextlib.contextmanager
def _closing_unread(request: Request) -> Iterator[None]:
    """Close the connection of who was told no before it was told to go on: its body may never follow."""
    try:
        yield
    except Problem as problem:
        if "expect" in request.headers:
            problem.headers = {**(problem.headers or {}), "Connection": "close"}
        raise


async def _look(state: ApiState, road: Road, source_id: str) -> Response:
    if await _pushes(state).find(road, _id(source_id)) is None:
        raise not_found("source")
    return Response()


def _pushes(state: ApiState) -> Pushes:
    if state.pushes is None:
        raise _try_again("not_taken_here", "This process takes no events in; another one does.")
    if not state.pushes.is_open:
        raise _problem("closed")
    return state.pushes


def _id(text: str) -> SourceId:
    return SourceId(id_in("src", text, "source"))


def _tokens_of(request: Request) -> list[str]:
    """Find the token in `Authorization`: as a bearer's, as a password (SNS), or as it is."""
    tokens = []
    for value in request.headers.getlist("authorization"):
        scheme, _, rest = value.strip().partition(" ")
        match scheme.lower():
            case "basic":
                tokens.append(_password(rest.strip()))
            case "bearer":
                tokens.append(rest.strip())
            case _:
                tokens.append(value.strip())
    return [token for token in tokens if token]


def _password(encoded: str) -> str:
    try:
        # What decodes to nothing of ours stays as it came, and is then no one's token.
        return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2] or encoded
    except (binascii.Error, UnicodeDecodeError):
        return encoded


def _looks_pushed(request: Request) -> bool:
    """Tell whether a GET is a push that a proxy redirected: its 200 would be taken for a delivery."""
    return any(name in request.headers for name in ("authorization", "content-type", "referer"))


def _problem(result: PushResult) -> Problem:  # noqa: PLR0911 -- one for each
    match result:
        case "unknown":
            return not_found("source")
        case "unauthorized":
            return _unauthorized()
        case "forged":
            return Problem(HTTPStatus.FORBIDDEN, "forged", "The push is not from whom it says it is.")
        case "paused":
            return _try_again("paused", "The source is paused.", seconds=LATER_SECONDS)
        case "busy":
            return _try_again("busy", "Too much is held that is not recorded yet.")
        case "late":
            return _try_again("not_recorded", "It was not recorded in time. Sending it again is safe.")
        case "troubled":
            return _try_again("source_trouble", "The push could not be taken; the log says why.")
        case "closed":
            return _try_again("not_ready", "The process is starting or stopping.")
        case "recorded":
            raise AssertionError(result)
        case _:
            assert_never(result)


def _unauthorized() -> Problem:
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthorized",
        "Send the source's token: Authorization: Bearer TOKEN, or as the last part of the URL.",
        # Basic first: SNS sends the password of its URL only to who asks for it.
        headers={"WWW-Authenticate": 'Basic realm="bucketpost", Bearer realm="bucketpost"'},
    )


def _compressed() -> Problem:
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "compressed", "Send the body as it is, without Content-Encoding.")


def _try_again(code: str, detail: str, *, seconds: int = SOON_SECONDS) -> Problem:
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers={"Retry-After": str(seconds)})


for _road in ROADS:
    _add_road(_road)
