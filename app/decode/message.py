"""From a message's bytes to what it said: its pieces, SNS envelopes opened, formats found. Never raises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from app.decode import bare_record, eventbridge, foreign, r2, records, s3_test_event, sns
from app.decode.budget import Budget
from app.decode.document import Document, Piece, Unread
from app.decode.pieces import pieces_of_body, pieces_of_text, trimmed
from app.decode.undecodable import Undecodable, refusal, within
from app.domain.configuration import Profile
from app.domain.ids import TenantId
from app.domain.message import Decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A shape documents come in: how to know it, and how to read it (which may raise Undecodable)."""

    recognises: Callable[[Document], bool]
    decode: Callable[[Document, TenantId, Profile], Decoded]


# Known by content, never by configuration; the first that recognises a document reads it.
FORMATS: Final[Mapping[str, Format]] = {
    "records": Format(recognises=records.recognises, decode=records.decode),
    "EventBridge": Format(recognises=eventbridge.recognises, decode=eventbridge.decode),
    "R2": Format(recognises=r2.recognises, decode=r2.decode),
    "bare record": Format(recognises=bare_record.recognises, decode=bare_record.decode),
    "test event": Format(recognises=s3_test_event.recognises, decode=s3_test_event.decode),
}


REFUSALS_LIMIT: Final = 256
_INSIDE: Final = " in the SNS envelope"


def decode(body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:
    """Read a message: events, test events, or refusals with their reason and their bytes.

    A message may be one document, an array of them, or several one after another, such as one a line. Each stands
    alone: what cannot be read of one is refused with its own bytes. `profile` decides what the content leaves open.
    Never raises.
    """
    reader = _Reader(tenant_id, profile)
    decoded = _guarded("The message", body, partial(reader.body, body))
    if len(decoded.refusals) <= REFUSALS_LIMIT:
        return decoded
    # Kept once as a whole: thousands of rows would say no more. What is good in it is known when it is read again.
    problem = Undecodable(f"holds {len(decoded.refusals)} parts that cannot be read. {decoded.refusals[0].reason}")
    return replace(decoded, refusals=(refusal("The message", problem, body),))


class _Reader:
    """Reads one message."""

    def __init__(self, tenant_id: TenantId, profile: Profile) -> None:
        self._tenant_id = tenant_id
        self._profile = profile
        self._budget = Budget()

    def body(self, body: bytes) -> Decoded:
        """Read all of it. Raises Excessive."""
        pieces = pieces_of_body(body, self._budget)
        if len(pieces) > 1:
            return _joined(pieces, self._document, where="")
        # White space around the only document is kept with it; brackets of an array are not.
        raw = body if pieces[0].raw == trimmed(body) else pieces[0].raw
        return _one("The message", pieces[0], raw, self._document)

    def _document(self, document: Document, raw: bytes) -> Decoded:
        return self._envelope(document, raw) if sns.is_envelope(document) else self._plain(document, raw)

    def _envelope(self, envelope: Document, raw: bytes) -> Decoded:
        """Read what SNS put into an envelope; what is refused as a whole is refused with its envelope."""
        pieces = pieces_of_text(sns.open_envelope(envelope), self._budget)
        if len(pieces) > 1:
            return _joined(pieces, self._inside, where=_INSIDE)
        return _one(f"The message{_INSIDE}", pieces[0], raw, self._inside)

    def _inside(self, document: Document, raw: bytes) -> Decoded:
        if sns.is_envelope(document):
            raise Undecodable("is an SNS envelope again, so it holds no S3 records")
        return self._plain(document, raw)

    def _plain(self, document: Document, _raw: bytes) -> Decoded:
        for each in FORMATS.values():
            if each.recognises(document):
                return each.decode(document, self._tenant_id, self._profile)
        raise Undecodable(foreign.description(document))


_Read = Callable[[Document, bytes], Decoded]


def _joined(pieces: list[Piece], read: _Read, *, where: str) -> Decoded:
    """Read several pieces, each for itself, and say in each refusal which one it was."""
    everything = [
        _one(f"Document {number}{where}", piece, piece.raw, partial(_part, f"Document {number}{where}", read))
        for number, piece in enumerate(pieces, start=1)
    ]
    return Decoded(
        events=tuple(event for each in everything for event in each.events),
        refusals=tuple(refused for each in everything for refused in each.refusals),
        is_test_event=any(each.is_test_event for each in everything),
    )


def _part(subject: str, read: _Read, document: Document, raw: bytes) -> Decoded:
    decoded = read(document, raw)
    if not decoded.refusals:
        return decoded
    return replace(decoded, refusals=tuple(within(subject, each) for each in decoded.refusals))


def _one(subject: str, piece: Piece, raw: bytes, read: _Read) -> Decoded:
    if isinstance(piece, Unread):
        return _refused(subject, piece.problem, raw)
    return _guarded(subject, raw, partial(read, piece, raw))


def _guarded(subject: str, raw: bytes, read: Callable[[], Decoded]) -> Decoded:
    """Read something, or refuse it with its bytes, whatever happens."""
    try:
        return read()
    except Undecodable as problem:
        return _refused(subject, problem, raw)
    except Exception as error:  # noqa: BLE001 -- a message that raised would come again and raise again, for ever
        return _refused(subject, Undecodable(f"cannot be decoded: unforeseen {type(error).__name__}"), raw)


def _refused(subject: str, problem: Undecodable, raw: bytes) -> Decoded:
    return Decoded(refusals=(refusal(subject, problem, raw),))
