"""Every event type of Amazon S3 with the block it carries, in every version; and the names of the stores like it."""

import json
from typing import Any

import pytest

from app.domain.event import Change
from tests.unit.decode.samples import ABSENT, event_of, message, read, record

NO_SIZE = {"s3.object.size": ABSENT}
ONLY_ETAG = {"s3.object.size": ABSENT, "s3.object.sequencer": ABSENT}
REPLICATION = {
    "replicationRuleId": "rule",
    "destinationBucket": "arn:aws:s3:::copy",
    "s3Operation": "OBJECT_PUT",
    "requestTime": "2023-04-12T20:40:38.021Z",
}
RETENTION = {"mode": "GOVERNANCE", "retainUntilDate": "2027-01-01T00:00:00Z", "eventHold": "ON"}
TRANSITION = {"transitionEventData": {"destinationStorageClass": "GLACIER"}}
RESTORE = {"lifecycleRestorationExpiryTime": "2025-01-24T00:00:00.000Z", "lifecycleRestoreStorageClass": "GLACIER"}

# Name, what its record has or lacks beside that of a put, and the change.
AMAZON: list[tuple[str, dict[str, Any], Change]] = [
    ("ObjectCreated:Put", {}, "created"),
    ("ObjectCreated:Post", {}, "created"),
    ("ObjectCreated:Copy", {}, "created"),
    ("ObjectCreated:CompleteMultipartUpload", {"s3.object.eTag": "430f89010c77aa34fc8760696da62d08-2"}, "created"),
    ("ObjectRemoved:Delete", NO_SIZE | {"s3.object.eTag": ABSENT}, "removed"),
    ("ObjectRemoved:DeleteMarkerCreated", NO_SIZE | {"s3.object.versionId": "v3"}, "marker_created"),
    ("ObjectRestore:Post", {}, "restore_started"),
    ("ObjectRestore:Completed", {"glacierEventData": {"restoreEventData": RESTORE}}, "restored"),
    ("ObjectRestore:Delete", {}, "restore_expired"),
    ("ReducedRedundancyLostObject", {}, "lost"),
    (
        "Replication:OperationFailedReplication",
        {"replicationEventData": REPLICATION | {"failureReason": "X"}},
        "replication",
    ),
    (
        "Replication:OperationMissedThreshold",
        {"replicationEventData": REPLICATION | {"threshold": "15"}},
        "replication",
    ),
    (
        "Replication:OperationReplicatedAfterThreshold",
        {"replicationEventData": REPLICATION | {"threshold": "15", "replicationTime": "16"}},
        "replication",
    ),
    ("Replication:OperationNotTracked", {"replicationEventData": REPLICATION}, "replication"),
    ("LifecycleTransition", {"lifecycleEventData": TRANSITION}, "transitioned"),
    ("IntelligentTiering", {"intelligentTieringEventData": {"destinationAccessTier": "ARCHIVE_ACCESS"}}, "tiered"),
    ("LifecycleExpiration:Delete", NO_SIZE | {"s3.object.eTag": ABSENT}, "removed"),
    ("LifecycleExpiration:DeleteMarkerCreated", NO_SIZE, "marker_created"),
    ("ObjectTagging:Put", ONLY_ETAG, "tagged"),
    ("ObjectTagging:Delete", ONLY_ETAG, "untagged"),
    ("ObjectAcl:Put", ONLY_ETAG, "acl_changed"),
    ("ObjectAnnotation:Put", ONLY_ETAG | {"objectAnnotation": [{"name": "a", "size": 3, "eTag": "e"}]}, "annotated"),
    ("ObjectAnnotation:Delete", ONLY_ETAG | {"objectAnnotation": [{"name": "a"}]}, "annotation_removed"),
    ("ObjectRetention:Put", {"objectRetentionEventData": RETENTION}, "retention_set"),
]
OTHERS: list[tuple[str, str, Change]] = [
    ("minio:s3", "ObjectAccessed:Get", "accessed"),
    ("minio:s3", "ObjectAccessed:Head", "accessed"),
    ("minio:s3", "ObjectAccessed:GetRetention", "accessed"),
    ("minio:s3", "ObjectAccessed:GetLegalHold", "accessed"),
    ("minio:s3", "ObjectAccessed:Attributes", "accessed"),
    ("minio:s3", "ObjectCreated:PutRetention", "retention_set"),
    ("minio:s3", "ObjectCreated:PutLegalHold", "retention_set"),
    ("minio:s3", "ObjectCreated:PutTagging", "tagged"),
    ("minio:s3", "ObjectCreated:DeleteTagging", "untagged"),
    ("minio:s3", "ObjectRemoved:NoOP", "other"),
    ("minio:s3", "ObjectRemoved:DeleteAllVersions", "removed"),
    ("minio:s3", "LifecycleDelMarkerExpiration:Delete", "removed"),
    ("minio:s3", "Replication:OperationCompletedReplication", "replication"),
    ("minio:s3", "ObjectTransition:Failed", "other"),
    ("minio:s3", "ObjectTransition:Complete", "transitioned"),
    ("minio:s3", "Scanner:ManyVersions", "other"),
    ("minio:s3", "Scanner:LargeVersions", "other"),
    ("minio:s3", "Scanner:BigPrefix", "other"),
    ("rustfs:s3", "ObjectTagging:Put", "tagged"),
    ("rustfs:s3", "ObjectAcl:Put", "acl_changed"),
    ("rustfs:s3", "LifecycleExpiration:Delete", "removed"),
    ("rustfs:s3", "LifecycleTransition", "transitioned"),
    ("rustfs:s3", "IntelligentTiering", "tiered"),
    ("ceph:s3", "ObjectLifecycle:Expiration:Current", "removed"),
    ("ceph:s3", "ObjectLifecycle:Expiration:NonCurrent", "removed"),
    ("ceph:s3", "ObjectLifecycle:Expiration:DeleteMarker", "removed"),
    ("ceph:s3", "ObjectLifecycle:Expiration:AbortMultipartUpload", "other"),
    ("ceph:s3", "ObjectLifecycle:Transition:Current", "transitioned"),
    ("ceph:s3", "ObjectLifecycle:Transition:NonCurrent", "transitioned"),
    ("ceph:s3", "ObjectSynced:Create", "created"),
    ("ceph:s3", "ObjectSynced:Delete", "removed"),
    ("ceph:s3", "ObjectSynced:DeletionMarkerCreated", "marker_created"),
    ("aws:s3", "ObjectRemoved:DeleteObjects", "removed"),
    ("ctyun:s3", "ObjectFrobnicated:New", "other"),
]


