"""An object's key: from the text a record gives to the bytes that S3 stores. Decoded once, or not at all.

S3, MinIO and RustFS write keys as HTML forms do; Ceph RGW and versitygw write them plainly, where decoding would spoil
every `+` and `%`. Text decoding would fold different invalid bytes into one character: hence bytes.
"""

from typing import Final
from urllib.parse import unquote_to_bytes

from app.decode.part import Part

_PLAIN_SOURCES: Final = frozenset({"ceph:s3"})


def object_key(received: str, *, is_plain: bool) -> bytes:
    """Give the key's bytes. A `%` that begins no escape stands for itself."""
    return received.encode("utf-8") if is_plain else unquote_to_bytes(received.replace("+", " "))


def writes_plain_keys(event_source: str, *, identity: Part, bucket: Part) -> bool:
    """Tell whether a record's writer leaves keys as they are.

    versitygw says it is `aws:s3`, but puts the object into the bucket's arn and spells `PrincipalId` its own way.
    """
    if event_source in _PLAIN_SOURCES or "PrincipalId" in identity.members:
        return True
    arn = bucket.members.get("arn")
    return isinstance(arn, str) and "/" in arn
