"""The record of an event in S3's own shape: the store's bytes where it wrote that shape, else written anew.

Amazon S3 user guide, "Event message structure". What was not said is never made up: such an object has no size, eTag,
versionId or sequencer, and the other members, which every reader of records expects to be there, are empty text.
"""

import json
from typing import Any, Final
from urllib.parse import quote_plus

from app.domain.change import canonical_name
from app.domain.configuration import JSON
from app.domain.event import Dialect, Event
from app.domain.rendering import instant_text

# Each store writes `<its name>:s3`, and readers look for Amazon's or for the part behind the colon.
SOURCES: Final[dict[Dialect, str]] = {"eventbridge": "aws:s3", "r2": "r2:s3"}
# Versions by what they brought, as S3 has sent them: each can be read by whoever knows 2.0.
_PLAIN_VERSION: Final = "2.1"
_LATER_VERSION: Final = "2.3"
_TAGS_VERSION: Final = "2.5"
_PLAIN_FAMILIES: Final = ("ObjectCreated:", "ObjectRemoved:", "ObjectRestore:Post", "ObjectRestore:Completed")
# The blocks that do not stand beside `s3`.
_SYSTEM_TAGS: Final = "awsGeneratedTags"
_HAS_ANNOTATION: Final = "hasObjectAnnotation"
_ANNOTATION: Final = "objectAnnotation"


def s3_record(event: Event) -> bytes:
    """Give one element of `Records`. Raises ValueError for what cannot be written."""
    source = SOURCES.get(event.dialect)
    if source is None:
        return event.record
    return json.dumps(_written(event, source), ensure_ascii=False, separators=(",", ":")).encode()


def _written(event: Event, source: str) -> dict[str, JSON]:
    blocks: dict[str, Any] = json.loads(event.extra) if event.extra else {}
    bucket: dict[str, JSON] = {
        "name": event.bucket,
        "ownerIdentity": {"principalId": ""},
        "arn": f"arn:aws:s3:::{event.bucket}",
    }
    thing = _object(event)
    s3: dict[str, JSON] = {"s3SchemaVersion": "1.0", "configurationId": "", "bucket": bucket, "object": thing}
    for place, name in ((bucket, _SYSTEM_TAGS), (thing, _HAS_ANNOTATION), (s3, _ANNOTATION)):
        if name in blocks:
            place[name] = blocks.pop(name)
    record: dict[str, JSON] = {
        "eventVersion": _version(event, has_tags=_SYSTEM_TAGS in bucket),
        "eventSource": source,
        "awsRegion": event.region or "",
        "eventTime": instant_text(event.time),
        "eventName": canonical_name(event.type),
        "userIdentity": {"principalId": event.actor or ""},
        "requestParameters": {"sourceIPAddress": event.source_ip or ""},
        "responseElements": {"x-amz-request-id": event.request_id or "", "x-amz-id-2": event.host_id or ""},
        "s3": s3,
    }
    # Blocks are named by the sender: none may pass for a member of the record.
    return record | {name: value for name, value in blocks.items() if name not in record}


def _version(event: Event, *, has_tags: bool) -> str:
    if has_tags:
        return _TAGS_VERSION
    return _PLAIN_VERSION if canonical_name(event.type).startswith(_PLAIN_FAMILIES) else _LATER_VERSION


def _object(event: Event) -> dict[str, JSON]:
    known: dict[str, JSON] = {
        # As S3 writes keys: encoded once, as HTML forms are, so that who decodes once has the key.
        "key": quote_plus(event.key, safe="/"),
        "size": event.size,
        "eTag": event.etag,
        "versionId": event.version_id,
        "sequencer": event.sequencer,
    }
    return {name: value for name, value in known.items() if value is not None}
