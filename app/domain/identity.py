"""Who is who: the id of an event, a hash of what S3 said and never of how it came; the key of a delivery.

A false match loses an event, a missed match only repeats it: where in doubt, more fields are hashed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, assert_never

from app.domain.configuration import Ordering
from app.domain.ids import ID_BYTES, DeliveryKey, EventId, ReplayId, SubscriptionId, TenantId

TRUSTED_SEQUENCER_DIGITS: Final = 16
# Where everything an endpoint is owed goes in one row.
ORDER_KEY_OF_ALL: Final = 0
# The same in every event of some writer, so they name no request: moto's EventBridge (taken from an example in Amazon's
# guide), LocalStack's EventBridge, the test event of Lambda's console and of `sam local generate-event`, and what Ceph
# RGW says for its own lifecycle and sync.
CONSTANT_REQUEST_IDS: Final = frozenset({"N4N7GDK58NMKJ12R", "RKREYG1RN2X92YX6", "EXAMPLE123456789", "0"})
# A delivery's key begins as its event's id does.
_SHARED_BYTES: Final = 4
_HEX: Final = frozenset("0123456789abcdefABCDEF")
_NANOSECOND_SOURCES: Final = frozenset({"minio:s3", "rustfs:s3"})
# Ceph writes the memory of (seconds, nanoseconds), two little-endian numbers of 32 bits, as hex.
_SWAPPED_SOURCES: Final = frozenset({"ceph:s3"})
_SWAPPED_DIGITS: Final = 16
_LATEST_SECONDS: Final = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a record says, as far as it tells one change from another. Absent is None; `time_text` as received.

    `envelope_id` is the id that EventBridge gave: the same for every rule and redelivery, but not S3's own.
    """

    tenant_id: TenantId
    event_source: str
    region: str | None
    bucket: str
    key: bytes
    version_id: str | None
    name: str
    time_text: str
    time: datetime
    sequencer: str | None
    etag: str | None
    size: int | None
    request_id: str | None
    host_id: str | None
    actor: str | None
    source_ip: str | None
    extra: str | None
    envelope_id: str | None = None


def identify(said: Said) -> tuple[EventId, date]:
    """Give the event's id and its own day.

    With a request id and a sequencer of at least 16 hex digits, the id takes no time (the EventBridge twin of a record
    has another precision) and begins with the sequencer's seconds; otherwise every field is hashed and the id begins
    with the time's. The prefix keeps neighbours in time together in the index.

    Replication events are always told apart by every field: one write that fails towards two destinations gives two of
    them with the same name, sequencer and request id, and EventBridge, for whose sake fields are left out, has none.
    """
    digits = trusted_sequencer(said.sequencer) if _names_a_request(said) else None
    if digits is not None:
        moment = _moment_of(digits, said.event_source)
        digest = _hash(
            (
                b"ev1s",
                said.tenant_id,
                said.bucket,
                said.key,
                said.version_id,
                said.name,
                digits,
                said.request_id,
            )
        )
    else:
        moment = said.time.astimezone(UTC)
        digest = _hash(
            (
                b"ev1f",
                said.tenant_id,
                said.event_source,
                said.region,
                said.bucket,
                said.key,
                said.version_id,
                said.name,
                said.time_text,
                said.sequencer.upper() if said.sequencer else None,
                said.etag,
                said.size,
                said.request_id,
                said.host_id,
                said.actor,
                said.source_ip,
                said.extra,
                # Added only where there is one, so that a record without an envelope keeps its id.
                *(() if said.envelope_id is None else (said.envelope_id,)),
            )
        )
    seconds = max(0, int(moment.timestamp())) & 0xFFFFFFFF
    return EventId(seconds.to_bytes(4, "big") + digest[:12]), moment.date()


