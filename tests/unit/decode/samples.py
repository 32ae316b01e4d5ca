"""What the tests of decoding start from: payloads as stores send them, one plain record to change, and two readers."""

import json
from pathlib import Path
from typing import Any, Final

from app.decode import decode
from app.domain.configuration import Profile
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT
from app.domain.message import Decoded, Refusal

PAYLOADS: Final = Path(__file__).parent / "payloads"

# In changes, leaves a member out.
ABSENT: Final = object()


def payload(name: str) -> bytes:
    """Give a payload's bytes by its name."""
    return (PAYLOADS / f"{name}.json").read_bytes()


def message(*records: dict[str, Any]) -> bytes:
    """Write a message of records as S3 does."""
    return json.dumps({"Records": records}, separators=(",", ":")).encode()


def envelope(text: str, **changes: Any) -> bytes:
    """Put a text into an SNS notification."""
    members = {
        "Type": "Notification",
        "MessageId": "dc1e94d9-56c5-5e96-808d-cc7f68faa162",
        "TopicArn": "arn:aws:sns:us-east-2:111122223333:uploads",
        "Subject": "Amazon S3 Notification",
        "Message": text,
        "Timestamp": "2021-02-16T21:41:19.978Z",
    }
    return json.dumps(members | changes).encode()


def eventbridge(detail_type: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make EventBridge's event of the put that `record` tells of, with members changed by their path."""
    made: dict[str, Any] = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": detail_type,
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2023-04-12T20:43:38Z",
        "region": "us-east-1",
        "resources": ["arn:aws:s3:::uploads"],
        "detail": {
            "version": "0",
            "event-version": "1.1",
            "bucket": {"name": "uploads"},
            "object": {
                "key": "test.pdf",
                "size": 104681,
                "etag": "2e3ad1e983318bbd",
                "sequencer": "643717f9f8b85354",
            },
            "request-id": "YMSSR8BZJ2Y99K6P",
            "requester": "123456789012",
            "source-ip-address": "93.108.161.96",
            "reason": "PutObject",
        },
    }
    return _changed(made, changes)


def record(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Make a record of a put, with members changed by their path (`s3.object.key`)."""
    made: dict[str, Any] = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2023-04-12T20:43:38.021Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "A1YQ72UWCM96UF"},
        "requestParameters": {"sourceIPAddress": "93.108.161.96"},
        "responseElements": {"x-amz-request-id": "YMSSR8BZJ2Y99K6P", "x-amz-id-2": "6ASrUfj5xpn859fIq+6FXflOex"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "rule",
            "bucket": {"name": "uploads", "ownerIdentity": {"principalId": "A1"}, "arn": "arn:aws:s3:::uploads"},
            "object": {
                "key": "test.pdf",
                "size": 104681,
                "eTag": "2e3ad1e983318bbd",
                "sequencer": "00643717F9F8B85354",
            },
        },
    }
    return _changed(made, changes)


def _changed(made: dict[str, Any], changes: dict[str, Any] | None) -> dict[str, Any]:
    for path, value in (changes or {}).items():
        *ways, name = path.split(".")
        inside = made
        for way in ways:
            inside = inside[way]
        if value is ABSENT:
            inside.pop(name, None)
        else:
            inside[name] = value
    return made


def read(said: bytes | dict[str, Any], profile: Profile = "auto") -> Decoded:
    """Decode a message, or a message of one record."""
    return decode(said if isinstance(said, bytes) else message(said), tenant_id=DEFAULT_TENANT, profile=profile)


def event_of(said: bytes | dict[str, Any], profile: Profile = "auto") -> Event:
    """Decode what says exactly one event."""
    decoded = read(said, profile)
    assert decoded.refusals == ()
    assert not decoded.is_test_event
    (event,) = decoded.events
    return event


def refusal_of(said: bytes | dict[str, Any]) -> Refusal:
    """Decode what is refused, and says nothing else."""
    decoded = read(said)
    assert decoded.events == ()
    assert not decoded.is_test_event
    (refusal,) = decoded.refusals
    assert is_sound(refusal)
    return refusal


def is_sound(refusal: Refusal) -> bool:
    """Tell whether a reason can be stored, listed and read, and was foreseen."""
    reason = refusal.reason
    return 0 < len(reason) <= 200 and reason.isprintable() and "unforeseen" not in reason and bool(reason.encode())
