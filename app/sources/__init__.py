"""WHERE IT COMES FROM: one file a kind, and the registry of kinds. What a message says is decode's work."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import BaseModel

from app.domain.configuration import Source
from app.domain.ports import PullSource, PushSource
from app.sources.dead_letters import DeadLetterQueues
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
    """A kind of source that calls us, at /v1/ingest/ROAD/: what its config may say, and how one is opened."""

    config: type[BaseModel]
    road: Literal["s3", "sns"]
    open: Callable[[Source], PushSource]


KINDS: Final[Mapping[str, PullKind | PushKind]] = {
    "sqs": PullKind(config=SqsConfig, open=SqsSource.open, dead_letters=SqsDeadLetterQueues.open),
}
