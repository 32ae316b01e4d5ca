"""The blocks that only some EventBridge events carry, in the words that S3 records have for them."""

from typing import Any, Final

from app.decode.own_block import ANNOTATION, GLACIER, HAS_ANNOTATION, RESTORE, SYSTEM_TAGS
from app.decode.part import Part

_RETENTION: Final = "objectRetentionEventData"
_LONGEST_WORD: Final = 200
_RETENTION_PLAIN: Final = "object-retention-event-data"
# What every event has, and what is read one by one below.
_KNOWN: Final = frozenset(
    {
        "version",
        "event-version",
        "bucket",
        "object",
        "request-id",
        "requester",
        "source-ip-address",
        "reason",
        "deletion-type",
        "restore-expiry-time",
        "source-storage-class",
        "destination-storage-class",
        "destination-access-tier",
        "object-annotation",
        _RETENTION_PLAIN,
    }
)


def has_unknown(detail: Part) -> bool:
    """Tell whether there are members whose names are to be put into S3's words, of which there may be many."""
    return not detail.members.keys() <= _KNOWN or _RETENTION_PLAIN in detail.members


def blocks_of(detail: Part) -> dict[str, Any]:
    """Give the blocks; members nobody knows are kept, named the way S3 names. Raises Undecodable."""
    blocks = {_word(name): value for name, value in detail.members.items() if name not in _KNOWN}
    restore = {
        "lifecycleRestorationExpiryTime": detail.text("restore-expiry-time"),
        "lifecycleRestoreStorageClass": detail.text("source-storage-class"),
    }
    blocks |= {
        GLACIER: {RESTORE: {name: text for name, text in restore.items() if text is not None}},
        "lifecycleEventData": {
            "transitionEventData": {"destinationStorageClass": detail.text("destination-storage-class")}
        },
        "intelligentTieringEventData": {"destinationAccessTier": detail.text("destination-access-tier")},
        ANNOTATION: _annotations(detail.members.get("object-annotation")),
        _RETENTION: _renamed(detail.members.get(_RETENTION_PLAIN)),
        SYSTEM_TAGS: detail.part("bucket").members.get("aws-generated-tags"),
        HAS_ANNOTATION: detail.part("object").members.get("has-object-annotation"),
    }
    return blocks


def _annotations(said: Any) -> Any:
    """Give annotations as records do: in an array, and `eTag`."""
    every = said if isinstance(said, list) else [said]
    return [
        {"eTag" if name == "etag" else name: value for name, value in each.items()} if isinstance(each, dict) else each
        for each in every
    ]


def _renamed(said: Any) -> Any:
    return {_word(name): value for name, value in said.items()} if isinstance(said, dict) else said


def _word(name: str) -> str:
    if len(name) > _LONGEST_WORD:
        return name
    first, *others = name.split("-")
    return first + "".join(each[:1].upper() + each[1:] for each in others)
