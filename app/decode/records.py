"""S3's own format: `{"Records": [...]}` of any version, as S3, MinIO, RustFS, Ceph RGW and versitygw write it.

Unknown names, versions and members pass. Each record stands alone: a bad one is refused, its neighbours are kept.
"""

from datetime import UTC, datetime
from typing import Final

from app.decode.dialect import PLAIN_KEYS, dialect_of
from app.decode.document import RECORDS, Document, Element
from app.decode.object_key import object_key
from app.decode.own_block import own_block
from app.decode.part import Part
from app.decode.undecodable import Undecodable, kind_of, refusal, shown
from app.domain.change import canonical_name, change_of
from app.domain.configuration import Profile
from app.domain.event import Dialect, Event
from app.domain.identity import Said, identify
from app.domain.ids import TenantId
from app.domain.message import Decoded, Refusal

NAME_LIMIT: Final = 200
# Programs write the year 1 or 9999 for "no time"; databases and their drivers take those for infinity.
EARLIEST_YEAR: Final = 1900
LATEST_YEAR: Final = 9998


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
            events.append(_event(element, tenant_id, profile))
        except Undecodable as problem:
            refusals.append(refusal(f"Record {number}", problem, element.raw))
    return Decoded(events=tuple(events), refusals=tuple(refusals))


def _event(element: Element, tenant_id: TenantId, profile: Profile) -> Event:
    if element.fault is not None:
        raise Undecodable(element.fault)
    if not isinstance(element.value, dict):
        raise Undecodable(f"is {kind_of(element.value)}, not an object")
    record = Part(element.value)
    dialect = dialect_of(record) if profile == "auto" else profile
    received_key, said = _said(record, tenant_id, dialect=dialect, record_characters=len(element.text))
    event_id, day = identify(said)
    return Event(
        id=event_id,
        day=day,
        type=f"s3:{said.name}",
        change=change_of(said.name),
        bucket=said.bucket,
        key=said.key,
        received_key=received_key,
        version_id=said.version_id,
        size=said.size,
        etag=said.etag,
        sequencer=said.sequencer,
        time=said.time,
        region=said.region,
        actor=said.actor,
        source_ip=said.source_ip,
        request_id=said.request_id,
        host_id=said.host_id,
        extra=said.extra,
        dialect=dialect,
        record=_storable_bytes(element),
    )


def _said(record: Part, tenant_id: TenantId, *, dialect: Dialect, record_characters: int) -> tuple[str, Said]:
    """Read a record into the key as received, and all that tells it from others."""
    event_source = record.text("eventSource") or ""
    time_text = record.required_text("eventTime")
    name = _name(record)
    s3 = record.part("s3")
    bucket, thing = s3.part("bucket"), s3.part("object")
    identity, response = record.part("userIdentity"), record.part("responseElements")
    received_key = thing.required_text("key")
    return received_key, Said(
        tenant_id=tenant_id,
        event_source=event_source,
        region=record.text("awsRegion"),
        bucket=bucket.required_text("name"),
        key=_key(received_key, is_plain=dialect in PLAIN_KEYS),
        version_id=_version_id(thing),
        name=name,
        time_text=time_text,
        time=_moment(time_text),
        sequencer=thing.text("sequencer"),
        etag=(thing.text("eTag") or "").strip('"') or None,
        size=thing.size("size"),
        request_id=response.text("x-amz-request-id"),
        host_id=response.text("x-amz-id-2"),
        actor=_actor(identity),
        source_ip=record.part("requestParameters").text("sourceIPAddress"),
        extra=own_block(record.members, record_characters=record_characters),
    )


def _name(record: Part) -> str:
    name = canonical_name(record.required_text("eventName"))
    # Names go into headers and topics of others: a name may be new, but not a line break.
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise Undecodable(f"gives the eventName {shown(name)}, which is no name")
    return name


def _key(received: str, *, is_plain: bool) -> bytes:
    key = object_key(received, is_plain=is_plain)
    if b"\0" in key:
        raise Undecodable("has a NUL in s3.object.key")
    return key


def _version_id(thing: Part) -> str | None:
    # MinIO writes the text "null" while versioning is suspended, Ceph an empty one, S3 nothing at all.
    version_id = thing.text("versionId")
    return None if version_id == "null" else version_id


def _actor(identity: Part) -> str | None:
    return identity.text("principalId") or identity.text("PrincipalId")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.upper())
        # A time without an offset is UTC: S3 knows no other.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"gives the eventTime {shown(text)}, which is not an ISO 8601 time") from error
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise Undecodable(f"gives the eventTime {shown(text)}, which is no time an object store was there")
    return moment


def _storable_bytes(element: Element) -> bytes:
    try:
        return element.text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Undecodable("has half of a surrogate pair in its text") from error
