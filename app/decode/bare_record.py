"""One S3 record without `Records` around it: in an array, on a line, or as the quarantine keeps a refused one."""

from typing import Final

from app.decode import records
from app.decode.document import Document
from app.domain.configuration import Profile
from app.domain.ids import TenantId
from app.domain.message import Decoded

_MARKS: Final = frozenset({"eventName", "eventTime", "eventSource", "s3"})
_MARKS_NEEDED: Final = 2


def recognises(document: Document) -> bool:
    """Tell whether a document is of this format. A record that lacks one of its marks is told what it lacks."""
    return len(_MARKS & document.members.keys()) >= _MARKS_NEEDED


def decode(document: Document, tenant_id: TenantId, profile: Profile) -> Decoded:
    """Read it. Raises Undecodable."""
    return Decoded(events=(records.event_in(document.element, tenant_id, profile),))
