"""Notifications of Cloudflare R2: an object with an `action`. Keys are plain; sequencers and request ids are absent."""

from typing import Final

from app.decode.canonical import checked_name, etag_in, event_of, time_in
from app.decode.document import Document
from app.decode.object_key import object_key
from app.decode.own_block import block_text
from app.decode.part import Part
from app.domain.configuration import Profile
from app.domain.identity import Said
from app.domain.ids import TenantId
from app.domain.message import Decoded

_NAMES: Final = {
    "PutObject": "ObjectCreated:Put",
    "CopyObject": "ObjectCreated:Copy",
    "CompleteMultipartUpload": "ObjectCreated:CompleteMultipartUpload",
    "DeleteObject": "ObjectRemoved:Delete",
    "LifecycleDeletion": "LifecycleExpiration:Delete",
}
_EVERY_NOTIFICATION: Final = frozenset({"account", "action", "bucket", "object", "eventTime"})


def recognises(document: Document) -> bool:
    """Tell whether a document is of this format."""
    return {"action", "bucket", "object"} <= document.members.keys()


def decode(document: Document, tenant_id: TenantId, _profile: Profile) -> Decoded:
    """Read it; an action that is not known is its own name. Raises Undecodable."""
    notification = Part(document.members)
    thing = notification.part("object")
    action = notification.required_text("action")
    time_text, time = time_in(notification, "eventTime")
    received_key = thing.required_text("key")
    blocks = {name: value for name, value in document.members.items() if name not in _EVERY_NOTIFICATION}
    extra = block_text(blocks, record_characters=len(document.text))
    said = Said(
        tenant_id=tenant_id,
        # Two accounts may have a bucket of one name.
        event_source=f"r2:s3:{notification.text('account') or ''}",
        region=None,
        bucket=notification.required_text("bucket"),
        key=object_key(received_key, is_plain=True),
        version_id=None,
        name=_NAMES.get(action) or checked_name(action, "action"),
        time_text=time_text,
        time=time,
        sequencer=None,
        etag=etag_in(thing, "eTag"),
        size=thing.size("size"),
        request_id=None,
        host_id=None,
        actor=None,
        source_ip=None,
        extra=extra,
    )
    event = event_of(said, received_key=received_key, dialect="r2", extra=extra, text=document.text)
    return Decoded(events=(event,))
