"""Types that many bodies share: how a time and a label are written."""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field, PlainSerializer, WithJsonSchema

NAME_LIMIT: Final = 200


def time_text(moment: datetime) -> str:
    """Write a time as people and programs get it: UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


UtcTime = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-11-24T10:00:00.000Z"]}),
]

Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT, description="A label; not unique.")]
