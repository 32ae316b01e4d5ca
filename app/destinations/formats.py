"""What a receiver is sent: the body and headers of one delivery in each format, over HTTP and over Kafka.

Written against CloudEvents 1.0.2: JSON format sections 2 and 3, HTTP binding 3.1 and 3.2, Kafka binding 3.2 and 3.3.
Signatures are in signing.py, S3's own record in s3_record.py. Every function raises ValueError for what cannot be
written.
"""

import json
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote

import orjson

from app.destinations.s3_record import s3_record
from app.domain.change import canonical_name
from app.domain.configuration import JSON, Format
from app.domain.delivery import Owed
from app.domain.event import Event, StoredEvent
from app.domain.ids import public_id
from app.domain.rendering import event_fields, instant_text

JSON_TYPE: Final = "application/json"
STRUCTURED_TYPE: Final = "application/cloudevents+json"

# HTTP binding 3.1.3.2: printable ASCII but space, double quote and percent stays as it is, all else is encoded.
_KEPT_IN_HEADERS: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
# RFC 3986: what may stand in a URI; `source` is a URI reference, and a bucket's name may be anything.
_KEPT_IN_URIS: Final = "-._~:/?@!$&'()*+,;="


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMessage:
    """The body to sign and send, and the headers that go with it (`Content-Type`, `ce-...`)."""

    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaMessage:
    """A record to produce."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def http_message(owed: Owed) -> HttpMessage:
    """Write a delivery as an HTTP request; with `cloudevents-binary` the attributes are headers."""
    stored = _stored(owed)
    body, content_type = _body(owed.format, stored)
    headers = {"Content-Type": content_type}
    if owed.format == "cloudevents-binary":
        attributes = _attributes(stored.event)
        headers |= {f"ce-{name}": quote(value, safe=_KEPT_IN_HEADERS) for name, value in attributes.items()}
    return HttpMessage(body=body, headers=headers)


def kafka_message(owed: Owed) -> KafkaMessage:
    """Write a delivery as a Kafka record: the same headers in every format, and the object as its key."""
    stored = _stored(owed)
    body, content_type = _body(owed.format, stored)
    headers = {f"ce_{name}": value for name, value in _attributes(stored.event).items()}
    headers |= {"content-type": content_type, "idempotency-key": owed.idempotency_key}
    if owed.is_late:
        headers["bucketpost-late"] = "true"
    return KafkaMessage(
        key=_kafka_key(stored.event),
        value=body,
        headers=tuple((name, value.encode()) for name, value in headers.items()),
    )


def _kafka_key(event: Event) -> bytes:
    return event.key if event.is_operator_event else event.bucket.encode() + b"/" + event.key


def _body(form: Format, stored: StoredEvent) -> tuple[bytes, str]:
    if form == "s3" and stored.event.is_operator_event:
        # No filter may ask for it, but one may have asked for another format when this came to be owed.
        form = "standard"
    match form:
        case "standard":
            return _standard(stored), JSON_TYPE
        case "s3":
            return b'{"Records":[' + s3_record(stored.event) + b"]}", JSON_TYPE
        case "cloudevents":
            return _structured(stored.event), STRUCTURED_TYPE
        case "cloudevents-binary":
            return stored.event.record, JSON_TYPE
        case _:
            assert_never(form)


def _standard(stored: StoredEvent) -> bytes:
    """Write the payload that Standard Webhooks 1.0 recommends: type, the event's own time, the event."""
    event = stored.event
    data = _operator_data(event) if event.is_operator_event else event_fields(stored)
    return _json({"type": event.type, "timestamp": instant_text(event.time), "data": data})


def _operator_data(event: Event) -> dict[str, JSON]:
    return {"id": public_id("evt", event.id), **json.loads(event.record)}


def _structured(event: Event) -> bytes:
    attributes: dict[str, JSON] = {**_attributes(event), "datacontenttype": JSON_TYPE}
    # The record's own bytes are put in: parsing and writing again could change a number.
    return _json(attributes)[:-1] + b',"data":' + event.record + b"}"


def _attributes(event: Event) -> dict[str, str]:
    """Give the context attributes, named and filled as the CloudEvents adapter for AWS S3 does.

    Where the store names no region its place in `source` stays empty, so that the third part is always the bucket.
    """
    place = f"{event.region or ''}.{event.bucket}"
    is_operators = event.is_operator_event
    attributes = {
        "specversion": "1.0",
        "id": public_id("evt", event.id),
        "type": f"com.bucketpost.{event.type}" if is_operators else f"com.amazonaws.s3.{canonical_name(event.type)}",
        "source": "bucketpost" if is_operators else f"aws:s3.{quote(place, safe=_KEPT_IN_URIS)}",
        "subject": event.key_text,
        "time": instant_text(event.time),
    }
    if not event.key:
        del attributes["subject"]  # section 3.1: a subject, if there is one, is not empty
    return attributes


def _json(value: dict[str, JSON]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # A record's own block may hold what orjson has no room for, such as an integer of more than 64 bits.
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _stored(owed: Owed) -> StoredEvent:
    if owed.stored is None:
        raise ValueError("The event is no longer kept.")
    return owed.stored
