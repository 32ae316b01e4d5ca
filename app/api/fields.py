"""What many routes share: how a time and a label are written, and how an id is read out of a path."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, PlainSerializer, WithJsonSchema

from app.api.errors import not_found
from app.domain.ids import Prefix, parse_id
from app.domain.rendering import instant_text

NAME_LIMIT: Final = 200


UtcTime = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T10:00:00.000Z"]}),
]

Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, description="A label; not unique.")]


def id_in(prefix: Prefix, text: str, noun: str) -> bytes:
    """Read an id; what is none names nothing. Raises Problem: there is no such noun."""
    raw = parse_id(prefix, text)
    if raw is None:
        raise not_found(noun)
    return raw
