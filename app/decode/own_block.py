"""The block that only some kinds of event carry (`glacierEventData`, `replicationEventData`, ...), kept as JSON text.

Blocks are known by not being one of the members every record has, so those of tomorrow are kept too.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from app.decode.part import unstorable
from app.decode.undecodable import Undecodable

CHARACTERS_LIMIT: Final = 65_536
RECORD_CHARACTERS_LIMIT: Final = 4 * CHARACTERS_LIMIT
DEPTH_LIMIT: Final = 32

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


def own_block(record: Mapping[str, Any], *, record_characters: int) -> str | None:
    """Give the blocks of a record as compact JSON, None when it has none.

    Raises Undecodable for what other JSON readers or a database would refuse later.
    """
    if record.keys() <= _EVERY_RECORD:
        return None
    blocks = {name: value for name, value in record.items() if name not in _EVERY_RECORD and isinstance(value, dict)}
    if not blocks:
        return None
    if record_characters > RECORD_CHARACTERS_LIMIT:
        raise Undecodable(f"has a block of its own among more than {RECORD_CHARACTERS_LIMIT} characters")
    try:
        text = json.dumps(blocks, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise Undecodable(
            "has a block of its own that cannot be kept: nested too deeply, or a number too large"
        ) from error
    if len(text) > CHARACTERS_LIMIT:
        raise Undecodable(f"has a block of its own with more than {CHARACTERS_LIMIT} characters")
    problem = unstorable(text)
    if problem:
        raise Undecodable(f"has {problem} in a block of its own")
    _check(blocks)
    return text


def _check(blocks: dict[str, Any]) -> None:
    """Refuse depths and numbers that JSON readers differ on; level by level, so that depth costs no stack."""
    level: list[Any] = [blocks]
    for _ in range(DEPTH_LIMIT + 1):
        if any(isinstance(each, int) and not -(2**63) <= each < 2**64 for each in level):
            raise Undecodable("has a number of more than 64 bits in a block of its own")
        level = [
            child
            for each in level
            if isinstance(each, dict | list)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise Undecodable(f"has a block of its own nested more than {DEPTH_LIMIT} deep")
