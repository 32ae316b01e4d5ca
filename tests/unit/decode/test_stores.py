"""What real stores were seen to do, and what a profile decides where the content cannot."""

from typing import Any

import pytest

from app.domain.configuration import Profile
from app.domain.event import Dialect
from tests.unit.decode.samples import ABSENT, event_of, payload, read, record

MINIO = {"eventSource": "minio:s3", "awsRegion": "", "s3.object.sequencer": "18742D1FA7E0C0DE"}
VERSITYGW = {
    "userIdentity": {"PrincipalId": "admin"},
    "s3.bucket.arn": "arn:aws:s3:::/uploads/test.pdf",
    "s3.object.sequencer": "1F",
    "responseElements.x-amz-request-id": "",
}


@pytest.mark.parametrize(
    ("changes", "dialect"),
    [
        ({}, "aws"),
        ({"eventSource": "minio:s3"}, "minio"),
        ({"eventSource": "rustfs:s3"}, "rustfs"),
        ({"eventSource": "ceph:s3"}, "ceph"),
        ({"eventSource": "ctyun:s3"}, "other"),
        ({"eventSource": ABSENT}, "other"),
        ({"userIdentity": {"PrincipalId": "admin"}}, "versitygw"),
        ({"s3.bucket.arn": "arn:aws:s3:::uploads/test.pdf"}, "versitygw"),
        ({"s3.bucket.arn": "acs:oss:cn:1:uploads/test.pdf", "eventSource": "oss"}, "other"),
        ({"eventSource": "minio:s3", "userIdentity": {"PrincipalId": "admin"}}, "minio"),
    ],
)
def test_a_record_tells_who_wrote_it(changes: dict[str, Any], dialect: Dialect) -> None:
    """By its source, or by the marks of one that says it is Amazon's."""
    event = event_of(record(changes | {"s3.object.key": "a+b%25"}))

    assert event.dialect == dialect
    assert event.key == (b"a+b%25" if dialect in ("ceph", "versitygw") else b"a b%")


@pytest.mark.parametrize(
    ("profile", "key"),
    [("aws", b"a b%"), ("minio", b"a b%"), ("rustfs", b"a b%"), ("ceph", b"a+b%25"), ("versitygw", b"a+b%25")],
)
@pytest.mark.parametrize("source", ["aws:s3", "minio:s3", "ceph:s3", "ctyun:s3"])
def test_a_profile_decides_over_the_record(profile: Profile, key: bytes, source: str) -> None:
    """Some stores say they are another."""
    event = event_of(record({"eventSource": source, "s3.object.key": "a+b%25"}), profile)

    assert (event.dialect, event.key) == (profile, key)


@pytest.mark.parametrize("profile", ["auto", "aws", "minio", "rustfs", "ceph", "versitygw"])
@pytest.mark.parametrize("name", ["eventbridge-restore-completed", "r2-lifecycle-deletion"])
def test_a_profile_says_nothing_about_other_shapes(profile: Profile, name: str) -> None:
    """EventBridge and R2 are who they are."""
    assert read(payload(name), profile) == read(payload(name))


def test_minios_size_is_absent_at_nothing() -> None:
    """It leaves zeros out; nothing is made up for it."""
    assert event_of(record(MINIO | {"s3.object.size": ABSENT})).size is None


@pytest.mark.parametrize("version", ["null", ABSENT])
def test_minios_null_version_is_none(version: object) -> None:
    """It writes the text while versioning is suspended, and for folders in any bucket."""
    assert event_of(record(MINIO | {"s3.object.versionId": version})).version_id is None


def test_minios_tagging_is_another_event_than_the_put_whose_sequencer_it_carries() -> None:
    """So are a GET and a HEAD."""
    names = ["ObjectCreated:Put", "ObjectCreated:PutTagging", "ObjectAccessed:Get", "ObjectAccessed:Head"]

    ids = {event_of(record(MINIO | {"eventName": f"s3:{name}"})).id for name in names}

    assert len(ids) == len(names)


def test_minios_second_delete_is_another_event() -> None:
    """It repeats version id and sequencer; the request differs."""
    deleted = MINIO | {"eventName": "s3:ObjectRemoved:DeleteMarkerCreated", "s3.object.versionId": "v1"}

    one = event_of(record(deleted))
    other = event_of(record(deleted | {"responseElements.x-amz-request-id": "18742D20AAAAAAAA"}))

    assert one.id != other.id


def test_minios_copy_of_a_message_is_the_same_event() -> None:
    """It sends an unfilled batch again and again, byte for byte."""
    assert event_of(payload("minio-object-created")).id == event_of(payload("minio-object-created")).id


def test_minios_constant_host_id_says_nothing() -> None:
    """There is one for each node."""
    assert event_of(record(MINIO)).id == event_of(record(MINIO | {"responseElements.x-amz-id-2": "dd90"})).id


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ObjectCreated:Put", 0),
        ("ObjectCreated:Post", 0),
        ("ObjectCreated:Copy", None),
        ("ObjectCreated:CompleteMultipartUpload", None),
        ("ObjectTagging:Put", None),
        ("ObjectRemoved:Delete", None),
        ("ObjectRemoved:DeleteObjects", None),
    ],
)
def test_versitygws_zero_is_a_size_only_where_it_knows_one(name: str, size: int | None) -> None:
    """It writes 0 for a copy of any size."""
    assert event_of(record(VERSITYGW | {"eventName": f"s3:{name}", "s3.object.size": 0})).size == size


def test_versitygws_size_is_kept_where_there_is_one() -> None:
    """Whatever the name."""
    assert event_of(record(VERSITYGW | {"eventName": "s3:ObjectCreated:Copy", "s3.object.size": 5})).size == 5


@pytest.mark.parametrize("version", [None, "", "01JQ"])
def test_versitygws_versions_are_read_where_they_are_told(version: str | None) -> None:
    """Null, empty or real, by what was done."""
    assert event_of(record(VERSITYGW | {"s3.object.versionId": version})).version_id == (version or None)


def test_versitygws_counter_beginning_again_makes_no_two_changes_one() -> None:
    """Its sequencer is short, so everything else tells changes apart."""
    one = event_of(record(VERSITYGW))
    other = event_of(record(VERSITYGW | {"eventTime": "2023-04-12T20:43:39Z"}))

    assert one.id != other.id
