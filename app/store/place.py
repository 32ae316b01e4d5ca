"""A place in a list that is read newest first: everything after it is older, whatever comes in meanwhile."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Select, literal, tuple_

from app.store.columns import Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The time and the id of the last row of a page; the id decides where times are equal."""

    at: datetime
    id: bytes


def page_after(
    statement: Select[Any], place: Place | None, *, at: ColumnElement[datetime], id_: ColumnElement[bytes], limit: int
) -> Select[Any]:
    """Put a statement in the order of lists, newest first, and let it begin after a place."""
    if place is not None:
        statement = statement.where(
            tuple_(at, id_) < tuple_(literal(place.at, Instant()), literal(place.id, LargeBinary()))
        )
    return statement.order_by(at.desc(), id_.desc()).limit(limit)
