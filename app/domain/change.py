"""From S3's event name to the kind of change it tells of.

Names: Amazon S3 user guide, "Supported event types", and those of MinIO, RustFS, Ceph RGW and versitygw.
"""

from typing import Final

from app.domain.event import Change

_EXACT: Final[dict[str, Change]] = {
    "ReducedRedundancyLostObject": "lost",
    "LifecycleTransition": "transitioned",
    "IntelligentTiering": "tiered",
    "ObjectRemoved:DeleteMarkerCreated": "marker_created",
    "LifecycleExpiration:DeleteMarkerCreated": "marker_created",
    "ObjectRestore:Post": "restore_started",
    "ObjectRestore:Completed": "restored",
    "ObjectRestore:Delete": "restore_expired",
    "ObjectTagging:Put": "tagged",
    "ObjectTagging:Delete": "untagged",
    "ObjectAcl:Put": "acl_changed",
    "ObjectAnnotation:Put": "annotated",
    "ObjectAnnotation:Delete": "annotation_removed",
    "ObjectRetention:Put": "retention_set",
    # MinIO files changes of metadata under ObjectCreated; they create nothing.
    "ObjectCreated:PutRetention": "retention_set",
    "ObjectCreated:PutLegalHold": "retention_set",
    "ObjectCreated:PutTagging": "tagged",
    "ObjectCreated:DeleteTagging": "untagged",
    # MinIO tells of a delete that found nothing, and of a marker that expired: no object went away.
    "ObjectRemoved:NoOP": "other",
    "LifecycleDelMarkerExpiration:Delete": "removed",
    "ObjectTransition:Complete": "transitioned",
    "ObjectTransition:Failed": "other",
    # Ceph RGW
    "ObjectSynced:Create": "created",
    "ObjectSynced:Delete": "removed",
    "ObjectSynced:DeletionMarkerCreated": "marker_created",
    "ObjectLifecycle:Expiration:DeleteMarker": "removed",
    "ObjectLifecycle:Expiration:AbortMultipartUpload": "other",
}
_FAMILIES: Final[tuple[tuple[str, Change], ...]] = (
    ("ObjectCreated:", "created"),
    ("ObjectRemoved:", "removed"),
    ("LifecycleExpiration:", "removed"),
    ("ObjectLifecycle:Expiration:", "removed"),
    ("ObjectLifecycle:Transition:", "transitioned"),
    ("Replication:", "replication"),
    ("ObjectAccessed:", "accessed"),
    # Amazon's own sample events put an action behind these two.
    ("LifecycleTransition:", "transitioned"),
    ("IntelligentTiering:", "tiered"),
)


def canonical_name(event_name: str) -> str:
    """S3's name without the `s3:` that MinIO and some samples put before it."""
    return event_name.removeprefix("s3:")


def change_of(event_name: str) -> Change:
    """Tell the kind of change; a name nobody knows is `other`, never an error."""
    name = canonical_name(event_name)
    if name in _EXACT:
        return _EXACT[name]
    return next((change for family, change in _FAMILIES if name.startswith(family)), "other")
