"""S3's notification messages in their real shape, with what moto leaves out: sequencers, ids, versions.

The shape is that of AWS's "Event message structure"; values follow its examples.
"""

import itertools
import json
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from tests.bed.aws import REGION

SNS = f"https://sns.{REGION}.amazonaws.com"
TOPIC_ARN = f"arn:aws:sns:{REGION}:123456789012:uploads"


def record(  # noqa: PLR0913 - the fields that tests vary
    bucket: str,
    key: str | bytes,
    *,
    event_name: str = "ObjectCreated:Put",
    time: datetime | None = None,
    sequencer: str | None = None,
    request_id: str | None = None,
    version_id: str | None = None,
    size: int | None = 1024,
    etag: str | None = "d41d8cd98f00b204e9800998ecf8427e",
    region: str = REGION,
    event_version: str = "2.1",
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make one record; `key` is the plain key, and `None` leaves an object's field out, as S3 does.

    Sequencer and request id are new with each call unless given. `changes` replaces fields at the top.
    """
    time = time or datetime.now(UTC)
    thing = {
        "key": encode_key(key),
        "size": size,
        "eTag": etag,
        "versionId": version_id,
        "sequencer": sequencer or new_sequencer(time),
    }
    return {
        "eventVersion": event_version,
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": _iso(time),
        "eventName": event_name,
        "userIdentity": {"principalId": "AWS:AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {
            "x-amz-request-id": request_id or secrets.token_hex(8).upper(),
            "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "testConfigRule",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {name: value for name, value in thing.items() if value is not None},
        },
        **(changes or {}),
    }


def message(*records: Mapping[str, Any]) -> str:
    """Make the text of a message with these records, as S3 sends it to a queue."""
    return json.dumps({"Records": records}, separators=(",", ":"))


def message_for(bucket: str, *keys: str) -> str:
    """Make the text of a message that tells of an upload of each key."""
    return message(*(record(bucket, key) for key in keys))


def s3_test_event(bucket: str) -> str:
    """Make the text that S3 sends when a notification is configured."""
    return json.dumps(
        {
            "Service": "Amazon S3",
            "Event": "s3:TestEvent",
            "Time": _iso(datetime.now(UTC)),
            "Bucket": bucket,
            "RequestId": secrets.token_hex(8).upper(),
            "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
        }
    )


def sns_wrapped(text: str, *, topic_arn: str = TOPIC_ARN) -> str:
    """Wrap a message in the envelope SNS puts around it without raw delivery. The signature is not real."""
    identity = str(uuid.uuid4())
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": identity,
            "TopicArn": topic_arn,
            "Subject": "Amazon S3 Notification",
            "Message": text,
            "Timestamp": _iso(datetime.now(UTC)),
            "SignatureVersion": "1",
            "Signature": "EXAMPLEpH+DcEwjAPg8O9mY8dReBSwksfg2S7WKQcikcNKWLQjwu6A4VbeS0QHVCkhRS7fUQvi2egU3N==",
            "SigningCertURL": f"{SNS}/SimpleNotificationService-{'0' * 32}.pem",
            "UnsubscribeURL": f"{SNS}/?Action=Unsubscribe&SubscriptionArn={topic_arn}",
        }
    )


def encode_key(key: str | bytes) -> str:
    """Encode a key as S3 does in notifications: form encoding, with `/` left alone."""
    return quote_plus(key, safe="/")


def new_sequencer(time: datetime) -> str:
    """Make a sequencer in AWS's shape: 00, the second in 8 hex digits, and 8 that grow with each call."""
    return f"00{int(time.timestamp()):08X}{next(_numbers):08X}"


_numbers = itertools.count(secrets.randbelow(0x8000_0000))


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
