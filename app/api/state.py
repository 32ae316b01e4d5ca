"""What the routes need of the process around them, handed in once when the API is built."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Final, Protocol

from fastapi import Depends, Request
from pydantic import BaseModel

from app.domain.configuration import JSON, Format, Ordering
from app.domain.ids import LaneId
from app.ingest.push import Pushes
from app.store.joined import Transactions
from app.store.reprocess import Reprocessing

# The member of a scope that holds the state of one request alone.
_OWN_STATE: Final = "bucketpost.state"


class DestinationKind(Protocol):
    """What the API needs to know of a kind of destination."""

    @property
    def config(self) -> type[BaseModel]:
        """What an endpoint's `config` may say; unknown fields forbidden."""

    @property
    def default_format(self) -> Format:
        """The format of a subscription that names none."""

    @property
    def default_ordering(self) -> Ordering:
        """The ordering of an endpoint that names none."""

    @property
    def has_secret(self) -> bool:
        """Whether an endpoint of this kind has a secret to sign with."""

    @property
    def public_config(self) -> Callable[[Mapping[str, JSON]], Mapping[str, JSON]]:
        """How a config reads back: what is secret in it as `***`. Takes anything a caller may have sent, too."""


class SourceKind(Protocol):
    """What the API needs to know of a kind of source."""

    @property
    def config(self) -> type[BaseModel]:
        """What a source's `config` may say; unknown fields forbidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The kinds there are, by name."""

    destinations: Mapping[str, DestinationKind]
    sources: Mapping[str, SourceKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """What routes need. `changed` hints at a changed set-up, `wake` at lanes that have something due.

    `public_url` is where senders of pushes reach the gateway; without one it is where the API was asked at.
    `pushes` takes what stores and SNS push; a process that does not take events in has none. What a caller waits for
    to be counted takes `counting_seconds` at most.
    """

    database: Transactions
    destination_kinds: Mapping[str, DestinationKind]
    source_kinds: Mapping[str, SourceKind]
    allow_cidrs: Sequence[IPv4Network | IPv6Network]
    is_ready: Callable[[], Awaitable[bool]]
    metrics: Callable[[], bytes]
    reprocessing: Reprocessing
    changed: Callable[[], None]
    wake: Callable[[frozenset[LaneId]], None]
    serves_api: bool = True
    public_url: str | None = None
    pushes: Pushes | None = None
    counting_seconds: float = 5.0

    @property
    def kinds(self) -> Kinds:
        """Both registries."""
        return Kinds(destinations=self.destination_kinds, sources=self.source_kinds)


async def state_of(request: Request) -> ApiState:
    """Give the state that a request is answered with: the process's, or one of its own."""
    state: ApiState = request.scope.get(_OWN_STATE) or request.app.state.gateway
    return state


def use_state(request: Request, state: ApiState) -> None:
    """Let the route of this request work with a state of its own."""
    request.scope[_OWN_STATE] = state


State = Annotated[ApiState, Depends(state_of)]
