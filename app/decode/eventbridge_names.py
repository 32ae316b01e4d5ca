"""S3's name for what an EventBridge event tells: from its detail-type, reason and deletion-type.

Amazon S3 user guide, "Amazon EventBridge mapping and troubleshooting" and "EventBridge event message structure".
"""

from typing import Final

from app.decode.canonical import checked_name
from app.decode.part import Part

_NAMES: Final = {
    "Object Restore Initiated": "ObjectRestore:Post",
    "Object Restore Completed": "ObjectRestore:Completed",
    "Object Restore Expired": "ObjectRestore:Delete",
    "Object Storage Class Changed": "LifecycleTransition",
    "Object Access Tier Changed": "IntelligentTiering",
    "Object ACL Updated": "ObjectAcl:Put",
    "Object Tags Added": "ObjectTagging:Put",
    "Object Tags Deleted": "ObjectTagging:Delete",
    "Object Annotation Created": "ObjectAnnotation:Put",
    "Object Annotation Removed": "ObjectAnnotation:Delete",
    # Not in the guide yet; what emulators of S3 send.
    "Object Retention Updated": "ObjectRetention:Put",
}
_CREATIONS: Final = {
    "PutObject": "Put",
    "POST Object": "Post",
    "CopyObject": "Copy",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
}
_DELETIONS: Final = {"Permanently Deleted": "Delete", "Delete Marker Created": "DeleteMarkerCreated"}
# Where S3 does not say how. A name of S3's would claim what was not said, and a family's wildcard must still take it.
_UNTOLD: Final = "Unknown"


def name_of(detail_type: str, detail: Part) -> str:
    """Give the name, without `s3:`. What is not known passes as it is, but without blanks. Raises Undecodable."""
    reason, deletion = detail.text("reason"), detail.text("deletion-type")
    if detail_type == "Object Created":
        # moto gives the family for a reason, which says no more.
        name = f"ObjectCreated:{_told(_CREATIONS, None if reason == 'ObjectCreated' else reason)}"
    elif detail_type == "Object Deleted":
        family = "LifecycleExpiration" if reason == "Lifecycle Expiration" else "ObjectRemoved"
        name = f"{family}:{_told(_DELETIONS, deletion)}"
    else:
        name = _NAMES.get(detail_type) or detail_type.replace(" ", "")
    return checked_name(name, "detail-type")


def _told(known: dict[str, str], said: str | None) -> str:
    return _UNTOLD if said is None else known.get(said) or said.replace(" ", "")
