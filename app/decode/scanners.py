"""The C scanner of the standard library, made strict, and a lenient one beside it. They read one JSON value each."""

import json
from typing import Any, Final

from app.decode.budget import OBJECT_MEMBERS_LIMIT
from app.decode.undecodable import Excessive, Undecodable, shown


def _take_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > OBJECT_MEMBERS_LIMIT:
        raise Excessive(f"has an object with more than {OBJECT_MEMBERS_LIMIT} members, so it is no S3 message")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Undecodable(f"names the member {shown(_first_repeated(pairs))} twice")
    return members


def _take_constant(name: str) -> None:
    raise Undecodable(f"holds {name}, which is not JSON")


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


# Refuses what the standard library lets pass: names given twice, and NaN and its kin.
STRICT: Final = json.JSONDecoder(object_pairs_hook=_take_object, parse_constant=_take_constant)
# Finds the end of a value that has such a fault, or numbers too long to be read as numbers.
LENIENT: Final = json.JSONDecoder(parse_int=str)
