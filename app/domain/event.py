"""The canonical event: what S3 said about one change of one object, whatever the format it came in."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from app.domain.ids import EventId, SourceId

Change = Literal[
    "created",
    "removed",
    "marker_created",
    "restore_started",
    "restored",
    "restore_expired",
    "lost",
    "replication",
    "transitioned",
    "tiered",
    "tagged",
    "untagged",
    "acl_changed",
    "annotated",
    "annotation_removed",
    "retention_set",
    "accessed",
    "other",
]

Dialect = Literal["aws", "eventbridge", "minio", "rustfs", "ceph", "versitygw", "r2", "gateway", "other"]
"""Who wrote a record, which says how its sequencer compares. EventBridge, R2 and the gateway have shapes of their own,
the others write S3 records."""
OPERATOR_DIALECT: Final[Dialect] = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One decoded S3 record, immutable. What the record does not say is None, never made up.

    `type` carries S3's name with `s3:`; `key` is the decoded key's bytes (S3 keys are bytes), `received_key` the text
    as it came; `etag` is without quotes; `size` in bytes; `time` is aware; `extra` the record's own block as
    JSON text; `record` the slice of bytes of the record as it came. `day` is the day its partition is looked for under.
    """

    id: EventId
    day: date
    type: str
    change: Change
    bucket: str
    key: bytes
    received_key: str
    version_id: str | None
    size: int | None
    etag: str | None
    sequencer: str | None
    time: datetime
    region: str | None
    actor: str | None
    source_ip: str | None
    request_id: str | None
    host_id: str | None
    extra: str | None
    dialect: Dialect
    record: bytes

    @property
    def key_text(self) -> str:
        """The decoded key for people and JSON: bytes that are not UTF-8 become U+FFFD."""
        return self.key.decode("utf-8", "replace")

    @property
    def is_operator_event(self) -> bool:
        """Whether the gateway tells of itself: then there is no bucket, and `key` is the id of what it tells of."""
        return self.dialect == OPERATOR_DIALECT


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event as the store keeps it: with the source that was heard first and the time it was written down."""

    event: Event
    source_id: SourceId | None
    recorded_at: datetime
