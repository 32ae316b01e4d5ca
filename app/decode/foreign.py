"""What a message looks like when no format takes it, so that an operator knows what is wired to the wrong place."""

from app.decode.document import Document

# Members that together give a shape away, and its name.
_SHAPES = (
    ({"detail-type", "detail"}, "an EventBridge event"),
    ({"action", "bucket", "object"}, "a Cloudflare R2 notification"),
    ({"kind", "bucket", "selfLink"}, "a Google Cloud Storage notification"),
    ({"topic", "subject", "eventType"}, "an Azure Event Grid event"),
    ({"specversion", "type"}, "a CloudEvent"),
)


def description(document: Document) -> str:
    """Say in a predicate why there are no records in it."""
    for members, name in _SHAPES:
        if members <= document.members.keys():
            return f"looks like {name}, a format not read here, and holds no S3 records"
    return "holds no S3 records: it has no member Records"
