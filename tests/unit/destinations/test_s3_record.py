"""The `s3` format: a store's own record byte for byte, and S3's shape for what came in another."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, get_args
from urllib.parse import unquote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.decode import decode
from app.destinations.formats import http_message
from app.destinations.s3_record import SOURCES, s3_record
from app.domain.event import Dialect, Event
from app.domain.identity import Said, identify
from app.domain.ids import DEFAULT_TENANT, EventId
from tests.unit.decode.samples import event_of, payload
from tests.unit.destinations.values import RECORD, make_event, make_owed

SPARSE: Final[dict[str, Any]] = {
    "version_id": None,
    "size": None,
    "etag": None,
    "sequencer": None,
    "region": None,
    "actor": None,
    "source_ip": None,
    "request_id": None,
    "extra": None,
}


def written(event: Event) -> dict[str, Any]:
    """Write an event and read it as anyone would."""
    made: dict[str, Any] = json.loads(s3_record(event))
    return made


def decoded(event: Event) -> Event:
    """Write an event and decode it as a message from S3."""
    (again,) = decode(b'{"Records":[' + s3_record(event) + b"]}", tenant_id=DEFAULT_TENANT).events
    return again


def comparable(event: Event) -> Event:
    """Leave out what belongs to the form an event came in."""
    return replace(event, id=EventId(b""), day=event.time.date(), received_key="", record=b"", dialect="other")


@pytest.mark.parametrize("dialect", sorted({*get_args(Dialect)} - SOURCES.keys()))
def test_a_record_of_a_store_is_passed_on_as_it_came(dialect: Dialect) -> None:
    """Byte for byte, whatever the event says of it."""
    assert s3_record(make_event(dialect=dialect, key=b"another", size=1)) is RECORD


def test_eventbridges_event_has_every_member_of_a_record() -> None:
    """In S3's words, order and places; the key is encoded as forms are, the slash left as it is."""
    event = make_event(
        dialect="eventbridge", version_id="v1", key="photos/café +1%.jpg".encode(), received_key="photos/café +1%.jpg"
    )

    assert s3_record(event).decode() == (
        '{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-11-24T10:00:00.000Z",'
        '"eventName":"ObjectCreated:Put","userIdentity":{"principalId":"AWS:AIDA"},'
        '"requestParameters":{"sourceIPAddress":"203.0.113.7"},'
        '"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":""},'
        '"s3":{"s3SchemaVersion":"1.0","configurationId":"","bucket":{"name":"uploads",'
        '"ownerIdentity":{"principalId":""},"arn":"arn:aws:s3:::uploads"},'
        '"object":{"key":"photos/caf%C3%A9+%2B1%25.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e",'
        '"versionId":"v1","sequencer":"0055AED6DCD90281E5"}}}'
    )


def test_what_was_not_said_is_not_made_up() -> None:
    """An object has only what is known of it; the members that every reader expects are empty text."""
    record = written(make_event(dialect="eventbridge", **SPARSE))

    assert record["s3"]["object"] == {"key": "photos/caf%C3%A9+1.jpg"}
    assert record["awsRegion"] == record["userIdentity"]["principalId"] == ""
    assert record["requestParameters"] == {"sourceIPAddress": ""}
    assert record["responseElements"] == {"x-amz-request-id": "", "x-amz-id-2": ""}


def test_a_size_of_nothing_is_a_size() -> None:
    """Zero is known, and is not left out."""
    assert written(make_event(dialect="eventbridge", size=0))["s3"]["object"]["size"] == 0


def test_r2_is_named_as_other_stores_name_themselves() -> None:
    """It is not passed off as Amazon's: `minio:s3`, `ceph:s3` and `rustfs:s3` are the pattern."""
    assert written(make_event(dialect="r2", **SPARSE))["eventSource"] == "r2:s3"


@pytest.mark.parametrize(
    ("name", "extra", "version"),
    [
        ("ObjectCreated:Copy", None, "2.1"),
        ("ObjectRemoved:DeleteMarkerCreated", None, "2.1"),
        ("ObjectRestore:Completed", '{"glacierEventData":{}}', "2.1"),
        ("ObjectRestore:Delete", None, "2.3"),
        ("LifecycleTransition", '{"lifecycleEventData":{}}', "2.3"),
        ("ObjectTagging:Put", None, "2.3"),
        ("ObjectAcl:Put", None, "2.3"),
        ("ObjectCreated:Put", '{"awsGeneratedTags":{"aws:cloudformation:stack-name":"a"}}', "2.5"),
    ],
)
def test_the_version_is_the_one_that_brought_the_event(name: str, extra: str | None, version: str) -> None:
    """S3 has sent these families with these versions; 2.5 brought the tags of the bucket."""
    event = make_event(dialect="eventbridge", type=f"s3:{name}", extra=extra)

    assert written(event)["eventVersion"] == version


