"""S3's test message, sent when a notification configuration is saved: a sign of life, not an event."""

from typing import Final

from app.decode.document import Document
from app.domain.configuration import Profile
from app.domain.ids import TenantId
from app.domain.message import Decoded

NAME: Final = "s3:TestEvent"


def recognises(document: Document) -> bool:
    """Tell whether a document is of this format; only the name is in every store's version of it."""
    return document.members.get("Event") == NAME


def decode(_document: Document, _tenant_id: TenantId, _profile: Profile) -> Decoded:
    """Say that it is one."""
    return Decoded(is_test_event=True)
