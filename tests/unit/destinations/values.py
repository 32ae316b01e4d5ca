"""Events, deliveries and endpoints for the tests of destinations."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from app.domain.configuration import JSON, Endpoint, Format
from app.domain.delivery import Owed
from app.domain.event import Event, StoredEvent
from app.domain.ids import DEFAULT_TENANT, DeliveryKey, EndpointId, EventId, LaneId, SourceId, SubscriptionId

SECRET = b"a signing key of thirty-two bytes"
RECORD = (
    b'{"eventVersion": "2.1",  "s3": {"object": {"key": "photos/caf%C3%A9+1.jpg", "size": 12345678901234567890123}}}'
)
NOW = datetime(2026, 11, 24, 10, 0, 1, 234567, tzinfo=UTC)


def make_event(**changes: Any) -> Event:
    """Give an event of an upload, with some of it otherwise."""
    fields: dict[str, Any] = {
        "id": EventId(bytes(range(16))),
        "day": date(2026, 11, 24),
        "type": "s3:ObjectCreated:Put",
        "change": "created",
        "bucket": "uploads",
        "key": "photos/café 1.jpg".encode(),
        "received_key": "photos/caf%C3%A9+1.jpg",
        "version_id": None,
        "size": 1024,
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
        "sequencer": "0055AED6DCD90281E5",
        "time": datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
        "region": "eu-west-1",
        "actor": "AWS:AIDA",
        "source_ip": "203.0.113.7",
        "request_id": "C3D13FE58DE4C810",
        "host_id": None,
        "extra": None,
        "dialect": "aws",
        "record": RECORD,
    }
    return Event(**(fields | changes))


def make_owed(number: int = 1, *, form: Format = "standard", **changes: Any) -> Owed:
    """Give a delivery of such an event; each number has a key of its own."""
    stored = StoredEvent(event=make_event(**changes), source_id=SourceId(bytes(16)), recorded_at=NOW)
    return Owed(
        row_id=number,
        lane_id=LaneId(1),
        key=DeliveryKey(number.to_bytes(16, "big")),
        endpoint_id=EndpointId(bytes(16)),
        subscription_id=SubscriptionId(bytes(16)),
        format=form,
        tries=0,
        failures=0,
        owed_at=NOW,
        age_seconds=0.0,
        stored=stored,
    )


def make_endpoint(kind: str, config: Mapping[str, JSON], *, timeout_seconds: float = 10.0) -> Endpoint:
    """Give an endpoint of a kind with a secret, which only webhooks look at."""
    return Endpoint(
        id=EndpointId(bytes(16)),
        tenant_id=DEFAULT_TENANT,
        lane_id=LaneId(1),
        name="test",
        kind=kind,
        config=config,
        secret=SECRET,
        timeout_seconds=timeout_seconds,
        created_at=NOW,
        updated_at=NOW,
    )