def test_blocks_stand_where_s3_puts_them() -> None:
    """The bucket's tags in the bucket, all others beside `s3`."""
    extra = '{"awsGeneratedTags":{"aws:a":"b"},"glacierEventData":{"restoreEventData":{"n":18446744073709551615}}}'

    record = written(make_event(dialect="eventbridge", extra=extra))

    assert record["s3"]["bucket"]["awsGeneratedTags"] == {"aws:a": "b"}
    assert record["glacierEventData"] == {"restoreEventData": {"n": 18446744073709551615}}
    assert "awsGeneratedTags" not in record


def test_no_block_passes_for_a_member_of_the_record() -> None:
    """Whatever EventBridge may call its next member."""
    record = written(make_event(dialect="eventbridge", extra='{"eventName":"another","s3":{},"mine":1}'))

    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["bucket"]["name"] == "uploads"
    assert record["mine"] == 1


@pytest.mark.parametrize("name", ["eventbridge-delete-marker", "r2-copy-object"])
def test_a_stores_own_payload_comes_back_from_the_written_record(name: str) -> None:
    """Through both decoders; the id too where request id and sequencer are there."""
    event = event_of(payload(name))

    again = decoded(event)

    assert comparable(again) == comparable(event)
    assert (again.id == event.id) is (name == "eventbridge-delete-marker")


@pytest.mark.parametrize(
    "detail",
    [
        {"restore-expiry-time": "2021-11-13T00:00:00Z", "source-storage-class": "GLACIER"},
        {"destination-storage-class": "GLACIER"},
        {"destination-access-tier": "ARCHIVE_ACCESS"},
        {"object-annotation": {"name": "n", "size": 1, "etag": "e"}},
        {"object-retention-event-data": {"mode": "GOVERNANCE"}},
        {"member-of-tomorrow": {"a": 1}},
    ],
    ids=lambda detail: next(iter(detail)),
)
def test_eventbridges_blocks_come_back(detail: dict[str, Any]) -> None:
    """In the words that records have for them."""
    made = json.loads(payload("eventbridge-delete-marker"))
    made["detail"] |= detail
    made["detail"]["bucket"]["aws-generated-tags"] = {"aws:cloudformation:stack-name": "mine"}
    made["detail"]["object"]["has-object-annotation"] = True
    event = event_of(json.dumps(made).encode())

    again = decoded(event)

    assert len(json.loads(event.extra or "{}")) == 3
    assert comparable(again) == comparable(event)
    assert again.id == event.id


def test_only_the_s3_format_is_written_anew() -> None:
    """The data of a CloudEvent stays the record as it came."""
    own = b'{"detail-type": "Object Created"}'

    assert http_message(make_owed(form="cloudevents-binary", dialect="eventbridge", record=own)).body == own
    assert b"detail-type" not in http_message(make_owed(form="s3", dialect="eventbridge", record=own)).body


def test_what_cannot_be_written_is_a_value_error() -> None:
    """A lone surrogate has no UTF-8."""
    with pytest.raises(ValueError, match="surrogates"):
        s3_record(make_event(dialect="eventbridge", bucket="\ud800"))


_OPTIONAL = st.none() | st.text("abcé1", min_size=1, max_size=4)
_EVENTS = st.builds(
    make_event,
    dialect=st.sampled_from(sorted(SOURCES)),
    bucket=st.text("ab.-", min_size=1, max_size=4),
    key=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).map(str.encode),
    version_id=_OPTIONAL,
    size=st.none() | st.integers(0, 2**63 - 1),
    etag=_OPTIONAL,
    sequencer=st.none() | st.sampled_from(["617f08299329d189", "00643717F9F8B85354"]),
    time=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 -- given apart
    region=_OPTIONAL,
    actor=_OPTIONAL,
    source_ip=_OPTIONAL,
    request_id=_OPTIONAL,
    extra=st.none() | st.just('{"glacierEventData":{"restoreEventData":{"a":"é"}}}'),
)


@given(_EVENTS)
@settings(deadline=None)
def test_decoding_the_written_record_gives_the_event(event: Event) -> None:
    """Every field; the id too where request id and sequencer are there, or where it is that of this very record."""
    event = replace(event, time=event.time.replace(microsecond=event.time.microsecond // 1000 * 1000))
    again = decoded(event)

    unlike: dict[str, Any] = {
        "id": again.id,
        "day": again.day,
        "received_key": again.received_key,
        "record": again.record,
    }
    assert replace(event, **unlike, dialect=again.dialect, host_id=None) == again
    assert unquote_plus(again.received_key).encode() == event.key
    if event.request_id is not None and event.sequencer is not None:
        assert (again.id, again.day) == identify(_said(event))


def _said(event: Event) -> Said:
    return Said(
        tenant_id=DEFAULT_TENANT,
        event_source="aws.s3",
        region=event.region,
        bucket=event.bucket,
        key=event.key,
        version_id=event.version_id,
        name=event.type.removeprefix("s3:"),
        time_text=event.time.isoformat(),
        time=event.time,
        sequencer=event.sequencer,
        etag=event.etag,
        size=event.size,
        request_id=event.request_id,
        host_id=None,
        actor=event.actor,
        source_ip=event.source_ip,
        extra=event.extra,
        envelope_id="17793124-05d4-b198-2fde-7ededc63b103",
    )
