"""Identifiers: 16 bytes inside, a prefix and 26 lower-case base32 characters outside.

How an event's or a delivery's id is derived stands in identity.py.
"""

import base64
from typing import Final, Literal, NewType

EventId = NewType("EventId", bytes)
EndpointId = NewType("EndpointId", bytes)
SubscriptionId = NewType("SubscriptionId", bytes)
SourceId = NewType("SourceId", bytes)
DeliveryKey = NewType("DeliveryKey", bytes)
QuarantineId = NewType("QuarantineId", bytes)
ReplayId = NewType("ReplayId", bytes)
ApiKeyId = NewType("ApiKeyId", bytes)
ReplicaId = NewType("ReplicaId", bytes)
LaneId = NewType("LaneId", int)
TenantId = NewType("TenantId", int)

DEFAULT_TENANT: Final = TenantId(1)

Prefix = Literal["evt", "ep", "sub", "src", "dlv", "qrn", "rpl", "key"]

ID_BYTES: Final = 16
TEXT_LENGTH: Final = 26
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS: Final = [first + second for first in _LETTERS for second in _LETTERS]
_SHIFTS: Final = range(120, -1, -10)


def public_id(prefix: Prefix, raw: bytes) -> str:
    """Show 16 bytes as `evt_` and 26 characters (RFC 4648 base32, lower case, no padding)."""
    # 128 bits and two of padding are 13 pairs of letters: a third of the time of base64.b32encode, on every delivery.
    number = int.from_bytes(raw, "big") << 2
    return f"{prefix}_{''.join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])}"


def parse_id(prefix: Prefix, text: str) -> bytes | None:
    """Read what public_id wrote; None for anything else, other prefixes and other spellings included."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != TEXT_LENGTH or not tail.isascii():
        return None
    try:
        raw = base64.b32decode(tail.upper() + "======")
    except ValueError:
        return None
    # The last character carries three spare bits: only the spelling that public_id writes is an id.
    return raw if public_id(prefix, raw) == text else None
