"""How the process is: alive, ready, its metrics. Open to everybody who reaches the port; no secrets here."""

from typing import Any, Final, Literal

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from app.api.errors import not_ready
from app.api.openapi import problems
from app.api.state import State

router = APIRouter(tags=["process"])

_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}


class Alive(BaseModel):
    """The process turns."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The process takes work."""

    status: Literal["ready"] = "ready"


@router.get("/healthz", operation_id="read_health")
async def read_health() -> Alive:
    """Say that the process turns, whether or not the database does."""
    return Alive()


@router.get("/readyz", operation_id="read_readiness", responses={503: problems()[503]})
async def read_readiness(state: State) -> Ready:
    """Say whether the process takes work: the database answers, and nobody asked it to stop."""
    if not await state.is_ready():
        raise not_ready()
    return Ready()


@router.get("/metrics", operation_id="read_metrics", response_class=Response, responses=_TEXT)
async def read_metrics(state: State) -> Response:
    """Give the metrics in Prometheus' text format."""
    return Response(state.metrics(), media_type=CONTENT_TYPE_LATEST)
