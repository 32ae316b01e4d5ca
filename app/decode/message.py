"""From a message's bytes to what it said: opens an SNS envelope, finds the format, and never raises."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from app.decode import foreign, records, s3_test_event, sns
from app.decode.document import Document, read, text_of
from app.decode.undecodable import Undecodable, refusal
from app.domain.configuration import Profile
from app.domain.ids import TenantId
from app.domain.message import Decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A shape messages come in: how to know it, and how to read it (which may raise Undecodable)."""

    recognises: Callable[[Document], bool]
    decode: Callable[[Document, TenantId, Profile], Decoded]


# Known by content, never by configuration; the first that recognises a document reads it.
FORMATS: Final[Mapping[str, Format]] = {
    "records": Format(recognises=records.recognises, decode=records.decode),
    "test event": Format(recognises=s3_test_event.recognises, decode=s3_test_event.decode),
}


def decode(body: bytes, *, tenant_id: TenantId, profile: Profile = "auto") -> Decoded:
    """Read a message: events, a test event, or refusals with their reason and their bytes.

    A record that cannot be read is refused with its own bytes, anything else with the whole body. `profile` decides
    what the content leaves open. Never raises.
    """
    try:
        return _decode(body, tenant_id, profile)
    except Undecodable as problem:
        return _refused("The message", problem, body)
    except Exception as error:  # noqa: BLE001 -- a message that raised would come again and raise again, for ever
        return _refused("The message", Undecodable(f"cannot be decoded: unforeseen {type(error).__name__}"), body)


def _decode(body: bytes, tenant_id: TenantId, profile: Profile) -> Decoded:
    document = read(text_of(body))
    if not sns.is_envelope(document):
        return _decode_document(document, tenant_id, profile)
    message = sns.open_envelope(document)
    try:
        return _decode_document(sns.read_inside(message), tenant_id, profile)
    except Undecodable as problem:
        return _refused("The message in the SNS envelope", problem, body)


def _decode_document(document: Document, tenant_id: TenantId, profile: Profile) -> Decoded:
    for each in FORMATS.values():
        if each.recognises(document):
            return each.decode(document, tenant_id, profile)
    raise Undecodable(foreign.description(document))


def _refused(subject: str, problem: Undecodable, body: bytes) -> Decoded:
    return Decoded(refusals=(refusal(subject, problem, body),))
