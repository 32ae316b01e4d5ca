"""How a request is turned down: problem details (RFC 9457) on every status. How they are sent stands in answers.py.

A detail is written for the caller. What a request held is never repeated in it: it may be a secret.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, Field

RETRY_AFTER_SECONDS: Final = 1
ERRORS_TOLD: Final = 100
_LONGEST_POINTER: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """What is wrong with one field; `pointer` is a JSON pointer (RFC 6901), or names a query parameter or header."""

    pointer: str
    detail: str


class Problem(Exception):  # noqa: N818 -- RFC 9457's word
    """A request that is turned down, raised anywhere below a route."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take what the caller is to be told."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers


class FieldErrorBody(BaseModel):
    """What is wrong with one field."""

    pointer: str = Field(description="JSON pointer into the body, or `/` and the name of a query parameter or header.")
    detail: str = Field(description="What is wrong, for people.")


class ProblemBody(BaseModel):
    """Problem details, RFC 9457."""

    type: str = Field(description="A URI that names the kind of problem: `urn:bucketpost:problem:` and the code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, for people.")
    code: str = Field(description="What is wrong, for programs.")
    errors: list[FieldErrorBody] = Field(description="Each field that is wrong; empty where it is no field's fault.")


def malformed(detail: str) -> Problem:
    """Turn down a body that is not JSON."""
    return Problem(HTTPStatus.BAD_REQUEST, "malformed_body", detail)


def bad_cursor() -> Problem:
    """Turn down a cursor that no list gave."""
    detail = "The cursor is not one this list gave. Begin again without it."
    return Problem(HTTPStatus.BAD_REQUEST, "bad_cursor", detail, errors=(FieldError(pointer="/cursor", detail=detail),))


def unauthorized(*, was_given: bool) -> Problem:
    """Turn down a request without a key in use."""
    challenge = 'Bearer realm="bucketpost"' + (', error="invalid_token"' if was_given else "")
    detail = "The API key is not in use." if was_given else "Send an API key: Authorization: Bearer KEY."
    return Problem(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def not_found(noun: str) -> Problem:
    """Turn down an id that names nothing."""
    return Problem(HTTPStatus.NOT_FOUND, "not_found", f"There is no such {noun}.")


def wrong_state(detail: str) -> Problem:
    """Turn down what is not possible as things stand."""
    return Problem(HTTPStatus.CONFLICT, "wrong_state", detail)


def bad_idempotency_key(header: str, longest: int) -> Problem:
    """Turn down a key that cannot name a request."""
    detail = f"{header} must be sent once, as 1 to {longest} printable ASCII characters."
    errors = (FieldError(pointer=pointer_to((header,)), detail=detail),)
    return Problem(HTTPStatus.BAD_REQUEST, "bad_idempotency_key", detail, errors=errors)


def idempotency_key_in_use(header: str) -> Problem:
    """Turn down a key that names another request already."""
    detail = f"This {header} was sent with another path or body: a new request needs a new key."
    errors = (FieldError(pointer=pointer_to((header,)), detail=detail),)
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail, errors=errors)


def in_progress() -> Problem:
    """Turn down a request that is being served already."""
    return Problem(
        HTTPStatus.CONFLICT,
        "request_in_progress",
        "A request with this Idempotency-Key is under way. Send it again in a moment.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def answer_is_sealed() -> Problem:
    """Turn down a request that was served, to whom its answer is not readable."""
    return Problem(
        HTTPStatus.CONFLICT,
        "answer_sealed",
        "This was done already, for another API key: only that key can have the answer again.",
    )


def body_too_large(limit: int) -> Problem:
    """Turn down a body past the limit."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", f"The body is larger than {limit} bytes.")


def invalid(errors: Sequence[FieldError]) -> Problem:
    """Turn down fields that are bad, missing or unknown."""
    detail = errors[0].detail if len(errors) == 1 else f"{len(errors)} fields are not as they must be."
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, errors=errors[:ERRORS_TOLD])


def invalid_field(pointer: str, detail: str) -> Problem:
    """Turn down one field."""
    return invalid((FieldError(pointer=pointer, detail=detail),))


def no_route() -> Problem:
    """Turn down a path that nothing answers."""
    return Problem(HTTPStatus.NOT_FOUND, "no_route", "There is nothing at this path.")


def method_not_allowed(allowed: Sequence[str]) -> Problem:
    """Turn down a method that the path does not take."""
    names = ", ".join(allowed)
    return Problem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"This path takes {names}.", headers={"Allow": names}
    )


def store_unavailable() -> Problem:
    """Say that the database is away."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "store_unavailable",
        "The database cannot be reached. Nothing that was acknowledged is lost; try again.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def not_ready() -> Problem:
    """Say that the process takes no work."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "not_ready",
        "Not ready: the database does not answer, or the process is starting or stopping.",
        headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def crashed() -> Problem:
    """Say that there is a bug; what it is stands in the log, not in the answer."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "Something went wrong here. The log says what; try again."
    )


def pointer_to(path: Iterable[str | int]) -> str:
    """Write a JSON pointer, RFC 6901; fit to be shown whatever a member is called."""
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return pointer[:_LONGEST_POINTER].replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def field_errors(found: Sequence[Any], *, under: Sequence[str | int] = (), drop: int = 0) -> tuple[FieldError, ...]:
    """Turn pydantic's errors into ours, with the path `under` before and without the first `drop` steps of theirs."""
    return tuple(
        FieldError(
            # "[key]" is pydantic's mark that a member's name is meant, not its value.
            pointer=pointer_to((*under, *(step for step in each["loc"][drop:] if step != "[key]"))),
            detail=_sentence(each),
        )
        for each in found
    )


def _sentence(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "missing":
            return "This field is required."
        case "extra_forbidden":
            return "There is no such field."
        case "string_unicode":
            return "This is no valid Unicode."
        case _:
            said = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
            return f"{said[:1].upper()}{said[1:]}".rstrip(".") + "."
