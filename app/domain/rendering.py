"""How an event and an instant are shown to people and programs: the shapes of the public face, as plain values."""

import json
from datetime import UTC, datetime
from typing import Any

from app.domain.event import StoredEvent
from app.domain.ids import public_id


def instant_text(moment: datetime) -> str:
    """Write an aware datetime in UTC with milliseconds: `2026-11-24T10:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def event_fields(stored: StoredEvent) -> dict[str, Any]:
    """Give an event's fields in JSON's terms; absent is None, never made up."""
    event = stored.event
    return {
        "id": public_id("evt", event.id),
        "type": event.type,
        "change": event.change,
        "bucket": event.bucket,
        "key": event.key_text,
        "received_key": event.received_key,
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
