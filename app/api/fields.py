"""Types that many bodies share: how a time and a label are written."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field, PlainSerializer, WithJsonSchema

from app.domain.rendering import instant_text

NAME_LIMIT: Final = 200


UtcTime = Annotated[
    datetime,
    PlainSerializer(instant_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T10:00:00.000Z"]}),
]

Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, description="A label; not unique.")]
