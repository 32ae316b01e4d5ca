"""What a receiver is sent, in each format, over HTTP and over Kafka."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.destinations.formats import http_message, kafka_message
from app.domain.configuration import Format
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT, public_id
from app.domain.operator_event import operator_event
from app.domain.rendering import event_fields, instant_text
from tests.unit.destinations.values import RECORD, make_event, make_owed

EVENT_ID = public_id("evt", bytes(range(16)))
FORMATS: tuple[Format, ...] = ("standard", "s3", "cloudevents", "cloudevents-binary")


def test_standard_is_type_timestamp_and_the_event_as_rest_shows_it() -> None:
    """The timestamp is the event's own; what S3 did not say is null; ids are public."""
    message = http_message(make_owed(version_id="v1"))

    assert message.headers == {"Content-Type": "application/json"}
    assert json.loads(message.body) == {
        "type": "s3:ObjectCreated:Put",
        "timestamp": "2026-11-24T10:00:00.000Z",
        "data": {
            "id": EVENT_ID,
            "type": "s3:ObjectCreated:Put",
            "change": "created",
            "bucket": "uploads",
            "key": "photos/café 1.jpg",
            "received_key": "photos/caf%C3%A9+1.jpg",
            "version_id": "v1",
            "size": 1024,
            "etag": "d41d8cd98f00b204e9800998ecf8427e",
            "sequencer": "0055AED6DCD90281E5",
            "time": "2026-11-24T10:00:00.000Z",
            "region": "eu-west-1",
            "actor": "AWS:AIDA",
            "source_ip": "203.0.113.7",
            "request_id": "C3D13FE58DE4C810",
            "host_id": None,
            "extra": None,
            "source_id": public_id("src", bytes(16)),
            "recorded_at": "2026-11-24T10:00:01.234Z",
        },
    }


def operators() -> dict[str, Any]:
    """Give what makes an operator event of the event of `make_owed`."""
    event = operator_event(
        DEFAULT_TENANT,
        "gateway.endpoint.disabled",
        about="ep_x",
        at=datetime(2026, 11, 24, 10, 0, tzinfo=UTC),
        data={"endpoint_id": "ep_x", "name": "Ü", "reason": "It answered 410."},
    )
    return {name: getattr(event, name) for name in Event.__slots__}


@pytest.mark.parametrize("form", ["standard", "s3"])
def test_an_operator_event_is_type_timestamp_and_its_data(form: Format) -> None:
    """Also where records of S3's were asked for, since there is none."""
    owed = make_owed(form=form, **operators())
    assert owed.stored is not None

    message = http_message(owed)

    assert message.headers == {"Content-Type": "application/json"}
    assert json.loads(message.body) == {
        "type": "gateway.endpoint.disabled",
        "timestamp": "2026-11-24T10:00:00.000Z",
        "data": {
            "id": public_id("evt", owed.stored.event.id),
            "endpoint_id": "ep_x",
            "name": "Ü",
            "reason": "It answered 410.",
        },
    }


def test_an_operator_event_as_a_cloud_event() -> None:
    """From the gateway, about the thing it tells of, which is the record's key in Kafka too."""
    owed = make_owed(form="cloudevents", **operators())

    body = json.loads(http_message(owed).body)
    record = kafka_message(owed)

    assert (body["type"], body["source"]) == ("com.bucketpost.gateway.endpoint.disabled", "bucketpost")
    assert (body["subject"], body["data"]["reason"]) == ("ep_x", "It answered 410.")
    assert record.key == b"ep_x"
    assert dict(record.headers)["ce_source"] == b"bucketpost"


def test_an_operator_event_has_no_bucket_and_no_key_in_rest() -> None:
    """What it tells of is in `extra`."""
    stored = make_owed(**operators()).stored
    assert stored is not None

    fields = event_fields(stored)

    assert (fields["bucket"], fields["key"], fields["received_key"]) == (None, None, None)
    assert fields["extra"] == {"endpoint_id": "ep_x", "name": "Ü", "reason": "It answered 410."}


@pytest.mark.parametrize(
    "extra", ['{"days":[1,{"a":null}]}', '{"wide":123456789012345678901234567890}', '{"a":"\\ud800"}']
)
def test_extra_is_embedded_as_json(extra: str) -> None:
    """The record's own block is JSON inside JSON, numbers beyond 64 bits and lone surrogates included."""
    body = http_message(make_owed(extra=extra)).body

    assert json.loads(body)["data"]["extra"] == json.loads(extra)


def test_s3_is_the_original_record_byte_for_byte() -> None:
    """Its spaces and its numbers are those of the store."""
    message = http_message(make_owed(form="s3"))

    assert message.body == b'{"Records":[' + RECORD + b"]}"
    assert message.headers == {"Content-Type": "application/json"}


