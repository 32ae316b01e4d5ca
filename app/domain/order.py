"""Which of two events of one object came later, as far as their store lets it be told; where it does not, "unknown".

Only told, never guessed: a wrong "older" would make a receiver drop the newest state of an object.
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

# What an event is ordered by. Places of different length count different things.
_Place = tuple[int, ...]


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
    place, other_place = _place(one), _place(other)
    if place is None or other_place is None or len(place) != len(other_place) or place == other_place:
        return "unknown"
    return "newer" if place > other_place else "older"


def _place(event: Event) -> _Place | None:
    if event.dialect in _NANOSECONDS and event.version_id is None:
        # Measured on MinIO: of concurrent writes to one unversioned key, the last to stay has the latest time, and
        # often not the highest sequencer. With versions it is the other way round.
        return (_microseconds(event.time),)
    digits = trusted_sequencer(event.sequencer)
    if digits is None:
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


def _swapped(digits: str) -> _Place | None:
    """Read what Ceph writes: the memory of seconds and nanoseconds, two little-endian numbers of 32 bits, as hex."""
    if len(digits) > TRUSTED_SEQUENCER_DIGITS:
        return None
    memory = bytes.fromhex(digits.zfill(TRUSTED_SEQUENCER_DIGITS))
    return int.from_bytes(memory[:4], "little"), int.from_bytes(memory[4:], "little")


def _number(digits: str) -> int:
    return int(digits or "0", 16)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
