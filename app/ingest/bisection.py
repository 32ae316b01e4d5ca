"""When the database refuses a batch: find what it refuses, quarantine that alone, and record the rest."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.domain.errors import StoreRefused
from app.domain.message import NOTHING, Decoded, Heard, Recorded, Refusal

Record = Callable[[Sequence[Heard]], Awaitable[Recorded]]
Hopeless = list[tuple[Heard, StoreRefused]]


async def record_good(record: Record, batch: Sequence[Heard]) -> tuple[Recorded, Hopeless]:
    """Record a batch, and give what it became beside the messages that cannot even be quarantined.

    Each call of `record` is a transaction of its own: the good ones of a refused batch commit in several.
    Raises what `record` raises, StoreRefused excepted.
    """
    try:
        return await record(batch), []
    except StoreRefused as refused:
        if len(batch) == 1:
            return await _record_pieces(record, batch[0], refused)
    return await _record_halves(record, batch)


async def _record_halves(record: Record, batch: Sequence[Heard]) -> tuple[Recorded, Hopeless]:
    middle = len(batch) // 2
    first, lost = await record_good(record, batch[:middle])
    second, also_lost = await record_good(record, batch[middle:])
    return first + second, lost + also_lost


async def _record_pieces(record: Record, heard: Heard, refused: StoreRefused) -> tuple[Recorded, Hopeless]:
    """Record one refused message piece by piece: record by record, and the refused one as a refusal."""
    decoded = heard.decoded
    if len(decoded.events) + len(decoded.refusals) > 1:
        recorded, lost = await _record_halves(record, _split(heard))
        return recorded, [(heard, error) for _, error in lost[:1]]
    if not decoded.events and not decoded.refusals:
        return NOTHING, [(heard, refused)]
    try:
        return await record([replace(heard, decoded=_quarantined(decoded, refused))]), []
    except StoreRefused as error:
        return NOTHING, [(heard, error)]


def _split(heard: Heard) -> list[Heard]:
    pieces = [
        *(Decoded(events=(event,)) for event in heard.decoded.events),
        *(Decoded(refusals=(refusal,)) for refusal in heard.decoded.refusals),
    ]
    return [replace(heard, decoded=piece) for piece in pieces]


def _quarantined(decoded: Decoded, refused: StoreRefused) -> Decoded:
    """Turn the one event, or the one refusal whose words were refused, into a refusal nothing can be said against."""
    if decoded.events:
        reason, raw = f"The database refused this record: {refused}", decoded.events[0].record
    else:
        reason, raw = decoded.refusals[0].reason, decoded.refusals[0].raw
    plain = reason.encode("ascii", "backslashreplace").decode("ascii").replace("\0", "\\x00")
    return Decoded(refusals=(Refusal(reason=plain, raw=raw),))
