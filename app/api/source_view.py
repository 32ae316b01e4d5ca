"""How a source reads: its own fields, where it is pushed to, and how it fares."""

from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from app.api.fields import UtcTime
from app.api.state import ApiState, State
from app.domain.authority import is_authority
from app.domain.configuration import Source
from app.domain.ids import public_id
from app.domain.message import QueueMeasure
from app.sources import PushKind
from app.store.pulse import Fare

_DIGITS: Final = 3


class QueueView(BaseModel):
    """What waits in a queue, as it says itself: about."""

    depth: int = Field(description="Messages free to be received.")
    in_flight: int = Field(description="Messages received and not yet acknowledged.")
    delayed: int = Field(description="Messages that may not be received yet.")
    oldest_seconds: float | None = Field(description="How long the oldest has waited; null when nobody can tell.")


class SourceView(BaseModel):
    """A source, and how it fares."""

    id: str
    name: str
    kind: str
    config: dict[str, Any] = Field(description="What the kind needs to know, defaults filled in.")
    paused: bool = Field(description="Whether nothing is taken from it.")
    push_url: str | None = Field(
        description="Where its store or topic sends to, without the token; null for a kind that is read from."
    )
    state: Literal["starting", "ok", "failing", "paused"]
    last_error: str | None = Field(description="What went wrong last, in words; null while all is well.")
    last_received_at: UtcTime | None = Field(description="When the last message came.")
    last_event_at: UtcTime | None = Field(description="When the last event came, new or known already.")
    test_event_at: UtcTime | None = Field(description="When S3's test event came last.")
    events_per_second: float = Field(description="Events that came, known ones too: the mean of the last minute.")
    lag_seconds: float | None = Field(
        description="How long after it happened an event was recorded: the middle one of the newest batch; "
        "null when none came in the last minute."
    )
    queue: QueueView | None = Field(description="What waits in it; null where nothing can or nobody could look.")
    quarantined: int = Field(description="How much of it is in quarantine.")
    created_at: UtcTime
    updated_at: UtcTime


class SourceMade(SourceView):
    """A source, with the token just made for it."""

    token: str | None = Field(
        default=None, description="Of a kind that is pushed to: what its senders must show. Shown this once."
    )


async def _base_url(request: Request, state: State) -> str | None:
    if state.public_url is not None:
        return state.public_url
    hosts = request.headers.getlist("host")
    if len(hosts) == 1 and is_authority(hosts[0]):
        return f"{request.url.scheme}://{hosts[0]}"
    # No name that could be believed: the address that was connected to.
    host, port = request.scope.get("server") or ("", None)
    address = f"[{host}]" if ":" in host else host
    return f"{request.url.scheme}://{address}:{port}" if is_authority(f"{address}:{port}") else None


BaseUrl = Annotated[str | None, Depends(_base_url)]
"""What the URLs in an answer begin with: as set, else as the caller reached us."""


def view_source(state: ApiState, base_url: str | None, source: Source, fare: Fare) -> SourceView:
    """Show a source."""
    return SourceView(
        id=public_id("src", source.id),
        name=source.name,
        kind=source.kind,
        config=dict(source.config),
        paused=source.is_paused,
        push_url=_push_url(state, base_url, source),
        state="paused" if source.is_paused else source.state,
        last_error=source.last_error,
        last_received_at=source.last_received_at,
        last_event_at=source.last_event_at,
        test_event_at=source.test_event_at,
        events_per_second=round(fare.pulse.events_per_second, _DIGITS),
        lag_seconds=_rounded(fare.pulse.lag_seconds),
        queue=None if fare.pulse.queue is None else _view_queue(fare.pulse.queue),
        quarantined=fare.quarantined,
        created_at=source.created_at,
        updated_at=source.updated_at,
    )


def with_token(view: SourceView, token: str | None) -> SourceMade:
    """Show a source with the token just made; nothing is said of a token where there is none."""
    return SourceMade(**view.model_dump(), **({} if token is None else {"token": token}))


def _push_url(state: ApiState, base_url: str | None, source: Source) -> str | None:
    kind = state.source_kinds.get(source.kind)
    if base_url is None or not isinstance(kind, PushKind):
        return None
    return f"{base_url}/v1/ingest/{kind.road}/{public_id('src', source.id)}"


def _view_queue(queue: QueueMeasure) -> QueueView:
    return QueueView(
        depth=queue.depth,
        in_flight=queue.in_flight,
        delayed=queue.delayed,
        oldest_seconds=_rounded(queue.oldest_seconds),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
