"""S3's events as Amazon EventBridge hands them on: the whole event, whose `detail` says what a record says.

Keys are plain. Names of detail-types are in eventbridge_names.py, blocks in eventbridge_blocks.py.
"""

from typing import Final

from app.decode.canonical import etag_in, event_of, time_in, version_in
from app.decode.document import Document
from app.decode.eventbridge_blocks import blocks_of, has_unknown
from app.decode.eventbridge_names import name_of
from app.decode.object_key import object_key
from app.decode.own_block import block_text, check_characters
from app.decode.part import Part
from app.decode.undecodable import Undecodable, shown
from app.domain.configuration import Profile
from app.domain.identity import Said
from app.domain.ids import TenantId
from app.domain.message import Decoded

SOURCE: Final = "aws.s3"
_TYPE: Final = "detail-type"
_CLOUDTRAIL: Final = " via CloudTrail"


def recognises(document: Document) -> bool:
    """Tell whether a document is of this format."""
    return {_TYPE, "detail"} <= document.members.keys()


def decode(document: Document, tenant_id: TenantId, _profile: Profile) -> Decoded:
    """Read it. Raises Undecodable."""
    event = Part(document.members)
    _check_origin(event)
    detail = event.part("detail")
    if has_unknown(detail):
        check_characters(len(document.text))
    blocks = blocks_of(detail)
    extra = block_text(blocks, record_characters=len(document.text))
    received_key, said = _said(event, detail, tenant_id, extra=extra)
    made = event_of(said, received_key=received_key, dialect="eventbridge", extra=extra, text=document.text)
    return Decoded(events=(made,))


def _check_origin(event: Part) -> None:
    source = event.text("source")
    if source != SOURCE:
        of = "without a source" if source is None else f"of {shown(source)}"
        raise Undecodable(f"is an EventBridge event {of}, not of {SOURCE}")
    if event.required_text(_TYPE).endswith(_CLOUDTRAIL):
        raise Undecodable(
            "is CloudTrail's note of an API call, not an event of S3: the rule must match S3's own detail-types"
        )


def _said(event: Part, detail: Part, tenant_id: TenantId, *, extra: str | None) -> tuple[str, Said]:
    thing = detail.part("object")
    time_text, time = time_in(event, "time")
    received_key = thing.required_text("key")
    return received_key, Said(
        tenant_id=tenant_id,
        # The store is the one whose records say this.
        event_source="aws:s3",
        region=event.text("region"),
        bucket=detail.part("bucket").required_text("name"),
        key=object_key(received_key, is_plain=True),
        version_id=version_in(thing, "version-id"),
        name=name_of(event.required_text(_TYPE), detail),
        time_text=time_text,
        time=time,
        sequencer=thing.text("sequencer"),
        # moto spells it as records do.
        etag=etag_in(thing, "etag") or etag_in(thing, "eTag"),
        size=thing.size("size"),
        request_id=detail.text("request-id"),
        host_id=None,
        actor=detail.text("requester"),
        source_ip=detail.text("source-ip-address"),
        extra=extra,
        envelope_id=event.text("id"),
    )
