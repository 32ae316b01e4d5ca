"""What a caller may say of the quarantine: which things are meant, and how a run through them goes on."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from app.api.errors import bad_cursor
from app.api.filters import InstantParameter, SourceIdParameter, TextParameter
from app.api.paging import PageQuery, read_cursor, write_cursor
from app.store.clearing import Extent
from app.store.quarantine import QuarantineFilter

# Reasons of our own are shorter; SQLite's patterns end at 50,000 bytes.
LONGEST_REASON: Final = 200
_NOTHING_YET: Final = "-"


class QuarantineFilterFields(BaseModel):
    """Which things are meant; an absent member takes all."""

    model_config = ConfigDict(extra="forbid")

    source_id: SourceIdParameter | None = Field(default=None, description="Where they came from.")
    reason: Annotated[TextParameter, Field(max_length=LONGEST_REASON)] | None = Field(
        default=None, description="A part of the reason, in capitals or not."
    )
    since: InstantParameter | None = Field(default=None, description="The first `first_seen_at` that is meant.")
    until: InstantParameter | None = Field(default=None, description="The first `first_seen_at` that is meant no more.")

    def value(self) -> QuarantineFilter:
        """Give the store's own value."""
        return QuarantineFilter(
            source_id=self.source_id, reason=self.reason or None, since=self.since, until=self.until
        )


class QuarantineQuery(QuarantineFilterFields, PageQuery):
    """Which part of the quarantine is listed."""


class QuarantineBulkFields(BaseModel):
    """Which things of the quarantine are gone through, the oldest first."""

    model_config = ConfigDict(extra="forbid")

    filter: QuarantineFilterFields = Field(description="Must be given; an empty one takes all.")
    dry_run: bool = Field(default=False, description="Only count.")
    cursor: str | None = Field(
        default=None,
        description="Where to go on: the `next_cursor` of the answer before, with the same filter. Without one a run"
        " begins anew, with what was refused before too.",
    )


def read_extent(cursor: str | None) -> Extent | None:
    """Read what write_extent wrote. Raises Problem."""
    if cursor is None:
        return None
    after, _, last = cursor.partition(".")
    end = read_cursor("qrn", last)
    if end is None:
        raise bad_cursor()
    return Extent(after=None if after == _NOTHING_YET else read_cursor("qrn", after), last=end)


def write_extent(extent: Extent | None) -> str | None:
    """Write down where a run goes on; null when it is over."""
    if extent is None:
        return None
    after = _NOTHING_YET if extent.after is None else write_cursor("qrn", extent.after)
    return f"{after}.{write_cursor('qrn', extent.last)}"
