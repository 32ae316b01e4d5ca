"""What a caller may say of a subscription: which events, to which endpoint, in which format."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from app.api.fields import Name
from app.domain.configuration import JSON, Filter, Format, Subscription
from app.domain.ids import public_id

# S3's own limits: a key has at most 1,024 bytes, a bucket's name 63 (255 in some stores).
LONGEST_KEY_PART: Final = 1024
LONGEST_NAME: Final = 255
MOST_NAMES: Final = 1000

_Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]], Field(max_length=MOST_NAMES)]
_KeyPart = Annotated[str, Field(max_length=LONGEST_KEY_PART)]


class FilterFields(BaseModel):
    """Which events are taken; an absent or empty member takes all."""

    model_config = ConfigDict(extra="forbid")

    buckets: _Names = Field(default=[], description="Globs with `*` and `?`.")
    events: _Names = Field(
        default=[],
        description="S3's names, with or without `s3:`, with S3's wildcards; operator events by name or `gateway.*`: "
        "they are taken only so, and whatever the other members say.",
    )
    key_prefix: _KeyPart = Field(default="", description="What the decoded key begins with.")
    key_suffix: _KeyPart = Field(default="", description="What the decoded key ends with.")

    def value(self) -> Filter:
        """Give the domain's own value."""
        return Filter(
            buckets=tuple(self.buckets),
            events=tuple(self.events),
            key_prefix=self.key_prefix,
            key_suffix=self.key_suffix,
        )


class SubscriptionFields(BaseModel):
    """What a caller says of a subscription."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    endpoint_id: str = Field(description="Where the events go.")
    filter: FilterFields = FilterFields()
    format: Format | None = Field(
        default=None, description="`standard` for webhooks and `cloudevents-binary` for Kafka, unless given."
    )


def as_fields(subscription: Subscription) -> JSON:
    """Give what may be patched, as it stands."""
    return {
        "name": subscription.name,
        "endpoint_id": public_id("ep", subscription.endpoint_id),
        "filter": read_filter(subscription).model_dump(),
        "format": subscription.format,
    }


def read_filter(subscription: Subscription) -> FilterFields:
    """Give the filter as it reads back."""
    wanted = subscription.filter
    return FilterFields(
        buckets=list(wanted.buckets),
        events=list(wanted.events),
        key_prefix=wanted.key_prefix,
        key_suffix=wanted.key_suffix,
    )
