"""An object's key: from the text a record gives to the bytes that S3 stores. Decoded once, or not at all.

S3, MinIO and RustFS write keys as HTML forms do. Ceph RGW, versitygw, EventBridge and R2 write them plainly, where
decoding would spoil every `+` and `%`. Text would fold different invalid bytes into one character: hence bytes.
"""

from urllib.parse import unquote_to_bytes

from app.decode.undecodable import Undecodable


def object_key(received: str, *, is_plain: bool) -> bytes:
    """Give the key's bytes. A `%` that begins no escape stands for itself. Raises Undecodable for a NUL."""
    key = received.encode("utf-8") if is_plain else unquote_to_bytes(received.replace("+", " "))
    if b"\0" in key:
        raise Undecodable("has a NUL in s3.object.key")
    return key
