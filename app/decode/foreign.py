"""What a message looks like when no format takes it, so that an operator knows what is wired to the wrong place."""

from typing import Final

from app.decode.document import Document

_PARTIAL: Final = (
    "is only a part of an EventBridge event: the rule's target must pass the whole event on, without an input path or "
    "an input transformer"
)
# Members that together give a shape away, and what to say of it.
_SHAPES: Final = (
    ({"bucket", "object", "request-id"}, _PARTIAL),
    ({"bucket", "object", "requester"}, _PARTIAL),
    ({"bucket", "object", "reason"}, _PARTIAL),
    ({"detail"}, _PARTIAL),
    ({"kind", "bucket", "selfLink"}, "looks like a Google Cloud Storage notification, a format not read here"),
    ({"topic", "subject", "eventType"}, "looks like an Azure Event Grid event, a format not read here"),
    ({"specversion", "type"}, "looks like a CloudEvent, a format not read here"),
)


def description(document: Document) -> str:
    """Say in a predicate why there are no records in it."""
    for members, words in _SHAPES:
        if members <= document.members.keys():
            return words
    return "holds no S3 records: it has no member Records"
