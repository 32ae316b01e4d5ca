"""How problems are sent: every exception that routes let through becomes problem details. What they say: errors.py."""

from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.errors import (
    Problem,
    field_errors,
    invalid,
    invalid_field,
    method_not_allowed,
    no_route,
    store_unavailable,
)
from app.domain.errors import StoreRefused, StoreUnavailable

MEDIA_TYPE: Final = "application/problem+json"

_log = structlog.get_logger(__name__)


def install(api: FastAPI) -> None:
    """Answer every exception that was foreseen; the others are the last resort's."""
    for kind in (Problem, HTTPException, RequestValidationError, StoreUnavailable, StoreRefused):
        api.add_exception_handler(kind, _answer)


def response_to(problem: Problem) -> JSONResponse:
    """Write a problem as a response."""
    content = {
        "type": f"urn:bucketpost:problem:{problem.code}",
        "title": problem.status.phrase,
        "status": problem.status.value,
        "detail": problem.detail,
        "code": problem.code,
        "errors": [{"pointer": each.pointer, "detail": each.detail} for each in problem.errors],
    }
    return JSONResponse(content, problem.status.value, headers=problem.headers, media_type=MEDIA_TYPE)


async def _answer(request: Request, error: Exception) -> JSONResponse:
    return response_to(_problem_of(request, error))


def _problem_of(request: Request, error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case RequestValidationError():
            # The first step of a path says where the parameter was: in the query.
            return invalid(field_errors(error.errors(), drop=1))
        case StoreUnavailable():
            _log.warning("store.unavailable", error=str(error))
            return store_unavailable()
        case StoreRefused():
            _log.warning("store.refused", error=str(error))
            return invalid_field("", "The database refuses what the request holds.")
        case HTTPException():
            return _problem_of_framework(request, error)
        case _:
            raise error


def _problem_of_framework(request: Request, error: HTTPException) -> Problem:
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.NOT_FOUND:
        return no_route()
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of the first route alone.
        return method_not_allowed(request.app.state.methods_of(request.url.path))
    return Problem(status, status.name.lower(), status.description or status.phrase, headers=error.headers)
