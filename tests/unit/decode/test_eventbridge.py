"""EventBridge's form of an event: every detail-type, field by field, and what is refused of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.event import Change
from tests.unit.decode.samples import ABSENT, envelope, event_of, eventbridge, read, record, refusal_of


def _bytes(detail_type: str, changes: dict[str, Any] | None = None) -> bytes:
    return json.dumps(eventbridge(detail_type, changes)).encode()


@pytest.mark.parametrize(
    ("detail_type", "reason", "deletion", "name", "change"),
    [
        ("Object Created", "PutObject", ABSENT, "ObjectCreated:Put", "created"),
        ("Object Created", "POST Object", ABSENT, "ObjectCreated:Post", "created"),
        ("Object Created", "CopyObject", ABSENT, "ObjectCreated:Copy", "created"),
        ("Object Created", "CompleteMultipartUpload", ABSENT, "ObjectCreated:CompleteMultipartUpload", "created"),
        ("Object Created", "Renew Object", ABSENT, "ObjectCreated:RenewObject", "created"),
        ("Object Created", ABSENT, ABSENT, "ObjectCreated:Unknown", "created"),
        ("Object Deleted", "DeleteObject", "Permanently Deleted", "ObjectRemoved:Delete", "removed"),
        (
            "Object Deleted",
            "DeleteObject",
            "Delete Marker Created",
            "ObjectRemoved:DeleteMarkerCreated",
            "marker_created",
        ),
        ("Object Deleted", "Lifecycle Expiration", "Permanently Deleted", "LifecycleExpiration:Delete", "removed"),
        (
            "Object Deleted",
            "Lifecycle Expiration",
            "Delete Marker Created",
            "LifecycleExpiration:DeleteMarkerCreated",
            "marker_created",
        ),
        ("Object Deleted", "DeleteObject", "Half Deleted", "ObjectRemoved:HalfDeleted", "removed"),
        ("Object Deleted", "Boredom", "Permanently Deleted", "ObjectRemoved:Delete", "removed"),
        ("Object Deleted", ABSENT, ABSENT, "ObjectRemoved:Unknown", "removed"),
        ("Object Restore Initiated", ABSENT, ABSENT, "ObjectRestore:Post", "restore_started"),
        ("Object Restore Completed", ABSENT, ABSENT, "ObjectRestore:Completed", "restored"),
        ("Object Restore Expired", ABSENT, ABSENT, "ObjectRestore:Delete", "restore_expired"),
        ("Object Storage Class Changed", ABSENT, ABSENT, "LifecycleTransition", "transitioned"),
        ("Object Access Tier Changed", ABSENT, ABSENT, "IntelligentTiering", "tiered"),
        ("Object ACL Updated", ABSENT, ABSENT, "ObjectAcl:Put", "acl_changed"),
        ("Object Tags Added", ABSENT, ABSENT, "ObjectTagging:Put", "tagged"),
        ("Object Tags Deleted", ABSENT, ABSENT, "ObjectTagging:Delete", "untagged"),
        ("Object Annotation Created", "PutObjectAnnotation", ABSENT, "ObjectAnnotation:Put", "annotated"),
        (
            "Object Annotation Removed",
            "DeleteObjectAnnotation",
            ABSENT,
            "ObjectAnnotation:Delete",
            "annotation_removed",
        ),
        ("Object Retention Updated", ABSENT, ABSENT, "ObjectRetention:Put", "retention_set"),
        ("Object Frobnicated Anew", "Frobnicate", ABSENT, "ObjectFrobnicatedAnew", "other"),
    ],
)
def test_each_detail_type_becomes_s3s_name(
    detail_type: str, reason: object, deletion: object, name: str, change: Change
) -> None:
    """What is new passes under a printable name, in the family where there is one."""
    changes = {"detail.reason": reason} | ({} if deletion is ABSENT else {"detail.deletion-type": deletion})

    event = event_of(_bytes(detail_type, changes))

    assert (event.type, event.change) == (f"s3:{name}", change)


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({}, "bucket", "uploads"),
        ({}, "size", 104681),
        ({}, "etag", "2e3ad1e983318bbd"),
        ({}, "sequencer", "643717f9f8b85354"),
        ({}, "time", datetime(2023, 4, 12, 20, 43, 38, tzinfo=UTC)),
        ({}, "region", "us-east-1"),
        ({}, "actor", "123456789012"),
        ({}, "source_ip", "93.108.161.96"),
        ({}, "request_id", "YMSSR8BZJ2Y99K6P"),
        ({}, "host_id", None),
        ({}, "version_id", None),
        ({}, "dialect", "eventbridge"),
        ({"detail.object.version-id": "v1"}, "version_id", "v1"),
        ({"detail.object.version-id": "null"}, "version_id", None),
        ({"detail.object.size": ABSENT}, "size", None),
        ({"detail.object.etag": ABSENT}, "etag", None),
        ({"detail.object.sequencer": ABSENT}, "sequencer", None),
        ({"detail.source-ip-address": ABSENT}, "source_ip", None),
        ({"detail.requester": "s3.amazonaws.com"}, "actor", "s3.amazonaws.com"),
        ({"detail.event-version": ABSENT}, "change", "created"),
        ({"detail.event-version": "1.0"}, "change", "created"),
        ({"detail.event-version": "1.9"}, "change", "created"),
        ({"detail.object.key": "a+b%20c ü"}, "key", "a+b%20c ü".encode()),
        ({"detail.object.key": "a+b%20c ü"}, "received_key", "a+b%20c ü"),
    ],
)
def test_each_field_is_read_from_its_place(changes: dict[str, Any], field: str, value: object) -> None:
    """Keys are plain; what is absent is None."""
    assert getattr(event_of(_bytes("Object Created", changes)), field) == value


@pytest.mark.parametrize(
    ("changes", "extra"),
    [
        ({}, None),
        (
            {"detail.restore-expiry-time": "2021-11-13T00:00:00Z", "detail.source-storage-class": "GLACIER"},
            {
                "glacierEventData": {
                    "restoreEventData": {
                        "lifecycleRestorationExpiryTime": "2021-11-13T00:00:00Z",
                        "lifecycleRestoreStorageClass": "GLACIER",
                    }
                }
            },
        ),
        (
            {"detail.destination-storage-class": "GLACIER"},
            {"lifecycleEventData": {"transitionEventData": {"destinationStorageClass": "GLACIER"}}},
        ),
        (
            {"detail.destination-access-tier": "ARCHIVE_ACCESS"},
            {"intelligentTieringEventData": {"destinationAccessTier": "ARCHIVE_ACCESS"}},
        ),
        (
            {"detail.object-annotation": {"name": "a", "size": 24, "etag": "05df"}},
            {"objectAnnotation": [{"name": "a", "size": 24, "eTag": "05df"}]},
        ),
        (
            {"detail.object-annotation": [{"name": "a"}, {"name": "b"}]},
            {"objectAnnotation": [{"name": "a"}, {"name": "b"}]},
        ),
        (
            {
                "detail.object-retention-event-data": {
                    "mode": "GOVERNANCE",
                    "retain-until-date": "2027-01-01T00:00:00Z",
                    "event-hold-duration": {"days": 30},
                }
            },
            {
                "objectRetentionEventData": {
                    "mode": "GOVERNANCE",
                    "retainUntilDate": "2027-01-01T00:00:00Z",
                    "eventHoldDuration": {"days": 30},
                }
            },
        ),
        ({"detail.bucket.aws-generated-tags": {"aws:a-b": "c"}}, {"awsGeneratedTags": {"aws:a-b": "c"}}),
        ({"detail.object.has-object-annotation": False}, {"hasObjectAnnotation": False}),
        ({"detail.new-member": {"a-b": 1}, "detail.other": ""}, {"newMember": {"a-b": 1}}),
    ],
)
def test_blocks_are_in_the_words_of_records(changes: dict[str, Any], extra: dict[str, Any] | None) -> None:
    """A reader of records finds each where S3's own form has it."""
    text = event_of(_bytes("Object Created", changes)).extra

    assert (None if text is None else json.loads(text)) == extra


