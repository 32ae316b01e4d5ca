"""What all formats have in common: texts that become names, times, keys and versions, and the event made of them."""

from datetime import UTC, datetime
from typing import Final

from app.decode.part import Part
from app.decode.undecodable import Undecodable, shown
from app.domain.change import canonical_name, change_of
from app.domain.event import Dialect, Event
from app.domain.identity import Said, identify

NAME_LIMIT: Final = 200
# Programs write the year 1 or 9999 for "no time"; databases and their drivers take those for infinity.
EARLIEST_YEAR: Final = 1900
LATEST_YEAR: Final = 9998


def event_of(said: Said, *, received_key: str, dialect: Dialect, extra: str | None, text: str) -> Event:
    """Make the event of what was said; `text` is the record as it came. Raises Undecodable."""
    record = _bytes_of(text)
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
        extra=extra,
        dialect=dialect,
        record=record,
    )


def name_in(part: Part, member: str) -> str:
    """Read S3's name of an event, without `s3:`. Raises Undecodable."""
    return checked_name(canonical_name(part.required_text(member)), member)


def checked_name(name: str, member: str) -> str:
    """Give a name that may be one: a new name passes, a line break does not. Raises Undecodable."""
    # Names go into headers and topics of others.
    if not name or len(name) > NAME_LIMIT or not name.isprintable():
        raise Undecodable(f"gives the {member} {shown(name)}, which is no name")
    return name


def time_in(part: Part, member: str) -> tuple[str, datetime]:
    """Read a time: as received, and as an instant in UTC. Raises Undecodable."""
    text = part.required_text(member)
    try:
        moment = datetime.fromisoformat(text.upper())
        # A time without an offset is UTC: S3 knows no other.
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Undecodable(f"gives the {member} {shown(text)}, which is not an ISO 8601 time") from error
    if not EARLIEST_YEAR <= moment.year <= LATEST_YEAR:
        raise Undecodable(f"gives the {member} {shown(text)}, which is no time an object store was there")
    return text, moment


def version_in(thing: Part, member: str) -> str | None:
    """Read a version id. MinIO writes the text "null" while versioning is suspended, Ceph an empty one, S3 nothing."""
    version_id = thing.text(member)
    return None if version_id == "null" else version_id


def etag_in(thing: Part, member: str) -> str | None:
    """Read an entity tag without the quotes that versitygw leaves around it."""
    return (thing.text(member) or "").strip('"') or None


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise Undecodable("has half of a surrogate pair in its text") from error