def test_structured_cloudevents_hold_attributes_and_the_record() -> None:
    """The data is the record's own bytes."""
    message = http_message(make_owed(form="cloudevents"))

    assert message.headers == {"Content-Type": "application/cloudevents+json"}
    assert message.body.endswith(b',"data":' + RECORD + b"}")
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": EVENT_ID,
        "type": "com.amazonaws.s3.ObjectCreated:Put",
        "source": "aws:s3.eu-west-1.uploads",
        "subject": "photos/café 1.jpg",
        "time": "2026-11-24T10:00:00.000Z",
        "datacontenttype": "application/json",
        "data": json.loads(RECORD),
    }


def test_binary_cloudevents_over_http_have_percent_encoded_headers() -> None:
    """Space, quote, percent and what is not printable ASCII are encoded; the body is the record."""
    message = http_message(make_owed(form="cloudevents-binary", key='a b"100%/é\n~!'.encode()))

    assert message.body == RECORD
    assert message.headers == {
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": EVENT_ID,
        "ce-type": "com.amazonaws.s3.ObjectCreated:Put",
        "ce-source": "aws:s3.eu-west-1.uploads",
        "ce-subject": "a%20b%22100%25/%C3%A9%0A~!",
        "ce-time": "2026-11-24T10:00:00.000Z",
    }


@given(st.binary(max_size=64))
def test_headers_hold_printable_ascii_whatever_the_key(key: bytes) -> None:
    """No key can break out of its header."""
    headers = http_message(make_owed(form="cloudevents-binary", key=key)).headers

    assert all(value.isascii() and value.isprintable() for value in headers.values())


@pytest.mark.parametrize("form", FORMATS)
def test_kafka_records_have_the_same_headers_in_every_format(form: Format) -> None:
    """The attributes as raw UTF-8, content type and idempotency key; the record key is the object's raw bytes."""
    owed = make_owed(form=form)

    message = kafka_message(owed)

    over_http = http_message(owed)
    assert message.key == b"uploads/" + "photos/café 1.jpg".encode()
    assert message.value == over_http.body
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": EVENT_ID.encode(),
        "ce_type": b"com.amazonaws.s3.ObjectCreated:Put",
        "ce_source": b"aws:s3.eu-west-1.uploads",
        "ce_subject": "photos/café 1.jpg".encode(),
        "ce_time": b"2026-11-24T10:00:00.000Z",
        "content-type": over_http.headers["Content-Type"].encode(),
        "idempotency-key": owed.idempotency_key.encode(),
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_late_record_says_so_in_one_more_header(form: Format) -> None:
    """Body and key are what they are otherwise."""
    owed = make_owed(form=form)

    late, usual = kafka_message(replace(owed, is_late=True)), kafka_message(owed)

    assert late.headers == (*usual.headers, ("bucketpost-late", b"true"))
    assert (late.key, late.value) == (usual.key, usual.value)


def test_a_key_that_is_no_utf_8_keeps_its_bytes_in_the_record_key() -> None:
    """Only its text has the replacement character."""
    message = kafka_message(make_owed(key=b"a\xff"))

    assert message.key == b"uploads/a\xff"
    assert dict(message.headers)["ce_subject"] == "a\ufffd".encode()


@pytest.mark.parametrize(
    ("region", "bucket", "source"),
    [
        ("eu-west-1", "a.b", "aws:s3.eu-west-1.a.b"),
        (None, "a.b", "aws:s3..a.b"),
        ("", "ünt idy", "aws:s3..%C3%BCnt%20idy"),
    ],
)
def test_source_is_a_uri_reference_with_its_parts_in_place(region: str | None, bucket: str, source: str) -> None:
    """Without a region its place is empty; what may not stand in a URI is encoded."""
    message = http_message(make_owed(form="cloudevents", region=region, bucket=bucket))

    assert json.loads(message.body)["source"] == source


def test_an_empty_key_has_no_subject() -> None:
    """A subject, if there is one, is not empty."""
    assert "ce-subject" not in http_message(make_owed(form="cloudevents-binary", key=b"")).headers


def test_what_cannot_be_written_is_a_value_error() -> None:
    """A lone surrogate has no UTF-8."""
    with pytest.raises(ValueError, match="surrogates"):
        http_message(make_owed(form="cloudevents-binary", bucket="\ud800"))
    with pytest.raises(ValueError, match="surrogates"):
        kafka_message(make_owed(bucket="\ud800"))


def test_instants_are_utc_with_milliseconds_cut_off() -> None:
    """Whatever the zone and the fraction."""
    there = timezone(timedelta(hours=2))

    assert instant_text(datetime(2026, 11, 24, 12, 0, 0, 999999, tzinfo=there)) == "2026-11-24T10:00:00.999Z"
    assert instant_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000Z"


def test_an_event_heard_from_no_kept_source_has_a_null_source() -> None:
    """As every absent field."""
    stored = make_owed().stored
    assert stored is not None
    fields = event_fields(type(stored)(event=make_event(), source_id=None, recorded_at=stored.recorded_at))

    assert fields["source_id"] is None