@pytest.mark.parametrize(
    ("record_block", "changes"),
    [
        (
            {"glacierEventData": {"restoreEventData": {"lifecycleRestoreStorageClass": "GLACIER"}}},
            {"detail.source-storage-class": "GLACIER"},
        ),
        ({"objectAnnotation": [{"name": "a", "eTag": "b"}]}, {"detail.object-annotation": {"name": "a", "etag": "b"}}),
        ({"s3.bucket.awsGeneratedTags": {"aws:a": "b"}}, {"detail.bucket.aws-generated-tags": {"aws:a": "b"}}),
        ({"s3.object.hasObjectAnnotation": True}, {"detail.object.has-object-annotation": True}),
    ],
)
def test_a_record_and_its_twin_have_one_block(record_block: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whichever road it came by."""
    assert event_of(record(record_block)).extra == event_of(_bytes("Object Created", changes)).extra


def test_a_record_and_its_twin_are_one_event() -> None:
    """Where both have sequencer and request id: times, tags and spellings of the sequencer differ."""
    twin = event_of(_bytes("Object Created", {"detail.bucket.aws-generated-tags": {"aws:a": "b"}}))

    assert (twin.id, twin.day) == (event_of(record()).id, event_of(record()).day)


def test_two_taggings_in_one_second_are_two_events() -> None:
    """They have no sequencer; EventBridge's own id tells them apart."""
    tagged = {"detail.object.sequencer": ABSENT, "detail.reason": ABSENT, "detail.request-id": ABSENT}

    one = event_of(_bytes("Object Tags Added", tagged))
    other = event_of(_bytes("Object Tags Added", tagged | {"id": "another"}))

    assert one.id != other.id
    assert one.id == event_of(_bytes("Object Tags Added", tagged)).id


@pytest.mark.parametrize("is_wrapped", [False, True], ids=["direct", "in SNS"])
def test_the_record_is_the_whole_event_as_it_came(*, is_wrapped: bool) -> None:
    """Not only its detail."""
    text = json.dumps(eventbridge("Object Created"), indent=1)

    event = event_of(envelope(f" {text}\n") if is_wrapped else f" {text}\n".encode())

    assert event.record == text.encode()


def test_a_profile_changes_nothing() -> None:
    """Who wrote such an event is beyond doubt."""
    body = _bytes("Object Created", {"detail.object.key": "a+b"})

    assert read(body) == read(body, "ceph") == read(body, "minio")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "aws.ec2"}, "The message is an EventBridge event of 'aws.ec2', not of aws.s3."),
        ({"source": ABSENT}, "The message is an EventBridge event without a source, not of aws.s3."),
        ({"time": ABSENT}, "The message gives no time."),
        ({"time": "soon"}, "The message gives the time 'soon', which is not an ISO 8601 time."),
        ({"detail-type": 1}, "The message gives a number for detail-type, not text."),
        ({"detail-type": "Object\nEaten"}, "The message gives the detail-type 'Object\\nEaten', which is no name."),
        ({"detail": "x"}, "The message gives text for detail, not an object."),
        ({"detail": {}}, "The message gives no detail.object.key."),
        ({"detail.bucket": ABSENT}, "The message gives no detail.bucket.name."),
        ({"detail.object.size": "1k"}, "The message gives '1k' for detail.object.size, not a number of bytes."),
        ({"detail.object.key": "a\0"}, "The message has a NUL in detail.object.key."),
        ({"detail.restore-expiry-time": 5}, "The message gives a number for detail.restore-expiry-time, not text."),
        ({"detail.x": 2**64}, "The message has a number of more than 64 bits in a block of its own."),
        (
            {"detail-type": "AWS API Call via CloudTrail"},
            (
                "The message is CloudTrail's note of an API call, not an event of S3: the rule must match S3's own "
                "detail-types."
            ),
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """The reason names the member; the bytes are the whole event's."""
    body = _bytes("Object Created", changes)

    refusal = refusal_of(body)

    assert (refusal.reason, refusal.raw) == (reason, body)


@pytest.mark.parametrize("kept", [["detail"], ["detail", "id", "time"], []])
def test_a_part_of_an_event_is_refused_with_advice(kept: list[str]) -> None:
    """Rules can cut events to pieces; then nobody can say what happened."""
    whole = eventbridge("Object Created")
    part = {name: whole[name] for name in kept} or whole["detail"]

    refusal = refusal_of(json.dumps(part).encode())

    assert refusal.reason.startswith("The message is only a part of an EventBridge event: ")
    assert "without an input path" in refusal.reason