def operator_event_id(tenant_id: TenantId, event_type: str, about: str, at: datetime) -> EventId:
    """Give the id of what the gateway tells of itself: one of a kind, a thing and a moment."""
    moment = at.astimezone(UTC)
    seconds = int(moment.timestamp()) & 0xFFFFFFFF
    digest = _hash((b"op1", tenant_id, event_type, about, moment.isoformat(timespec="microseconds")))
    return EventId(seconds.to_bytes(4, "big") + digest[:12])


def delivery_key(event_id: EventId, subscription_id: SubscriptionId) -> DeliveryKey:
    """Give the one key of event and subscription; it keeps the event's prefix, for the index's sake."""
    digest = _hash((b"dl1", event_id, subscription_id))
    return DeliveryKey(event_id[:_SHARED_BYTES] + digest[: ID_BYTES - _SHARED_BYTES])


def keys_of_event(event_id: bytes) -> tuple[bytes, bytes]:
    """Give the lowest and the highest key that a delivery of an event can have: few others lie between."""
    shared, free = event_id[:_SHARED_BYTES], ID_BYTES - _SHARED_BYTES
    return shared + b"\x00" * free, shared + b"\xff" * free


def replayed_key(key: DeliveryKey, replay_id: ReplayId) -> DeliveryKey:
    """Give the key of a delivery that a replay owes under a new one; the same for the same replay."""
    return DeliveryKey(key[:_SHARED_BYTES] + _hash((b"rp1", key, replay_id))[: ID_BYTES - _SHARED_BYTES])


def order_key(ordering: Ordering, bucket: str, key: bytes) -> int | None:
    """Give the number that deliveries of one lane share which must go one after the other; None where none must."""
    match ordering:
        case "none":
            return None
        case "key":
            return object_hash(bucket, key)
        case "endpoint":
            return ORDER_KEY_OF_ALL
        case _:
            assert_never(ordering)


def object_hash(bucket: str, key: bytes) -> int:
    """Give a signed 64-bit number of one object, by which deliveries of it find one another."""
    return int.from_bytes(_hash((b"ob1", bucket, key))[:8], "big", signed=True)


def trusted_sequencer(sequencer: str | None) -> str | None:
    """Give the digits of a sequencer that can tell changes apart, in one spelling; None for every other.

    Short ones are counters that begin again (versitygw), and what is not hexadecimal is nothing any store writes.
    """
    if sequencer is None or len(sequencer) < TRUSTED_SEQUENCER_DIGITS or not _HEX.issuperset(sequencer):
        return None
    return sequencer.upper().lstrip("0")


def _names_a_request(said: Said) -> bool:
    """Tell whether the request id tells changes apart, together with the sequencer."""
    if said.request_id is None or said.name.startswith("Replication:"):
        return False
    # With a constant one the sequencer is constant too. But a version is created only once, so its own id is enough.
    is_new_version = said.version_id is not None and said.name.startswith("ObjectCreated:")
    return said.request_id not in CONSTANT_REQUEST_IDS or is_new_version


def _moment_of(digits: str, event_source: str) -> datetime:
    """Read the time out of a sequencer.

    AWS counts seconds and a fraction of 32 bits, MinIO and RustFS nanoseconds, Ceph seconds with their bytes swapped.

    Undocumented, so it only places the event near its neighbours; that it is the same in every copy is what matters.
    """
    if event_source in _SWAPPED_SOURCES:
        seconds = int.from_bytes(bytes.fromhex(digits.zfill(_SWAPPED_DIGITS)[:8]), "little")
        return datetime.fromtimestamp(seconds, UTC)
    value = int(digits or "0", 16)
    seconds = value // 1_000_000_000 if event_source in _NANOSECOND_SOURCES else value >> 32
    return datetime.fromtimestamp(min(seconds, _LATEST_SECONDS), UTC)


def _hash(fields: Iterable[bytes | str | int | None]) -> bytes:
    """Hash fields with their lengths, so that no two rows of fields run into one another; None differs from empty."""
    digest = hashlib.sha256()
    for field in fields:
        if field is None:
            digest.update(b"\xff\xff\xff\xff")
            continue
        raw = field if isinstance(field, bytes) else str(field).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.digest()
