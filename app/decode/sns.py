"""The envelope of Amazon SNS around a message. With raw delivery there is none.

Signatures are not looked at here: what comes out of a queue was let in by the queue's own policy.
"""

from typing import Final

from app.decode.document import Document
from app.decode.undecodable import Undecodable, kind_of

NOTIFICATION: Final = "Notification"
_CONFIRMATIONS: Final = {
    "SubscriptionConfirmation": "is SNS's request to confirm a subscription, not an event",
    "UnsubscribeConfirmation": "is SNS's note that a subscription ended, not an event",
}


def is_envelope(document: Document) -> bool:
    """Tell whether a document is something SNS wrote."""
    kind = document.members.get("Type")
    return document.records is None and (kind == NOTIFICATION or (isinstance(kind, str) and kind in _CONFIRMATIONS))


def open_envelope(document: Document) -> str:
    """Give the message inside. Raises Undecodable."""
    kind = document.members["Type"]
    if kind != NOTIFICATION:
        raise Undecodable(_CONFIRMATIONS[str(kind)])
    message = document.members.get("Message")
    if not isinstance(message, str):
        raise Undecodable(f"is an SNS notification with {kind_of(message)} as its Message, so it holds no S3 records")
    return message
