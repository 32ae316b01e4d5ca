"""Which of two events of one object came later, as far as their store lets it be told; where it does not, "unknown".

Only told, never guessed: a wrong "older" would make a receiver drop the newest state of an object.
Whose turn it is among many deliveries of one object is in turns.py.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from app.domain.event import Dialect, Event
from app.domain.identity import TRUSTED_SEQUENCER_DIGITS, trusted_sequencer

Order = Literal["newer", "older", "same", "unknown"]

# EventBridge passes on what Amazon S3 says, so the two count on one scale.
_AMAZON: Final[frozenset[Dialect]] = frozenset({"aws", "eventbridge"})
_NANOSECONDS: Final[frozenset[Dialect]] = frozenset({"minio", "rustfs"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# A place begins with its family; that alone is a place before all others of the family.
FAMILY_BYTES: Final = 1
# Numbers wider than this are nothing any store writes.
_NUMBER_DIGITS: Final = 64
# Added to a time, so that no number is negative: longer than from year 1 to 1970.
_TIME_SHIFT: Final = 1 << 62
_FAMILIES: Final[dict[tuple[Dialect, int], int]] = {
    ("aws", 1): 1,
    ("eventbridge", 1): 1,
    ("minio", 1): 2,
    ("minio", 2): 3,
    ("rustfs", 1): 4,
    ("rustfs", 2): 5,
    ("ceph", 2): 6,
}

# What an event is ordered by. Numbers in another count count different things.
_Numbers = tuple[int, ...]


def compare(one: Event, other: Event) -> Order:
    """Tell whether `one` is newer or older than `other`; "same" means that they are one event.

    Two events with the same place are "unknown", not "same": emulators give every event one sequencer, and one write
    that fails to replicate twice gives two events with one. Within a dialect, "newer" is antisymmetric and transitive.
    """
    if (one.bucket, one.key) != (other.bucket, other.key):
        return "unknown"
    if one.id == other.id:
        return "same"
    if one.dialect != other.dialect and not {one.dialect, other.dialect} <= _AMAZON:
        return "unknown"
    numbers, others = _numbers(one), _numbers(other)
    if numbers is None or others is None or len(numbers) != len(others) or numbers == others:
        return "unknown"
    return "newer" if numbers > others else "older"


def place_of(event: Event) -> bytes | None:
    """Give an event's place among those of its object, as bytes that a database sorts; None where it has none.

    The first byte is its family. Of two events of one object and one family, the smaller place is the older event's,
    as `compare` says; equal places and other families tell nothing.
    """
    numbers = _numbers(event)
    if numbers is None:
        return None
    return bytes([_FAMILIES[event.dialect, len(numbers)]]) + b"".join(map(_sortable, numbers))


def family_of(place: bytes) -> int:
    """Tell which places a place can be compared with: those of the same family."""
    return place[0]


def is_before(place: bytes | None, other: bytes | None) -> bool:
    """Tell whether a place is known to be the older of two places of one object."""
    return place is not None and other is not None and family_of(place) == family_of(other) and place < other


def _sortable(number: int) -> bytes:
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _numbers(event: Event) -> _Numbers | None:
    if event.dialect in _NANOSECONDS and event.version_id is None:
        # Measured on MinIO: of concurrent writes to one unversioned key, the last to stay has the latest time, and
        # often not the highest sequencer. With versions it is the other way round.
        return (_microseconds(event.time),)
    digits = trusted_sequencer(event.sequencer)
    if digits is None or len(digits) > _NUMBER_DIGITS:
        return None
    if event.dialect in _AMAZON:
        # As numbers: Amazon's guide pads with zeros, now on this side and now on that; EventBridge leaves them out.
        return (_number(digits),)
    if event.dialect in _NANOSECONDS:
        # What is done to a version later (tags, reading, a second delete) carries the sequencer of its creation.
        return _number(digits), _microseconds(event.time)
    if event.dialect == "ceph":
        return _swapped(digits)
    return None


def _swapped(digits: str) -> _Numbers | None:
    """Read what Ceph writes: the memory of seconds and nanoseconds, two little-endian numbers of 32 bits, as hex."""
    if len(digits) > TRUSTED_SEQUENCER_DIGITS:
        return None
    memory = bytes.fromhex(digits.zfill(TRUSTED_SEQUENCER_DIGITS))
    return int.from_bytes(memory[:4], "little"), int.from_bytes(memory[4:], "little")


def _number(digits: str) -> int:
    return int(digits or "0", 16)


def _microseconds(time: datetime) -> int:
    return _TIME_SHIFT + (time - _EPOCH) // timedelta(microseconds=1)