@pytest.mark.parametrize(("name", "changes", "change"), AMAZON, ids=[name for name, *_ in AMAZON])
@pytest.mark.parametrize("prefix", ["", "s3:"], ids=["plain", "with s3:"])
def test_each_type_of_amazons_is_read_with_its_block(
    name: str, changes: dict[str, Any], change: Change, prefix: str
) -> None:
    """What its record lacks is None, its own block is `extra`, whole."""
    written = record(changes | {"eventName": prefix + name})

    event = event_of(written)

    thing = written["s3"]["object"]
    assert (event.type, event.change, event.dialect) == (f"s3:{name}", change, "aws")
    assert (event.size, event.etag, event.version_id, event.sequencer) == tuple(
        thing.get(member) for member in ("size", "eTag", "versionId", "sequencer")
    )
    blocks = {member: value for member, value in changes.items() if not member.startswith("s3.")}
    assert (json.loads(event.extra) if event.extra else {}) == blocks


@pytest.mark.parametrize(("source", "name", "change"), OTHERS)
def test_each_name_of_other_stores_is_read(source: str, name: str, change: Change) -> None:
    """Names nobody knows pass."""
    event = event_of(record({"eventSource": source, "eventName": f"s3:{name}"}))

    assert (event.type, event.change) == (f"s3:{name}", change)


@pytest.mark.parametrize("name", ["BucketCreated:*", "BucketRemoved:*"])
def test_what_tells_of_no_object_is_refused(name: str) -> None:
    """MinIO can tell of buckets too."""
    (refusal,) = read(record({"eventName": name, "eventSource": "minio:s3", "s3.object": {"key": ""}})).refusals

    assert refusal.reason == "Record 1 gives no s3.object.key."


@pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.10", ABSENT])
def test_every_version_is_one_event(version: object) -> None:
    """The version says nothing about the change."""
    assert event_of(record({"eventVersion": version})).id == event_of(record()).id


@pytest.mark.parametrize(
    ("changes", "extra"),
    [
        ({"restoreEventData": RESTORE}, {"glacierEventData": {"restoreEventData": RESTORE}}),
        (
            {"restoreEventData": {"x": 1}, "glacierEventData": {"restoreEventData": RESTORE}},
            {"glacierEventData": {"restoreEventData": RESTORE}},
        ),
        ({"s3.bucket.awsGeneratedTags": {"aws:a": "b"}}, {"awsGeneratedTags": {"aws:a": "b"}}),
        ({"s3.objectAnnotation": [{"name": "a"}]}, {"objectAnnotation": [{"name": "a"}]}),
        ({"s3.object.objectAnnotation": {"name": "a"}}, {"objectAnnotation": [{"name": "a"}]}),
        ({"objectAnnotation": {"name": "a"}}, {"objectAnnotation": [{"name": "a"}]}),
        ({"s3.object.hasObjectAnnotation": True}, {"hasObjectAnnotation": True}),
        ({"objectAnnotationEventData": {"name": "a"}}, {"objectAnnotationEventData": {"name": "a"}}),
    ],
)
def test_blocks_are_found_in_every_place_they_stand(changes: dict[str, Any], extra: dict[str, Any]) -> None:
    """And have one place and one form afterwards."""
    text = event_of(record(changes)).extra

    assert text is not None
    assert json.loads(text) == extra


def test_what_a_topic_adds_is_kept_but_makes_no_other_event() -> None:
    """Ceph: two topics with their own `opaqueData` may tell of one change without sequencer."""
    plain = record({"s3.object.sequencer": ABSENT, "eventSource": "ceph:s3"})

    one, other = (event_of(message(plain | {"opaqueData": data})) for data in ("one", "other"))

    assert one.id == other.id == event_of(plain).id
    assert (one.extra, other.extra) == ('{"opaqueData":"one"}', '{"opaqueData":"other"}')
