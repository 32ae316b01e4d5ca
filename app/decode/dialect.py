"""Which store wrote an S3 record, told by the record itself. Says how its key is spelled and its sequencer compares."""

from typing import Final

from app.decode.part import Part
from app.domain.event import Dialect

# Ceph RGW and versitygw write keys plainly; all others write them as HTML forms do.
PLAIN_KEYS: Final[frozenset[Dialect]] = frozenset({"ceph", "versitygw"})

_BY_EVENT_SOURCE: Final[dict[str, Dialect]] = {
    "aws:s3": "aws",
    "minio:s3": "minio",
    "rustfs:s3": "rustfs",
    "ceph:s3": "ceph",
}


def dialect_of(record: Part) -> Dialect:
    """Tell who wrote a record. Raises Undecodable for parts of a wrong type."""
    dialect = _BY_EVENT_SOURCE.get(record.text("eventSource") or "", "other")
    return "versitygw" if dialect in ("aws", "other") and _is_versitygw(record) else dialect


def _is_versitygw(record: Part) -> bool:
    """Tell by its marks, for it says it is `aws:s3`: its own `PrincipalId`, the object in the arn of the bucket."""
    if "PrincipalId" in record.part("userIdentity").members:
        return True
    arn = record.part("s3").part("bucket").members.get("arn")
    return isinstance(arn, str) and arn.startswith("arn:aws:s3:::") and "/" in arn
