"""What sources hand over and what becomes of it, on the way from a message to what is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from app.domain.event import Event
from app.domain.ids import LaneId, SourceId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a source: its body as it came, and the source's own receipt to acknowledge it by.

    `sent_at` is when the source took it, where the source says so.
    """

    body: bytes
    receipt: str
    message_id: str
    sent_at: datetime | None = None


Road = Literal["s3", "sns"]
"""The way a push comes in: /v1/ingest/ROAD/."""
Token = Literal["absent", "wrong", "right"]
"""How the token of a push compares with its source's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A push as its source sees it: names of headers in lower case; the token it came with was compared before."""

    headers: Mapping[str, str]
    body: bytes
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMeasure:
    """What waits in a queue: messages free to be received, received and hidden, and not to be received yet.

    `oldest_seconds` is how long the oldest one has waited; None when nobody can tell.
    """

    depth: int
    in_flight: int
    delayed: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Bytes that could not be decoded or stored, and why, in words an operator can act on."""

    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """All that one message said; several documents in one may say events, refusals and a test event together."""

    events: tuple[Event, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    is_test_event: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What one source said in one message, ready to be written down."""

    source_id: SourceId
    tenant_id: TenantId
    decoded: Decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a batch became: `lanes` now have something owed."""

    events: int
    duplicates: int
    deliveries: int
    quarantined: int
    lanes: frozenset[LaneId] = field(default_factory=frozenset)

    def __add__(self, other: "Recorded") -> "Recorded":
        """Give what two batches became together."""
        return Recorded(
            events=self.events + other.events,
            duplicates=self.duplicates + other.duplicates,
            deliveries=self.deliveries + other.deliveries,
            quarantined=self.quarantined + other.quarantined,
            lanes=self.lanes | other.lanes,
        )


NOTHING: Final = Recorded(events=0, duplicates=0, deliveries=0, quarantined=0)
