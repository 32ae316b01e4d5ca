"""How an event and an instant read from outside: the one form that the REST API and every receiver see.

How the fields become bytes (JSON, headers) is the callers' business.
"""

import json
from datetime import UTC, datetime

from app.domain.configuration import JSON
from app.domain.event import StoredEvent
from app.domain.ids import public_id


def event_fields(stored: StoredEvent) -> dict[str, JSON]:
    """Give an event as REST shows it, in that order; what S3 did not say is None. `extra` is parsed."""
    event = stored.event
    is_of_object = not event.is_operator_event
    return {
        "id": public_id("evt", event.id),
        "type": event.type,
        "change": event.change,
        "bucket": event.bucket if is_of_object else None,
        "key": event.key_text if is_of_object else None,
        "received_key": event.received_key if is_of_object else None,
        "version_id": event.version_id,
        "size": event.size,
        "etag": event.etag,
        "sequencer": event.sequencer,
        "time": instant_text(event.time),
        "region": event.region,
        "actor": event.actor,
        "source_ip": event.source_ip,
        "request_id": event.request_id,
        "host_id": event.host_id,
        "extra": None if event.extra is None else json.loads(event.extra),
        "source_id": None if stored.source_id is None else public_id("src", stored.source_id),
        "recorded_at": instant_text(stored.recorded_at),
    }


def instant_text(instant: datetime) -> str:
    """Write an aware instant as `2026-11-24T10:00:00.000Z`: UTC, milliseconds, cut off and not rounded."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
