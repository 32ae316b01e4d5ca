"""WHERE IT COMES FROM: one file a kind, and the registry of kinds. What a message says is decode's work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from app.domain.configuration import Source
from app.domain.message import Road
from app.domain.ports import Now, PullSource, PushSource
from app.sources.dead_letters import DeadLetterQueues
from app.sources.http_push import HttpConfig, HttpPush
from app.sources.sns import SnsSource
from app.sources.sns_config import SnsConfig
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig
from app.sources.sqs_dead_letters import SqsDeadLetterQueues


@dataclass(frozen=True, slots=True, kw_only=True)
class PullKind:
    """A kind of source that is polled: what its config may say, and how one is opened (without any call yet).

    `dead_letters` opens what is asked about its dead-letter queues, where the kind has such.
    """

    config: type[BaseModel]
    open: Callable[[Source], PullSource]
    dead_letters: Callable[[Source], DeadLetterQueues] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PushKind:
    """A kind of source that calls us, at /v1/ingest/ROAD/: what its config may say, and how one is opened.

    It is opened with the clock by which it judges dates.
    """

    config: type[BaseModel]
    road: Road
    open: Callable[[Source, Now], PushSource]


KINDS: Final[Mapping[str, PullKind | PushKind]] = {
    "http": PushKind(config=HttpConfig, road="s3", open=HttpPush.open),
    "sns": PushKind(config=SnsConfig, road="sns", open=SnsSource.open),
    "sqs": PullKind(config=SqsConfig, open=SqsSource.open, dead_letters=SqsDeadLetterQueues.open),
}


def road_of(source: Source) -> Road | None:
    """Tell by which road a source pushes; None for one that is polled.

    A kind that this version does not know is polled: opening it fails, and its state says so.
    """
    kind = KINDS.get(source.kind)
    return kind.road if isinstance(kind, PushKind) else None


def open_pushing(source: Source, now: Now) -> PushSource:
    """Open a source that pushes. Raises TypeError for one that does not."""
    kind = KINDS[source.kind]
    if not isinstance(kind, PushKind):
        raise TypeError(f"A source of kind {source.kind} does not push.")
    return kind.open(source, now)


def open_pulled(source: Source) -> PullSource:
    """Open a source that is polled. Raises TypeError for one that is not."""
    kind = KINDS[source.kind]
    if not isinstance(kind, PullKind):
        raise TypeError(f"A source of kind {source.kind} is not polled.")
    return kind.open(source)
