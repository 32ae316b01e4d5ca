"""Lists: pages of rows, newest first, and the cursor that says where the next one begins."""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.errors import bad_cursor
from app.domain.ids import Prefix, parse_id, public_id
from app.store.place import Place

_LONGEST_CURSOR: Final = 200
_SINCE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_PLACE: Final = re.compile(r"(-?[0-9]{1,18})\.([a-z]{2,3}_[a-z2-7]{26})", re.ASCII)

_Body = TypeVar("_Body")
_Row = TypeVar("_Row")


class PageQuery(BaseModel):
    """How a list is asked for; lists that can be narrowed add their own parameters. An unknown one is turned down."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=500, description="How many to give at most.")
    cursor: str | None = Field(default=None, description="Where to go on: the `next_cursor` of the page before.")


PageParameters = Annotated[PageQuery, Query()]


class Page(BaseModel, Generic[_Body]):
    """One page of a list, newest first."""

    data: list[_Body]
    next_cursor: str | None = Field(description="Where the next page begins; null on the last one.")


def read_cursor(prefix: Prefix, cursor: str | None) -> Place | None:
    """Read what write_cursor wrote, for a list of the same noun. Raises Problem."""
    if cursor is None:
        return None
    try:
        if len(cursor) > _LONGEST_CURSOR:
            raise bad_cursor()
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        found = _PLACE.fullmatch(text)
        raw = parse_id(prefix, found[2]) if found else None
        if found is None or raw is None:
            raise bad_cursor()
        return Place(at=_SINCE + int(found[1]) * _MICROSECOND, id=raw)
    except (ValueError, OverflowError):
        raise bad_cursor() from None


def write_cursor(prefix: Prefix, place: Place) -> str:
    """Write a place down for the caller to bring back; opaque, so that what it holds can change."""
    text = f"{(place.at - _SINCE) // _MICROSECOND}.{public_id(prefix, place.id)}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def cut_page(
    prefix: Prefix, rows: Sequence[_Row], limit: int, place_of: Callable[[_Row], Place]
) -> tuple[Sequence[_Row], str | None]:
    """Make a page of rows, of which one more than the limit was asked for: the page, and the cursor to the next."""
    if len(rows) <= limit:
        return rows, None
    page = rows[:limit]
    return page, write_cursor(prefix, place_of(page[-1]))
