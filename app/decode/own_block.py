"""The blocks that only some kinds of event carry (`glacierEventData`, `replicationEventData`, ...), kept as JSON text.

Blocks are known by not being one of the members every record has, so those of tomorrow are kept too. A block that says
nothing (versitygw puts an empty `glacierEventData` into every record) is none.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from app.decode.part import Part, unstorable
from app.decode.undecodable import Undecodable

CHARACTERS_LIMIT: Final = 65_536
RECORD_CHARACTERS_LIMIT: Final = 4 * CHARACTERS_LIMIT
DEPTH_LIMIT: Final = 32

GLACIER: Final = "glacierEventData"
RESTORE: Final = "restoreEventData"
ANNOTATION: Final = "objectAnnotation"
HAS_ANNOTATION: Final = "hasObjectAnnotation"
SYSTEM_TAGS: Final = "awsGeneratedTags"
_OF_AN_EVENT: Final = "EventData"

_EVERY_RECORD: Final = frozenset(
    {
        "eventVersion",
        "eventSource",
        "awsRegion",
        "eventTime",
        "eventName",
        "userIdentity",
        "requestParameters",
        "responseElements",
        "s3",
        "source",  # MinIO: the client's host and user agent, on every event
    }
)


def blocks_of(record: Part, *, record_characters: int) -> dict[str, Any]:
    """Give the blocks of an S3 record, also those that stand inside `s3`. Raises Undecodable."""
    members = record.members
    blocks: dict[str, Any] = {}
    if not members.keys() <= _EVERY_RECORD:
        check_characters(record_characters)
        blocks = {name: value for name, value in members.items() if name not in _EVERY_RECORD}
    s3 = record.part("s3")
    bucket, thing = s3.part("bucket").members, s3.part("object").members
    if SYSTEM_TAGS in bucket:
        blocks[SYSTEM_TAGS] = bucket[SYSTEM_TAGS]
    if HAS_ANNOTATION in thing:
        blocks[HAS_ANNOTATION] = thing[HAS_ANNOTATION]
    blocks |= {name: value for name, value in s3.members.items() if name.endswith(_OF_AN_EVENT)}
    for place in (s3.members, thing):
        if ANNOTATION in place:
            blocks.setdefault(ANNOTATION, place[ANNOTATION])
    if isinstance(blocks.get(ANNOTATION), dict):
        blocks[ANNOTATION] = [blocks[ANNOTATION]]
    if RESTORE in blocks:  # where Amazon's own sample for Lambda has it
        blocks.setdefault(GLACIER, {RESTORE: blocks[RESTORE]})
        del blocks[RESTORE]
    return blocks


def check_characters(record_characters: int) -> None:
    """Refuse a record too long for one that has blocks. Raises Undecodable."""
    if record_characters > RECORD_CHARACTERS_LIMIT:
        raise Undecodable(f"has a block of its own among more than {RECORD_CHARACTERS_LIMIT} characters")


def block_text(blocks: Mapping[str, Any], *, record_characters: int) -> str | None:
    """Give blocks as compact JSON, in the order of their names, None when they say nothing.

    Raises Undecodable for what other JSON readers or a database would refuse later.
    """
    if not blocks:
        return None
    check_characters(record_characters)
    telling = {name: blocks[name] for name in sorted(blocks) if _tells(blocks[name])}
    if not telling:
        return None
    try:
        text = json.dumps(telling, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise Undecodable("has a block of its own with a number too large") from error
    if len(text) > CHARACTERS_LIMIT:
        raise Undecodable(f"has a block of its own with more than {CHARACTERS_LIMIT} characters")
    problem = unstorable(text)
    if problem:
        raise Undecodable(f"has {problem} in a block of its own")
    return text


def _tells(block: object) -> bool:
    """Tell whether anything but absence is in a block; refuse depths and numbers that JSON readers differ on.

    Level by level, so that depth costs no stack. Raises Undecodable.
    """
    tells = False
    level: list[Any] = [block]
    for _ in range(DEPTH_LIMIT):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
            elif each is not None and each != "":
                tells = True
                if isinstance(each, int) and not -(2**63) <= each < 2**64:
                    raise Undecodable("has a number of more than 64 bits in a block of its own")
        if not below:
            return tells
        level = below
    raise Undecodable(f"has a block of its own nested more than {DEPTH_LIMIT} deep")
