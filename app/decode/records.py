"""S3's own format: `{"Records": [...]}` of any version, as S3, MinIO, RustFS, Ceph RGW and versitygw write it.

Unknown names, versions and members pass. Each record stands alone: a bad one is refused, its neighbours are kept.
"""

from typing import Final

from app.decode.canonical import etag_in, event_of, name_in, time_in, version_in
from app.decode.dialect import PLAIN_KEYS, dialect_of
from app.decode.document import RECORDS, Document, Element
from app.decode.object_key import object_key
from app.decode.own_block import block_text, blocks_of
from app.decode.part import Part
from app.decode.undecodable import Undecodable, kind_of, refusal
from app.domain.configuration import Profile
from app.domain.event import Dialect, Event
from app.domain.identity import Said
from app.domain.ids import TenantId
from app.domain.message import Decoded, Refusal

# Ceph: what a topic's owner wants to see again in each message, so it says nothing about the change.
_OF_THE_TOPIC: Final = frozenset({"opaqueData"})
# versitygw writes the size 0 where it does not know it, which is everywhere but here.
_SIZED_BY_VERSITYGW: Final = frozenset({"ObjectCreated:Put", "ObjectCreated:Post"})


def recognises(document: Document) -> bool:
    """Tell whether a document is of this format."""
    return document.records is not None or RECORDS in document.members


def decode(document: Document, tenant_id: TenantId, profile: Profile) -> Decoded:
    """Read every record; an empty array says nothing, so nothing is refused either. Raises Undecodable."""
    if document.records is None:
        raise Undecodable(f"has {kind_of(document.members[RECORDS])} as its Records, not an array")
    events: list[Event] = []
    refusals: list[Refusal] = []
    for number, element in enumerate(document.records, start=1):
        try:
            events.append(event_in(element, tenant_id, profile))
        except Undecodable as problem:
            refusals.append(refusal(f"Record {number}", problem, element.raw))
    return Decoded(events=tuple(events), refusals=tuple(refusals))


def event_in(element: Element, tenant_id: TenantId, profile: Profile) -> Event:
    """Read one record. Raises Undecodable."""
    if element.fault is not None:
        raise Undecodable(element.fault)
    if not isinstance(element.value, dict):
        raise Undecodable(f"is {kind_of(element.value)}, not an object")
    record = Part(element.value)
    dialect = dialect_of(record) if profile == "auto" else profile
    blocks = blocks_of(record, record_characters=len(element.text))
    extra = block_text(blocks, record_characters=len(element.text))
    if blocks.keys() & _OF_THE_TOPIC:
        change = {name: block for name, block in blocks.items() if name not in _OF_THE_TOPIC}
        told = block_text(change, record_characters=len(element.text))
    else:
        told = extra
    received_key, said = _said(record, tenant_id, dialect=dialect, extra=told)
    return event_of(said, received_key=received_key, dialect=dialect, extra=extra, text=element.text)


def _said(record: Part, tenant_id: TenantId, *, dialect: Dialect, extra: str | None) -> tuple[str, Said]:
    """Read a record into the key as received, and all that tells it from others."""
    time_text, time = time_in(record, "eventTime")
    name = name_in(record, "eventName")
    s3 = record.part("s3")
    bucket, thing = s3.part("bucket"), s3.part("object")
    identity, response = record.part("userIdentity"), record.part("responseElements")
    received_key = thing.required_text("key")
    return received_key, Said(
        tenant_id=tenant_id,
        event_source=record.text("eventSource") or "",
        region=record.text("awsRegion"),
        bucket=bucket.required_text("name"),
        key=object_key(received_key, is_plain=dialect in PLAIN_KEYS),
        version_id=version_in(thing, "versionId"),
        name=name,
        time_text=time_text,
        time=time,
        sequencer=thing.text("sequencer"),
        etag=etag_in(thing, "eTag"),
        size=_size(thing, dialect, name),
        request_id=response.text("x-amz-request-id"),
        host_id=response.text("x-amz-id-2"),
        actor=identity.text("principalId") or identity.text("PrincipalId"),
        source_ip=record.part("requestParameters").text("sourceIPAddress"),
        extra=extra,
    )


def _size(thing: Part, dialect: Dialect, name: str) -> int | None:
    size = thing.size("size")
    return None if size == 0 and dialect == "versitygw" and name not in _SIZED_BY_VERSITYGW else size
